"""A ComfyUI model with an adapter: patches of a clone, as ComfyUI's own nodes make them; the weights are shared."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from llmdiff.adapter.config import AdapterConfig
from llmdiff.adapter.lora import LoRA
from llmdiff.base.weight_samples import are_other_weights, weight_samples
from llmdiff.comfyui.layers import block_of, find_layers, original_path
from llmdiff.comfyui.patches import ATTENTION_REPLACED, Joined, add_branch, attend_branch, attend_text
from llmdiff.comfyui.wrappers import Conditioned, Joint
from llmdiff.errors import LLMDiffError

KEY = "llmdiff"
APPLY_MODEL, CALC_COND_BATCH, ON_CLEANUP = "apply_model", "calc_cond_batch", "on_cleanup"
"""What ComfyUI calls the places that wrappers and callbacks of a model go to."""
TIME_IDS = 6 * 256
"""The width of what SDXL takes beside the pooled vector: six numbers, the sizes, as sines and cosines."""
LoRAPatch = Callable[[Tensor, Tensor], Any]
"""Makes a patch of ComfyUI's of ``up`` (O, r) and ``down`` (r, I), of a projection of width I to O."""


def join_model(model: Any, joint: Joint, scale: float = 1.0, lora_patch: LoRAPatch | None = None) -> Any:
    """A clone of a ComfyUI model with an adapter.

    Args:
        model: a ``ModelPatcher``.
        joint: of the adapter.
        scale: the dial on the branches and the LoRA.
        lora_patch: makes a patch of ComfyUI's of what a LoRA has; needed if the adapter has one.

    Raises:
        LLMDiffError: if the model is of another shape than the adapter's, takes another pooled vector than its replace
            mode makes, or has an adapter.

    Example:
        >>> joint = Joint(adapter.config, adapter.width, adapter.named_branches())
        >>> joined = set_scale(join_model(model, joint), 0.5)
    """
    if model.get_wrappers(APPLY_MODEL, KEY):
        raise LLMDiffError("The model has an adapter already: apply this one to the model that comes before it.")
    unet, config = model.model.diffusion_model, joint.config
    found = find_layers(unet, config.base)
    if are_other_weights(config.base.weights, weight_samples(found.values())):
        warnings.warn(config.base.on_other_weights(), stacklevel=2)
    if config.mode == "replace":
        _check_pooled(model.model, config)
        _check_attention(model)
    paths = {path: original_path(path, unet.num_res_blocks) for path in found}
    layers = {block_of(paths[path]): Joined(layer, joint.branches[path]) for path, layer in found.items()}
    loras = _lora_patches(unet, joint.loras, lora_patch)
    model = model.clone()
    model.set_model_attn2_patch(attend_branch)
    model.set_model_attn2_output_patch(add_branch)
    if config.mode == "replace":
        for side, number, index in layers:
            model.set_model_attn2_replace(attend_text, side, number, index)
    if loras:
        model.add_patches(loras, scale)
    return _wrap(model, Conditioned(joint, layers, scale, loras))


def set_scale(model: Any, scale: float) -> Any:
    """A clone of a ComfyUI model that has an adapter, with another dial.

    Raises:
        LLMDiffError: if the model has no adapter.
    """
    before = conditioned(model)
    after = before.scaled(scale)
    model = model.clone()
    for key, ours in before.loras.items():
        model.patches[key] = [other for other in model.patches[key] if other[1] is not ours]
    if before.loras:
        model.add_patches(before.loras, scale)
    return _wrap(model, after)


def conditioned(model: Any) -> Conditioned:
    """The wrappers of a ComfyUI model that has an adapter.

    Raises:
        LLMDiffError: if it has none.
    """
    wrappers = model.get_wrappers(APPLY_MODEL, KEY)
    if not wrappers:
        raise LLMDiffError("The model has no adapter: put LLMDiff Apply before this node.")
    found: Conditioned = wrappers[0].__self__
    return found


def _wrap(model: Any, wrappers: Conditioned) -> Any:
    for place, wrapper in ((APPLY_MODEL, wrappers.apply_model), (CALC_COND_BATCH, wrappers.calc_cond_batch)):
        model.remove_wrappers_with_key(place, KEY)
        model.add_wrapper_with_key(place, KEY, wrapper)
    model.remove_callbacks_with_key(ON_CLEANUP, KEY)
    model.add_callback_with_key(ON_CLEANUP, KEY, wrappers.forget)
    return model


def _lora_patches(unet: Any, loras: Mapping[str, LoRA], lora_patch: LoRAPatch | None) -> dict[str, Any]:
    """Patches of weights by their names in a ComfyUI model."""
    if loras and lora_patch is None:
        raise LLMDiffError("The adapter has a LoRA: say by lora_patch how ComfyUI is to have it.")
    patches = {}
    for path, lora in loras.items():
        name = f"{original_path(path, unet.num_res_blocks)}.weight"
        weight = unet.get_parameter(name)
        if weight.shape != (len(lora.up), lora.down.shape[1]):
            raise LLMDiffError(
                f"The adapter's LoRA does not fit the model's {name}: apply it to a model of the family that it was "
                "made for."
            )
        assert lora_patch is not None
        patches[f"diffusion_model.{name}"] = lora_patch(lora.up.data, lora.down.data)
    return patches


def _check_attention(model: Any) -> None:
    """Raises LLMDiffError if another node has replaced the cross-attention of a model."""
    if model.model_options["transformer_options"].get("patches_replace", {}).get("attn2"):
        raise LLMDiffError(ATTENTION_REPLACED)


def _check_pooled(model: Any, config: AdapterConfig) -> None:
    """Raises LLMDiffError unless a model takes a pooled vector of the width that an adapter in replace mode makes."""
    takes = max(0, model.adm_channels - TIME_IDS)
    if takes != (config.pooled_width or 0):
        raise LLMDiffError(
            f"The model takes a pooled text vector of width {takes}, and the adapter makes {config.pooled_width or 0}: "
            "apply it to a model of the family that it was made for."
        )
