"""Changes of a pipeline that turn a feature of diffusers on, for any family."""

import inspect
from collections.abc import Callable
from typing import Any

import accelerate
import peft
import torch
from torch import Tensor, nn

from adapter.families import Family, build_controlnet
from llmdiff.base.layers import find_denoiser, find_layers

Prepare = Callable[[Family, Any], Any]
TEXT = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
LORA = ("to_q", "to_k", "to_v", "to_out.0")
EXTRA: dict[str, Callable[[Any], Any]] = {  # what a pipeline has more than the plain one
    "controlnet": build_controlnet,
    "multicontrolnet": lambda pipe: [build_controlnet(pipe), build_controlnet(pipe, seed=6)],
}
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
        extra = {"controlnet": EXTRA[name](pipe)} if name in EXTRA else {}
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
    part = part_of(pipe)
    if hasattr(pipe, "load_lora_weights") and hasattr(denoiser, "load_lora_adapter"):
        pipe.load_lora_weights({f"{part}.{name}": weight for name, weight in weights.items()})
    else:
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=2, target_modules=names), denoiser)
        peft.set_peft_model_state_dict(denoiser, weights)


def add_lora(targets: Any) -> Callable[[Any], None]:
    """A random LoRA that PEFT itself finds the places for."""

    def add(pipe: Any) -> None:
        torch.manual_seed(0)
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
        peft.inject_adapter_in_model(config, find_denoiser(pipe))

    return add


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


class GuidanceInterval:
    """Ends guidance after the first step and begins it again after the third, as a callback."""

    def __init__(self) -> None:
        self.both: dict[str, Any] = {}

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents = tensors.pop("latents")
        if step == 0:
            self.both = {"scale": pipe._guidance_scale, **tensors}
            pipe._guidance_scale = 1.0
            tensors = {name: tensor.chunk(2)[-1] for name, tensor in tensors.items()}
        elif step == 2:
            pipe._guidance_scale = self.both.pop("scale")
            tensors = self.both
        return tensors | {"latents": latents}


def wrap_forwards(pipe: Any) -> None:
    """What speed-up libraries do: functions without a signature in the place of ``forward``, of all that attends."""
    denoiser = find_denoiser(pipe)
    for module in (denoiser, *find_layers(denoiser).values()):
        module.forward = wrapped(module.forward)


def wrapped(own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return own(*args, **kwargs)

    return forward


def cache_features(pipe: Any) -> None:
    """What DeepCache does: every second call of the denoiser takes what the one before made of its inner blocks."""
    denoiser = find_denoiser(pipe)
    names = ("mid_block", "transformer_blocks", "blocks", "down_blocks")
    inner = next(getattr(denoiser, name) for name in names if getattr(denoiser, name, None) is not None)
    inner = inner[-1] if isinstance(inner, nn.ModuleList) else inner
    inner.forward = every_second(inner.forward)


def every_second(own: Callable[..., Any]) -> Callable[..., Any]:
    kept: list[Any] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if kept:
            return kept.pop()
        kept.append(own(*args, **kwargs))
        return kept[0]

    return forward


class Wrapper(nn.Module):
    """A module around a denoiser, as data parallelism and users have it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def wrap_denoiser(pipe: Any) -> None:
    setattr(pipe, part_of(pipe), Wrapper(find_denoiser(pipe)))


def part_of(pipe: Any) -> str:
    """The name by which a pipeline holds its denoiser."""
    return "unet" if hasattr(pipe, "unet") else "transformer"


def fuse_projections(pipe: Any) -> None:
    find_denoiser(pipe).fuse_qkv_projections()


def fuse_and_undo(pipe: Any) -> None:
    denoiser = find_denoiser(pipe)
    denoiser.fuse_qkv_projections()
    denoiser.unfuse_qkv_projections()
