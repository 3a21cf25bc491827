"""How time and memory grow: reading with prompts, tokens and blocks, drawing with the size, the steps and the pictures.

Letters in shapes: B prompts, S tokens of each, T blocks of the LLM.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from transformers import LlamaConfig

from llmdiff.bench.measure import Figures, call_memory, interleaved
from llmdiff.bench.shapes import random_llm
from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.generation import Models, PictureSettings, Renderer
from llmdiff.language import ExtractionConfig, LanguageModel, Tokens, extract_sum
from llmdiff.plots import new_figure

PROMPTS, TOKENS, BLOCKS = "prompts", "tokens", "blocks"
SIDE, STEPS, PICTURES = "side", "steps", "pictures"
"""What grows when one draws: pixels of a side, steps of the schedule, pictures of a call."""
AXES: dict[str, tuple[int, ...]] = {
    PROMPTS: (1, 2, 4, 8, 16),
    TOKENS: (16, 32, 64, 128, 256),
    BLOCKS: (4, 8, 16, 32),
    SIDE: (32, 64, 128, 256),
    STEPS: (4, 8, 16, 32),
    PICTURES: (1, 2, 4, 8),
}
_PROMPT = "a red ball left of a blue box"
_TOKENS, _STEPS = 32, 4  # where they are not what grows


@dataclass(frozen=True)
class GrowthFigures:
    """The figures of one size.

    Attributes:
        axis: what grows.
        size: how large it is.
        time: see `Figures`; the reference is the smallest size.
        memory: the most that the call has at one time beside the models, in bytes (see `measure.call_memory`).
    """

    axis: str
    size: int
    time: Figures
    memory: int


@dataclass(frozen=True)
class Exponents:
    """How fast an axis grows: cost ~ size ** exponent, by least squares of the logarithms.

    Attributes:
        axis: what grows.
        time: the exponent of the time.
        memory: that of the memory.
    """

    axis: str
    time: float
    memory: float


def bench_growth(axes: Sequence[str], rounds: int, models: Models | None = None) -> list[GrowthFigures]:
    """Measures all sizes of each axis in turn.

    Args:
        axes: of `AXES`.
        rounds: see `interleaved`.
        models: base model, adapter and LLM; the embedded ones if None.

    Raises:
        LLMDiffError: if a model cannot be loaded.
    """
    renderer = Renderer.load(models or Models(base="embedded", adapter="embedded"))
    rows = []
    for axis in axes:
        runs = _runs(renderer, axis)
        memory = {name: call_memory(run) for name, run in runs.items()}
        times = interleaved({str(size): run for size, run in runs.items()}, rounds, str(AXES[axis][0]))
        rows += [GrowthFigures(axis, int(row.variant), row, memory[int(row.variant)]) for row in times]
    return rows


def exponents(rows: Sequence[GrowthFigures]) -> list[Exponents]:
    """How fast each axis grows.

    Example:
        >>> steps = [GrowthFigures("steps", n, Figures(str(n), 3 * n, n, n, n), 7) for n in (1, 2, 4)]
        >>> exponents(steps)
        [Exponents(axis='steps', time=1.0, memory=0.0)]
    """
    found = []
    for axis, group in groupby(rows, lambda row: row.axis):
        same = list(group)
        sizes = [row.size for row in same]
        time, memory = (_slope(sizes, costs) for costs in ([r.time.seconds for r in same], [r.memory for r in same]))
        found.append(Exponents(axis, time, memory))
    return found


def plot(rows: Sequence[GrowthFigures], path: Path) -> None:
    """Draws time and memory against size, one panel for each axis, both on logarithmic scales.

    Args:
        rows: of any axes.
        path: an .svg or .png file.

    Raises:
        LLMDiffError: if matplotlib is not installed, or the file cannot be written.
    """
    slopes = exponents(rows)
    across = min(3, len(slopes))
    figure = new_figure(4 * across, 3 * math.ceil(len(slopes) / across))
    for place, slope in enumerate(slopes, 1):
        same = [row for row in rows if row.axis == slope.axis]
        sizes = [row.size for row in same]
        panel = figure.add_subplot(math.ceil(len(slopes) / across), across, place, xlabel=slope.axis)
        time, memory = [row.time.seconds for row in same], [row.memory / 1e9 for row in same]
        panel.loglog(sizes, time, "o-", label=f"time in s, exponent {slope.time:.2f}")
        panel.loglog(sizes, memory, "s--", label=f"memory in GB, exponent {slope.memory:.2f}")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.set_xticks([], minor=True)
        panel.legend(fontsize=8)
    with written_whole(path) as draft:
        figure.savefig(draft, format=path.suffix.removeprefix(".") or "svg")


def _slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    logs = [math.log(size) for size in sizes], [math.log(max(cost, 1e-9)) for cost in costs]
    return round(statistics.linear_regression(*logs).slope, 2)


def _runs(renderer: Renderer, axis: str) -> Mapping[int, Callable[[], object]]:
    """What is to be run, by size."""
    if axis in (SIDE, STEPS, PICTURES):
        return {size: partial(renderer.draw_batch, _pictures(renderer, axis, size)) for size in AXES[axis]}
    if renderer.adapter is None:
        raise LLMDiffError("Without an adapter nothing is read: give one.")
    llm = renderer.adapter.llm
    return {size: partial(_read, *_reading(llm, axis, size)) for size in AXES[axis]}


def _pictures(renderer: Renderer, axis: str, size: int) -> list[PictureSettings]:
    width, height = (size, size) if axis == SIDE else renderer.default_size()
    steps = size if axis == STEPS else _STEPS
    common = {"prompt": _PROMPT, "steps": steps, "guidance": 5.0, "scale": 1.0, "width": width, "height": height}
    return [PictureSettings.model_validate(common | {"seed": n}) for n in range(size if axis == PICTURES else 1)]


def _reading(llm: LanguageModel, axis: str, size: int) -> tuple[LanguageModel, Tokens]:
    """An LLM and random tokens (B, S) for it; for an axis of blocks a random Llama of its width with T of them."""
    shape = (size, _TOKENS) if axis == PROMPTS else (1, size if axis == TOKENS else _TOKENS)
    reader = _with_blocks(llm, size) if axis == BLOCKS else llm
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, min(4000, llm.config.vocab_size), shape, generator=generator).to(llm.device)
    return reader, Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def _with_blocks(llm: LanguageModel, blocks: int) -> LanguageModel:
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    same = {name: getattr(llm.config, name) for name in names}
    return random_llm(LlamaConfig(num_hidden_layers=blocks, **same), f"{blocks} blocks", llm.device, llm.dtype)


def _read(llm: LanguageModel, tokens: Tokens) -> None:
    extract_sum(llm, tokens, ExtractionConfig(), torch.ones(llm.block_count))
