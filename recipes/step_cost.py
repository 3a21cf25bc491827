"""The cost of an adapter in a denoising step beside IP-Adapter's: `python recipes/step_cost.py --help`.

All variants are of one U-Net of random weights and take turns, step by step, so that they meet the same machine; the
figures are medians, as ratios to the base model's in the same rounds. A launch is an operator that computes: views and
allocations are none. IP-Adapter gets as many image tokens as the LLM's encoding has.

Letters in shapes: R rows of a call (two, as under guidance), S tokens of the encoding, D LLM width.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from platform import processor
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from llmdiff.adapter import AdapterConfig, LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.language import Encoding

ROWS = 2
_IMAGE_WIDTH = 1024  # of the image features that IP-Adapter projects
_NO_LAUNCH = ("aten.empty", "aten.detach", "aten.lift_fresh", "aten.alias")
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
class Figures:
    """The figures of one variant.

    Attributes:
        variant: what runs beside the base model.
        milliseconds: of a step, the median.
        ratio: of that to the base model's.
        low: the least ratio of a round.
        high: the greatest.
        launches: of a step.
        launches_per_layer: more than the base model's, for each cross-attention layer.
    """

    variant: str
    milliseconds: float
    ratio: float
    low: float
    high: float
    launches: int
    launches_per_layer: float


class LaunchCount(TorchDispatchMode):
    """Counts the operators that compute: of a step, what a GPU would have to launch.

    Attributes:
        launches: how many so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and not str(func).startswith(_NO_LAUNCH):
            self.launches += 1
        return func(*args, **(kwargs or {}))


def count_launches(step: Callable[[], object]) -> int:
    """The launches of a step, after one that warms it up."""
    step()
    with LaunchCount() as count:
        step()
    return count.launches


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


class Bench:
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
        self.steps = {"base": self._stock({}), **{f"ours, {mode}": self._ours(mode) for mode in ("augment", "replace")}}
        self.steps[f"IP-Adapter, {tokens} tokens"] = self._ip_adapter()

    @torch.no_grad()
    def measure(self, rounds: int) -> list[Figures]:
        """The figures of every variant."""
        launches = {name: count_launches(step) for name, step in self.steps.items()} if not self.compiled else {}
        times: dict[str, list[float]] = {name: [] for name in self.steps}
        for step in self.steps.values():
            step()
            step()
        for _ in range(rounds):
            for name, step in self.steps.items():
                times[name].append(self._seconds(step))
        layers = len(self.model.layers)
        return [self._figures(name, times, launches, layers) for name in self.steps]

    def _figures(self, name: str, times: dict[str, list[float]], launches: dict[str, int], layers: int) -> Figures:
        ratios = [mine / base for mine, base in zip(times[name], times["base"], strict=True)]
        count = launches.get(name, 0)
        return Figures(
            variant=name,
            milliseconds=round(1000 * statistics.median(times[name]), 2),
            ratio=round(statistics.median(ratios), 3),
            low=round(min(ratios), 3),
            high=round(max(ratios), 3),
            launches=count,
            launches_per_layer=round((count - launches.get("base", 0)) / layers, 2),
        )

    def _seconds(self, step: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.unet.device.type == "cuda":
            torch.cuda.synchronize()

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


def print_table(title: str, figures: list[Figures]) -> None:
    """A table on the terminal."""
    table = Table(title=title)
    for column in ("variant", "ms", "ratio to base", "range", "launches", "more per layer"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in figures:
        spread = f"{row.low} … {row.high}"
        cells = (
            row.milliseconds,
            row.ratio,
            spread,
            row.launches or "",
            row.launches_per_layer if row.launches else "",
        )
        table.add_row(row.variant, *map(str, cells))
    Console().print(table)


def machine(device: torch.device) -> str:
    """The name of what it runs on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {processor() or 'unknown'}"


def main(
    shape: Annotated[list[str], typer.Option(help="sd15, sdxl; may be repeated")] = ["sd15", "sdxl"],  # noqa: B006
    side: Annotated[int | None, typer.Option(help="of the latents; that of the shape if left out")] = None,
    tokens: Annotated[int, typer.Option(help="of the encoding, and of IP-Adapter")] = 77,
    width: Annotated[int, typer.Option(help="of the LLM")] = 2048,
    rounds: Annotated[int, typer.Option(help="in which every variant runs once")] = 12,
    compiled: Annotated[bool, typer.Option("--compiled", help="compile the U-Net")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measures steps of random U-Nets: float16 on CUDA where there is a GPU, float32 on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    results = {}
    for name in shape:
        torch.manual_seed(0)
        latents = side or SHAPES[name]["sample_size"]
        figures = Bench(SHAPES[name], latents, tokens, width, device, dtype, compiled).measure(rounds)
        results[name] = [asdict(row) for row in figures]
        if not as_json:
            print_table(f"{name}, {8 * latents} px, {machine(device)}, {dtype}", figures)
    if as_json:
        print(json.dumps({"machine": machine(device), "dtype": str(dtype), "compiled": compiled} | results, indent=1))


if __name__ == "__main__":
    typer.run(main)
