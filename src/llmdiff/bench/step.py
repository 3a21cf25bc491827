"""The cost of an adapter in a denoising step beside IP-Adapter's.

All variants are of one denoiser of random weights. IP-Adapter gets as many image tokens as the LLM's encoding has;
diffusers has it for U-Nets alone.

Letters in shapes: R rows of a call (two, as under guidance), S tokens of the encoding, D LLM width.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn

from llmdiff.adapter import AdapterConfig, LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.bench import shapes
from llmdiff.bench.measure import Figures, count_launches, default_device, interleaved
from llmdiff.language import Encoding

ROWS = 2
BASE = "base"
_IMAGE_WIDTH = 1024  # of the image features that IP-Adapter projects


@dataclass(frozen=True)
class StepFigures:
    """The figures of one variant.

    Attributes:
        shape: of the denoiser.
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
    """Measures steps of random denoisers: float16 on CUDA where there is a GPU, float32 on the CPU.

    Args:
        shape: of the denoiser, see `shapes.DENOISERS`.
        side: of the latents; None takes that of the shape.
        tokens: S.
        width: D.
        rounds: see `interleaved`.
        compiled: whether to compile the denoiser under each variant.

    Raises:
        DoesNotFitError: there is no room for its weights.
    """
    device = default_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    side = side or int(shapes.DENOISERS[shape]["sample_size"])
    steps = Steps(shapes.denoiser(shape, device, dtype), side, tokens, width, compiled)
    return [StepFigures(shape, 8 * side, *figures) for figures in steps.measure(rounds)]


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
    """Steps of one denoiser with nothing, an IP-Adapter or an adapter of ours.

    Args:
        denoiser: frozen, where it runs and in its dtype.
        side: of the latents.
        tokens: S.
        width: D.
        compiled: True to compile it under each variant.
    """

    def __init__(self, denoiser: Any, side: int, tokens: int, width: int, compiled: bool = False) -> None:
        self.denoiser, self.tokens, self.width, self.compiled = denoiser, tokens, width, compiled
        self.model = shapes.image_model(denoiser)
        like: dict[str, Any] = {"device": denoiser.device, "dtype": denoiser.dtype}
        self.noisy = torch.randn(ROWS, denoiser.config.in_channels, side, side, **like)
        self.time = torch.full((ROWS,), 500, device=denoiser.device)
        self.text: dict[str, Any] = {"encoder_hidden_states": torch.randn(ROWS, 77, self.model.text_width, **like)}
        if pooled := self.model.pooled_width:
            ids = torch.zeros(ROWS, 6, **like)
            self.text["added_cond_kwargs"] = {"text_embeds": torch.randn(ROWS, pooled, **like), "time_ids": ids}
        self.steps: dict[str, Callable[[], object]] = {BASE: self._stock()}
        self.steps |= {f"ours, {mode}": self._ours(mode) for mode in ("augment", "replace")}
        if isinstance(denoiser, UNet2DConditionModel):
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

    def _call(self, denoiser: Any, inputs: dict[str, Any]) -> Callable[[], object]:
        compile: Any = torch.compile
        run = compile(denoiser) if self.compiled else denoiser
        return lambda: run(self.noisy, timestep=self.time, return_dict=False, **inputs)

    def _stock(self) -> Callable[[], object]:
        return self._call(self._twin(), self.text)

    def _ip_adapter(self) -> Callable[[], object]:
        unet = self._twin()
        image = load_ip_adapter(unet, self.tokens)
        added = self.text.get("added_cond_kwargs", {}) | {"image_embeds": [image]}
        return self._call(unet, self.text | {"added_cond_kwargs": added})

    def _ours(self, mode: str) -> Callable[[], object]:
        denoiser = self._twin()
        model = shapes.image_model(denoiser)
        adapter = random_adapter(model, mode, self.width).join(model)
        embeds = torch.randn(ROWS, self.tokens, self.width, device=denoiser.device, dtype=torch.float32)
        encoding = Encoding(embeds, torch.ones(ROWS, self.tokens, dtype=torch.bool, device=denoiser.device))
        with torch.no_grad():
            text = adapter.denoiser_inputs(encoding, self.text)
        text["encoder_hidden_states"] = text["encoder_hidden_states"].to(denoiser.dtype)
        if "added_cond_kwargs" in text:
            pooled = text["added_cond_kwargs"]["text_embeds"].to(denoiser.dtype)
            text["added_cond_kwargs"] = self.text["added_cond_kwargs"] | {"text_embeds": pooled}
        return self._call(denoiser, text)

    def _twin(self) -> Any:
        """Another denoiser of the very same weights, for hooks and processors of its own."""
        return deepcopy(self.denoiser, {id(weight): weight for weight in self.denoiser.parameters()})
