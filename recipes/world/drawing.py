"""Pictures of the benchmark's prompts by a base and its adapter, for sheets and for labels."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import typer
from PIL import Image

from llmdiff.cli.console import quiet_hosts
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.generation import Models, PictureSettings, Renderer

SYSTEMS = ("base", "told plainly", "adapted")
_BATCH = 8


@dataclass(frozen=True)
class Job:
    """One picture: who draws which of the benchmark's prompts from which seed."""

    system: str
    """Of `SYSTEMS`; "told plainly" is the base under the same facts in its own words."""
    prompt: ScenePrompt
    seed: int = 0

    @property
    def text(self) -> str:
        """What the system reads."""
        plainly = self.system == "told plainly"
        return DOMAINS[self.prompt.version].plainly(self.prompt.facts) if plainly else self.prompt.prompt


def draw(models: Models, jobs: Sequence[Job], steps: int, guidance: float, what: str) -> dict[Job, Image.Image]:
    """Draws all pictures, those of the base before those of the adapter.

    Args:
        models: base and adapter; without an adapter, "adapted" pictures are the base's.
        jobs: the pictures.
        steps, guidance: of all of them.
        what: is drawn, for the line that says how many there are yet.
    """
    quiet_hosts()
    warnings.filterwarnings("ignore", message="The base model reads")  # no more of a long prompt than it can
    renderer = Renderer.load(models)
    side, _ = renderer.default_size()
    drawn: dict[Job, Image.Image] = {}
    for is_adapted, some in groupby(sorted(jobs, key=_is_adapted), key=_is_adapted):
        for part in _batches(some):
            settings = [
                PictureSettings(
                    prompt=job.text, steps=steps, guidance=guidance, scale=1, seed=job.seed, width=side, height=side
                )
                for job in part
            ]
            if is_adapted:
                images = renderer.draw_batch(settings)
            else:
                with renderer.base_alone():
                    images = renderer.draw_batch(settings)
            drawn |= zip(part, images, strict=True)
            typer.echo(f"{what}: {len(drawn)} of {len(jobs)}")
    return drawn


def _is_adapted(job: Job) -> bool:
    return job.system == "adapted"


def _batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    some = list(jobs)
    yield from (some[first : first + _BATCH] for first in range(0, len(some), _BATCH))
