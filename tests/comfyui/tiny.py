"""One tiny Stable Diffusion in both forms: as a pipeline of diffusers, and as a model of ComfyUI."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapter.tiny import build_sd, build_sdxl
from base.original_layout import original_unet
from comfyui import installation
from llmdiff.adapter import LLMDiffAdapter, LoRAConfig, RefinerConfig
from llmdiff.adapter.config import Mode
from llmdiff.comfyui import Joint
from llmdiff.language import LanguageModel

HEADS = 2
SHAPE = {  # ComfyUI's U-Nets have 32 groups in each norm, and so no fewer channels
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": HEADS,
}
LARGE = {**SHAPE, "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 12 + 6 * 256}


@dataclass(frozen=True)
class Forms:
    """A model in both forms.

    Attributes:
        pipe: of diffusers.
        model: a ``ModelPatcher`` of ComfyUI with the same weights.
    """

    pipe: Any
    model: Any


def build_pipe(kind: str) -> Any:
    """A random Stable Diffusion of three levels, two of which attend to text; kind is sd or sdxl."""
    return build_sd(**SHAPE) if kind == "sd" else build_sdxl(**LARGE)


def build_model(pipe: Any, dtype: torch.dtype = torch.float32, computes: torch.dtype | None = None) -> Any:
    """The U-Net of a pipeline as ComfyUI's, with weights of a dtype that computes in another, if any."""
    installation.start()
    from comfy import supported_models
    from comfy.model_detection import detect_unet_config
    from comfy.model_patcher import ModelPatcher

    prefix = "model.diffusion_model."
    weights = {name: weight.clone() for name, weight in original_unet(pipe.unet).items()}
    kind = supported_models.SDXL if pipe.unet.config.addition_embed_type else supported_models.SD15
    tiny = type("Tiny", (kind,), {"unet_extra_config": {"num_heads": HEADS, "num_head_channels": -1}})
    config = tiny(detect_unet_config(weights, prefix) | {"dtype": dtype})
    config.manual_cast_dtype = computes
    model = config.get_model(weights, prefix)
    unexpected = model.diffusion_model.load_state_dict({name.removeprefix(prefix): w for name, w in weights.items()})
    assert not unexpected.missing_keys
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def build_forms(kind: str) -> Forms:
    pipe = build_pipe(kind)
    return Forms(pipe, build_model(pipe))


def build_adapter(pipe: Any, llm: LanguageModel, mode: Mode, seed: int = 1, **changes: Any) -> LLMDiffAdapter:
    """An adapter that visibly changes what is drawn, in all of its weights."""
    adapter = LLMDiffAdapter.create(pipe, llm, mode=mode, **changes)
    generator = torch.Generator().manual_seed(seed)
    for weight in adapter.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data += noise * (0.3 if weight.dim() < 2 else 0.1)
    for branch in adapter.named_branches().values():
        branch.gate.a2.data.fill_(0.8)
    return adapter


def full(pipe: Any, llm: LanguageModel, mode: Mode) -> LLMDiffAdapter:
    """An adapter with all that one may have."""
    return build_adapter(pipe, llm, mode, refiner=RefinerConfig(blocks=1, width=8), lora=LoRAConfig(rank=2))


def joint_of(adapter: LLMDiffAdapter, made_by: str = "") -> Joint:
    return Joint(adapter.config, adapter.width, adapter.named_branches(), adapter.named_loras(), made_by)


def lora_patch(up: Tensor, down: Tensor) -> Any:
    from comfy.weight_adapter import LoRAAdapter

    return LoRAAdapter(set(), (up, down, None, None, None, None))


def features_of(pipe: Any, text: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The text features (1, T, W) of a pipeline's own text encoders, and the settings beside them."""
    made = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    pooled = {"pooled_output": made[2]} if len(made) > 2 else {}
    return made[0], pooled
