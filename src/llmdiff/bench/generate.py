"""What a picture costs: the base model alone, with an adapter, and several in one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from llmdiff.bench.measure import Figures, interleaved
from llmdiff.generation import Models, PictureSettings, Renderer

ALONE = "base alone"
_PROMPTS = ("a red ball left of a blue box", "two green trees at night", "a yellow cat", "a house below a cloud")


@dataclass(frozen=True)
class GenerateFigures:
    """The figures of one way to draw.

    Attributes:
        base: the base model.
        batch_size: pictures of a call.
        time: of a call, see `Figures`; the reference is the base alone, one picture a call.
        pictures_per_s: at the median time of a call.
    """

    base: str
    batch_size: int
    time: Figures
    pictures_per_s: float


def bench_generate(
    models: Models, batch_sizes: Sequence[int], steps: int, rounds: int, device: str | None = None
) -> list[GenerateFigures]:
    """Draws pictures of prompts that the LLM has read, in turn.

    Args:
        models: see `Renderer`; without an adapter only the base is measured.
        batch_sizes: pictures of a call.
        steps: of the schedule.
        rounds: see `interleaved`.
        device: None takes the fastest one here.

    Raises:
        LLMDiffError: if a model cannot be loaded, or pictures do not fit into memory.
    """
    renderer = Renderer.load(models, device=device)
    width, height = renderer.default_size()

    def settings(count: int) -> list[PictureSettings]:
        common = {"steps": steps, "guidance": 5.0, "scale": 1.0, "width": width, "height": height}
        return [
            PictureSettings.model_validate(common | {"prompt": _PROMPTS[n % len(_PROMPTS)], "seed": n})
            for n in range(count)
        ]

    def alone(count: int) -> None:
        with renderer.base_alone():
            renderer.draw_batch(settings(count))

    def adapted(count: int) -> None:
        renderer.draw_batch(settings(count))

    runs: dict[str, tuple[int, Callable[[], object]]] = {}
    for count in dict.fromkeys([1, *batch_sizes]):
        runs[_name(ALONE, count)] = (count, partial(alone, count))
        if models.adapter is not None:
            runs[_name("with the adapter", count)] = (count, partial(adapted, count))
    rows = interleaved({name: run for name, (_, run) in runs.items()}, rounds, _name(ALONE, 1))
    sizes = [count for count, _ in runs.values()]
    return [
        GenerateFigures(models.base, count, row, round(count / row.seconds, 3))
        for count, row in zip(sizes, rows, strict=True)
    ]


def _name(variant: str, count: int) -> str:
    return variant if count == 1 else f"{variant}, {count} in a call"
