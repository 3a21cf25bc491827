"""Finds the cross-attention layers of a denoiser and reads their shapes; nothing here names a base model."""

import inspect
from typing import Any, cast

from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from llmdiff.adapter.card import public_name
from llmdiff.adapter.config import AdapterConfig, BaseDescription, LayerShape
from llmdiff.errors import LLMDiffError

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")
OTHER_FEATURES = "encoder_hidden_states_"  # how denoisers name what they take of a second encoder


def find_denoiser(pipe: Any) -> nn.Module:
    """The U-Net or transformer of a pipeline, without the wrapper of ``torch.compile``.

    Raises:
        LLMDiffError: if the pipeline has neither.
    """
    for name in ("unet", "transformer"):
        denoiser = getattr(pipe, name, None)
        if isinstance(denoiser, nn.Module):
            return cast(nn.Module, getattr(denoiser, "_orig_mod", denoiser))
    kind = type(pipe).__name__
    raise LLMDiffError(f"{kind} has no unet or transformer: give a diffusers text-to-image pipeline.")


def find_controlnets(pipe: Any) -> list[nn.Module]:
    """The ControlNets of a pipeline that attend to text."""
    nets = getattr(pipe, "controlnet", None)
    nets = list(getattr(nets, "nets", [nets]))
    return [net for net in nets if isinstance(net, nn.Module) and any(map(_is_cross_attention, net.modules()))]


