"""Changes of a pipeline that turn a feature of diffusers on, for any family."""

import inspect
from collections.abc import Callable
from typing import Any

import accelerate
import peft
import torch
from torch import Tensor, nn

from adapter.families import Family, build_controlnet
from llmdiff.base.layers import find_denoiser

Prepare = Callable[[Family, Any], Any]
TEXT = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
LORA = ("to_q", "to_k", "to_v", "to_out.0")
IMAGE = {"ip_adapter_image_embeds": [torch.ones(2, 1, 6)]}


def unchanged(family: Family, pipe: Any) -> Any:
    return pipe


def drop_text_encoders(pipe: Any) -> None:
    for name in TEXT:
        if hasattr(pipe, name):
            setattr(pipe, name, None)


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def sibling(name: str) -> Prepare:
    """Another pipeline of the family, of the same parts."""

    def prepare(family: Family, pipe: Any) -> Any:
        extra = {"controlnet": build_controlnet(pipe)} if name == "controlnet" else {}
        other = family.pipelines[name](**pipe.components, **extra, **family.settings)
        other.set_progress_bar_config(disable=True)
        return other

    return prepare


def scheduler(name: str) -> Prepare:
    def prepare(family: Family, pipe: Any) -> Any:
        kind, settings = family.schedulers[name]
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **settings)
        return pipe

    return prepare


def do(action: Callable[[Any], Any]) -> Prepare:
    def prepare(family: Family, pipe: Any) -> Any:
        action(pipe)
        return pipe

    return prepare


def load_lora(pipe: Any) -> None:
    """A LoRA on every attention projection, through the family's loader or, where it has none, PEFT itself."""
    denoiser = find_denoiser(pipe)
    names = [n for n, m in denoiser.named_modules() if n.endswith(LORA) and isinstance(m, nn.Linear)]
    weights = {}
    for i, name in enumerate(names):
        generator, linear = torch.Generator().manual_seed(i), denoiser.get_submodule(name)
        weights[f"{name}.lora_A.weight"] = torch.randn(2, linear.in_features, generator=generator)
        weights[f"{name}.lora_B.weight"] = 0.3 * torch.randn(linear.out_features, 2, generator=generator)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    if hasattr(pipe, "load_lora_weights") and hasattr(denoiser, "load_lora_adapter"):
        pipe.load_lora_weights({f"{part}.{name}": weight for name, weight in weights.items()})
    else:
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=2, target_modules=names), denoiser)
        peft.set_peft_model_state_dict(denoiser, weights)


def load_ip_adapter(pipe: Any) -> None:
    """An IP-Adapter of four image tokens for every cross-attention layer."""
    generator = torch.Generator().manual_seed(3)
    width = pipe.unet.config.cross_attention_dim
    layers = [pipe.unet.get_submodule(n.rpartition(".")[0]) for n in pipe.unet.attn_processors if ".attn2." in n]
    projections = {
        f"{2 * i + 1}.{name}.weight": torch.randn(layer.inner_dim, width, generator=generator)
        for i, layer in enumerate(layers)
        for name in ("to_k_ip", "to_v_ip")
    }
    image = {
        "proj.weight": torch.randn(4 * width, 6, generator=generator),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    pipe.unet._load_ip_adapter_weights([{"image_proj": image, "ip_adapter": projections}])
    pipe.set_ip_adapter_scale(1.0)


def tile(pipe: Any) -> None:
    """Tiles smaller than the picture; AutoencoderDC is told of them when tiling begins."""
    small = {f"tile_sample_{kind}_{side}": 16 for kind in ("min", "stride") for side in ("height", "width")}
    if "tile_sample_min_height" in inspect.signature(pipe.vae.enable_tiling).parameters:
        pipe.vae.enable_tiling(**small)
    else:
        pipe.vae.enable_tiling()
    decoded = pipe.vae.decode(torch.ones(1, 4, 16, 16), return_dict=False)[0]
    pipe.vae.use_tiling = False
    assert distance(pipe.vae.decode(torch.ones(1, 4, 16, 16), return_dict=False)[0], decoded) > 1e-3
    pipe.vae.use_tiling = True


def offload_sequentially(pipe: Any) -> None:
    """What ``enable_sequential_cpu_offload`` does to every part; it names the device "cpu:0", with which torch's
    parameters come back as plain tensors that accelerate cannot handle."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            accelerate.cpu_offload(part, "cpu", offload_buffers=len(part._parameters) > 0)


def end_guidance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    if step == 0:
        pipe._guidance_scale = 1.0
        halves = {name: tensors[name].chunk(2)[-1] for name in tensors if name != "latents"}
        tensors.update(halves)
    return tensors


def lower_guidance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    pipe._guidance_scale = 2.0
    return tensors
