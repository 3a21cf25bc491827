"""The cost of an adapter in a denoising step beside IP-Adapter's.

All variants are of one U-Net of random weights. IP-Adapter gets as many image tokens as the LLM's encoding has.

Letters in shapes: R rows of a call (two, as under guidance), S tokens of the encoding, D LLM width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn

from llmdiff.adapter import AdapterConfig, LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.bench.measure import Figures, count_launches, default_device, interleaved
from llmdiff.language import Encoding

ROWS = 2
BASE = "base"
_IMAGE_WIDTH = 1024  # of the image features that IP-Adapter projects
_SD = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
_SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SHAPES: dict[str, dict[str, Any]] = {"sd15": _SD, "sdxl": _SDXL}


@dataclass(frozen=True)
class StepFigures:
    """The figures of one variant.

    Attributes:
        shape: of the U-Net.
        pixels: height and width of a picture.
        time: see `Figures`; the reference is the base model.
        launches: of a step; 0 where that is compiled.
        launches_per_layer: more than the base model's, for each cross-attention layer.
    """

    shape: str
    pixels: int
    time: Figures
    launches: int
    launches_per_layer: float


def bench_step(
    shape: str, *, side: int | None, tokens: int, width: int, rounds: int, compiled: bool
) -> list[StepFigures]:
    """Measures steps of random U-Nets: float16 on CUDA where there is a GPU, float32 on the CPU.

    Args:
        shape: "sd15" or "sdxl".
        side: of the latents; None takes that of the shape.
        tokens: S.
        width: D.
        rounds: see `interleaved`.
        compiled: whether to compile the U-Net under each variant.
    """
    device = default_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    side = side or int(SHAPES[shape]["sample_size"])
    steps = Steps(SHAPES[shape], side, tokens, width, device, dtype, compiled)
    return [StepFigures(shape, 8 * side, *figures) for figures in steps.measure(rounds)]


def random_unet(shape: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A U-Net of random weights, made where it is to run."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**shape)
    unet.to_empty(device=device)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(0.5)
    return unet.to(dtype).eval().requires_grad_(False)


def image_model(unet: Any) -> ImageModel:
    """The image model of a pipeline of which there is nothing but the U-Net."""
    pipe = SimpleNamespace(unet=unet, components={"unet": unet}, vae_scale_factor=8, scheduler=DDIMScheduler())
    return ImageModel(pipe)


def random_adapter(model: ImageModel, mode: Any, width: int) -> LLMDiffAdapter:
    """An adapter whose gates are open, for an LLM of a width."""
    config = AdapterConfig(
        mode=mode, llm={}, base=model.describe(), pooled_width=model.pooled_width if mode == "replace" else None
    )
    llm: Any = SimpleNamespace(width=width, block_count=2)
    adapter = LLMDiffAdapter(config, llm).to(model.device)
    for branch in adapter.named_branches().values():
        nn.init.constant_(branch.gate.a2, 0.5)
    return adapter


def load_ip_adapter(unet: Any, tokens: int) -> Tensor:
    """Gives a U-Net a random IP-Adapter; returns the image features that it takes, (R, 1, width)."""
    width = unet.config.cross_attention_dim
    layers = [unet.get_submodule(n.rpartition(".")[0]) for n in unet.attn_processors if ".attn2." in n]
    keys = {
        f"{2 * i + 1}.{name}.weight": 0.02 * torch.randn(layer.inner_dim, width)
        for i, layer in enumerate(layers)
        for name in ("to_k_ip", "to_v_ip")
    }
    image = {
        "proj.weight": 0.02 * torch.randn(4 * width, _IMAGE_WIDTH),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    unet._load_ip_adapter_weights([{"image_proj": image, "ip_adapter": keys}])
    unet.encoder_hid_proj.image_projection_layers[0] = ImageProjection(_IMAGE_WIDTH, width, tokens)  # for its four
    unet.to(unet.device, unet.dtype)
    return torch.randn(ROWS, 1, _IMAGE_WIDTH, device=unet.device, dtype=unet.dtype)


class Steps:
    """Steps of one U-Net with nothing, an IP-Adapter or an adapter of ours.

    Args:
        shape: of the U-Net.
        side: of the latents.
        tokens: S.
        width: D.
        device: where it runs.
        dtype: of everything.
        compiled: True to compile the U-Net under each variant.
    """

    def __init__(
        self,
        shape: dict[str, Any],
        side: int,
        tokens: int,
        width: int,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
    ) -> None:
        self.unet, self.tokens, self.width, self.compiled = random_unet(shape, device, dtype), tokens, width, compiled
        self.model = image_model(self.unet)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.noisy = torch.randn(ROWS, self.unet.config.in_channels, side, side, **like)
        self.text: dict[str, Any] = {"encoder_hidden_states": torch.randn(ROWS, 77, self.model.text_width, **like)}
        if pooled := self.model.pooled_width:
            ids = torch.zeros(ROWS, 6, **like)
            self.text["added_cond_kwargs"] = {"text_embeds": torch.randn(ROWS, pooled, **like), "time_ids": ids}
        self.steps: dict[str, Callable[[], object]] = {}
        self.steps = {BASE: self._stock({}), **{f"ours, {mode}": self._ours(mode) for mode in ("augment", "replace")}}
        self.steps[f"IP-Adapter, {tokens} tokens"] = self._ip_adapter()

    @torch.no_grad()
    def measure(self, rounds: int) -> list[tuple[Figures, int, float]]:
        """Time, launches and launches more per layer of every variant."""
        launches = {} if self.compiled else {name: count_launches(step) for name, step in self.steps.items()}
        layers = len(self.model.layers)
        rows = []
        for figures in interleaved(self.steps, rounds, BASE):
            count = launches.get(figures.variant, 0)
            rows.append((figures, count, round((count - launches.get(BASE, 0)) / layers, 2)))
        return rows

    def _call(self, unet: Any, inputs: dict[str, Any]) -> object:
        return unet(self.noisy, 500, return_dict=False, **inputs)

    def _stock(self, more: dict[str, Any]) -> Callable[[], object]:
        unet = self._twin()
        inputs = self.text | {"added_cond_kwargs": self.text.get("added_cond_kwargs", {}) | more}
        unet = self._compiled(unet)
        return lambda: self._call(unet, inputs)

    def _ip_adapter(self) -> Callable[[], object]:
        unet = self._twin()
        image = load_ip_adapter(unet, self.tokens)
        inputs = self.text | {"added_cond_kwargs": self.text.get("added_cond_kwargs", {}) | {"image_embeds": [image]}}
        unet = self._compiled(unet)
        return lambda: self._call(unet, inputs)

    def _ours(self, mode: str) -> Callable[[], object]:
        unet = self._twin()
        model = image_model(unet)
        adapter = random_adapter(model, mode, self.width).join(model)
        embeds = torch.randn(ROWS, self.tokens, self.width, device=unet.device, dtype=torch.float32)
        encoding = Encoding(embeds, torch.ones(ROWS, self.tokens, dtype=torch.bool, device=unet.device))
        with torch.no_grad():
            text = adapter.denoiser_inputs(encoding, self.text)
        text["encoder_hidden_states"] = text["encoder_hidden_states"].to(unet.dtype)
        if "added_cond_kwargs" in text:
            pooled = text["added_cond_kwargs"]["text_embeds"].to(unet.dtype)
            text["added_cond_kwargs"] = self.text["added_cond_kwargs"] | {"text_embeds": pooled}
        unet = self._compiled(unet)
        return lambda: self._call(unet, text)

    def _twin(self) -> Any:
        """Another U-Net of the very same weights, for hooks and processors of its own."""
        with torch.device("meta"):
            twin: Any = UNet2DConditionModel(**self.unet.config)
        twin.load_state_dict(self.unet.state_dict(), assign=True)
        return twin.eval().requires_grad_(False)

    def _compiled(self, unet: Any) -> Any:
        compile: Any = torch.compile
        return compile(unet) if self.compiled else unet