def find_layers(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Every cross-attention layer of a denoiser, by module path.

    Raises:
        LLMDiffError: if there is none, or one whose output is more than its output projection's.
    """
    layers = {path: module for path, module in denoiser.named_modules() if _is_cross_attention(module)}
    layers = {path: layer for path, layer in layers.items() if _attends_text(denoiser, layer)}
    if not layers:
        raise LLMDiffError(
            f"{type(denoiser).__name__} has no cross-attention layer that an adapter can join: use a base model with "
            "separate cross-attention, such as Stable Diffusion 1.x and 2.x, SDXL, PixArt or Sana "
            "(in SD3, Flux and Kandinsky 2.2 text and image are attended together)."
        )
    for path, layer in layers.items():
        _refuse_wrapped_output(path, layer)
    return layers


def describe_layers(denoiser: nn.Module) -> dict[str, LayerShape]:
    """The shapes of all cross-attention layers of a denoiser, by module path."""
    return {path: _shape(denoiser, path, layer) for path, layer in find_layers(denoiser).items()}


def describe_base(pipe: Any) -> BaseDescription:
    """What an adapter records of the pipeline that it is made for."""
    denoiser = find_denoiser(pipe)
    name = public_name(getattr(pipe, "name_or_path", None) or None)
    layers = describe_layers(denoiser)
    return BaseDescription(
        denoiser=type(denoiser).__name__, name=name, layers=layers, text_width=_projected_width(denoiser)
    )


def check_fits(recorded: BaseDescription, denoiser: nn.Module) -> None:
    """Raises LLMDiffError, naming the first difference, if a denoiser is not of the shape that was recorded."""
    found = describe_layers(denoiser)
    advice = f"this adapter was made for {recorded.name or recorded.denoiser}; attach it to a model of that family"
    for path, shape in recorded.layers.items():
        if path not in found:
            raise LLMDiffError(f"{type(denoiser).__name__} has no cross-attention layer {path}: {advice}.")
        for field, expected in shape.model_dump().items():
            if (actual := getattr(found[path], field)) != expected:
                raise LLMDiffError(f"Layer {path} has {field} {actual}, not {expected}: {advice}.")
    if extra := [path for path in found if path not in recorded.layers]:
        raise LLMDiffError(f"The adapter has no branch for the cross-attention layer {extra[0]}: {advice}.")


def check_replaceable(pipe: Any) -> None:
    """Raises LLMDiffError unless all that a denoiser takes of the text is what replace mode makes."""
    denoiser = find_denoiser(pipe)
    widths = {shape.context for shape in describe_layers(denoiser).values()}
    if len(widths) > 1 or not takes_plain_text(pipe):
        raise LLMDiffError(
            f"This {type(denoiser).__name__} does more with its text than attend to features of one width and take a "
            'pooled vector, which replace mode does not serve: use mode="augment".'
        )


def takes_plain_text(pipe: Any) -> bool:
    """Whether a denoiser takes nothing of the text but features for its cross-attention, their mask and a pooled
    vector, and the pipeline hands them on in one of the usual ways."""
    denoiser: Any = find_denoiser(pipe)
    config = denoiser.config
    encode = getattr(pipe, "encode_prompt", None)
    given = set(inspect.signature(encode).parameters) if encode else set()
    return (
        config.get("addition_embed_type") in (None, "text", "text_time")
        and config.get("encoder_hid_dim_type") in (None, "text_proj", "ip_image_proj")
        and not any(name.startswith(OTHER_FEATURES) for name in inspect.signature(denoiser.forward).parameters)
        and "attention_mask" not in given  # Kandinsky 3, which also averages over what is padding
    )


def pooled_width(pipe: Any) -> int | None:
    """P, the width of the pooled text vector that the denoiser of a pipeline takes beside its time ids; None if none.

    The time ids are original size, crop and target size or, where an aesthetics score is asked for, that score in the
    place of the last.
    """
    denoiser: Any = find_denoiser(pipe)
    config = denoiser.config
    if config.get("addition_embed_type") != "text_time":
        return None
    ids = 5 if getattr(pipe, "config", {}).get("requires_aesthetics_score") else 6
    return int(config["projection_class_embeddings_input_dim"] - ids * config["addition_time_embed_dim"])


def check_text(recorded: AdapterConfig, pipe: Any) -> None:
    """Raises LLMDiffError unless a denoiser takes text of the widths that an adapter in replace mode makes."""
    takes = describe_base(pipe).context_width, pooled_width(pipe)
    makes = recorded.base.context_width, recorded.pooled_width
    if takes != makes:
        raise LLMDiffError(
            f"The base model takes text features of width {takes[0]} and a pooled vector of width {takes[1]}, and the "
            f"adapter makes {makes[0]} and {makes[1]}: attach it to a base model of the family that it was made for."
        )


def _projected_width(denoiser: Any) -> int | None:
    """W of a denoiser that projects its text features before its layers get them; None if it does not."""
    config = denoiser.config
    width = config.get("caption_channels") or config.get("encoder_hid_dim")
    return None if width is None else int(width)


def base_layer(linear: Any) -> Any:
    """The layer under the wrapper that PEFT puts around it for a LoRA, or the layer itself."""
    return getattr(linear, "base_layer", linear)


def _is_cross_attention(module: nn.Module) -> bool:
    own = all(isinstance(getattr(module, name, None), nn.Module) for name in PROJECTIONS)
    return own and bool(getattr(module, "is_cross_attention", False)) and not getattr(module, "added_kv_proj_dim", None)


def _attends_text(denoiser: Any, layer: Any) -> bool:
    """Whether a layer attends to features of the width that the denoiser's config tells, if it does tell.

    Kandinsky 3 makes its self-attention of layers that say they are cross-attention: of the pictures' width.
    """
    widths = denoiser.config.get("cross_attention_dim")
    widths = widths if isinstance(widths, list | tuple) else [widths]
    return None in widths or base_layer(layer.to_k).in_features in widths


def _refuse_wrapped_output(path: str, layer: nn.Module) -> None:
    """A branch adds to the output projection; what diffusers does to the sum afterwards must be nothing."""
    plain = (
        not getattr(layer, "residual_connection", False)
        and getattr(layer, "rescale_output_factor", 1.0) == 1.0
        and getattr(layer, "group_norm", None) is None
        and getattr(layer, "spatial_norm", None) is None
    )
    if not plain:
        raise LLMDiffError(
            f"Cross-attention layer {path} has a residual, a rescaling or a norm inside, which is not supported: "
            "use a base model with plain cross-attention."
        )


def _shape(denoiser: nn.Module, path: str, layer: Any) -> LayerShape:
    to_q, to_k = base_layer(layer.to_q), base_layer(layer.to_k)
    return LayerShape(
        query=to_q.in_features,
        inner=to_q.out_features,
        heads=layer.heads,
        context=to_k.in_features,
        bias=to_q.bias is not None,
        normalise_query=not _normalises(denoiser.get_submodule(path.rpartition(".")[0])),
    )


def _normalises(block: nn.Module) -> bool:
    """Whether a block normalises the image features before it hands them to its cross-attention.

    diffusers' common block does, save with PixArt's ``ada_norm_single``; Sana's own block does not. Any other block is
    taken not to: a second LayerNorm costs little, and queries of unbounded size cost the training.
    """
    return isinstance(block, BasicTransformerBlock) and block.norm_type != "ada_norm_single"
