"""Pictures of scene prompts, drawn by one system after the other from the same noise, and what each of them shows."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import nn

from llmdiff.evaluation.confusion import Reading, readings
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.generation import Renderer
from llmdiff.generation.watch import Watch
from llmdiff.hashing import weights_hash

_BATCH = 12  # pictures per call of the pipeline
Tell = Callable[[float], None]


@dataclass(frozen=True)
class Outcome:
    """One picture's result."""

    prompt: ScenePrompt
    held: tuple[bool, ...]
    """Whether each fact of the prompt holds."""
    readings: tuple[Reading, ...] = ()

    @property
    def right(self) -> bool:
        """True if every fact holds."""
        return all(self.held)

    @property
    def facts_right(self) -> float:
        """Share of its facts that hold."""
        return sum(self.held) / len(self.held)


def own_words(prompt: ScenePrompt) -> str:
    """The prompt itself."""
    return prompt.prompt


def plain_words(prompt: ScenePrompt) -> str:
    """The same facts in the plain words of the base."""
    return DOMAINS[prompt.version].plainly(prompt.facts)


@dataclass(frozen=True)
class System:
    """A way of drawing a prompt."""

    name: str
    guidance: float
    adapted: bool = False
    wording: Callable[[ScenePrompt], str] = own_words


def draw_outcomes(
    pipe: Any, system: System, prompts: Sequence[ScenePrompt], seeds: int, steps: int, kept: KeptScores, tell: Tell
) -> list[Outcome]:
    """Draws each prompt from each seed, but for what is kept already, and reads the pictures."""
    jobs = [(prompt, seed) for prompt in prompts for seed in range(seeds)]
    outcomes = _before(kept, system.name, jobs)
    for first in range(len(outcomes), len(jobs), _BATCH):
        batch = jobs[first : first + _BATCH]
        watch = Watch()
        with watch.decoding(pipe):
            images = pipe(
                [system.wording(prompt) for prompt, _ in batch],
                num_inference_steps=steps,
                guidance_scale=system.guidance,
                generator=[torch.Generator().manual_seed(seed) for _, seed in batch],
            ).images
        watch.check("A picture")
        found = [_outcome(prompt, image) for (prompt, _), image in zip(batch, images, strict=True)]
        kept.add(system.name, first, [(one.held, one.readings) for one in found])
        outcomes += found
        tell(len(outcomes) / len(jobs))
    return outcomes


def identity(renderer: Renderer, prompts: Sequence[ScenePrompt], *arguments: Any) -> dict[str, Any]:
    """All that the outcomes of a system depend on, but for the system."""
    parts = {name: part for name, part in renderer.pipe.components.items() if isinstance(part, nn.Module)}
    return {
        "models": renderer.provenance().model_dump(),
        "weights": {name: weights_hash(part) for name, part in parts.items()},
        "prompts": [prompt.prompt for prompt in prompts],
        "arguments": arguments,
    }


def _before(kept: KeptScores, model: str, jobs: Sequence[tuple[ScenePrompt, int]]) -> list[Outcome]:
    """The outcomes of an interrupted run, of whole batches: pictures may depend on those they are drawn with."""
    found = kept.of_model(model)[: len(jobs)]
    whole = len(found) if len(found) == len(jobs) else len(found) // _BATCH * _BATCH
    if whole:
        warnings.warn(
            f"An evaluation that was interrupted has scored {whole} of {len(jobs)} pictures ({model}): it goes on "
            "from there.",
            stacklevel=2,
        )
    return [
        Outcome(prompt, tuple(held), tuple(Reading(*one) for one in seen))
        for (prompt, _), (held, seen) in zip(jobs, found[:whole], strict=False)
    ]


def _outcome(prompt: ScenePrompt, image: Image.Image) -> Outcome:
    domain = DOMAINS[prompt.version]
    scene = domain.read(image)
    held = tuple(fact.holds(scene) for fact in prompt.facts)
    return Outcome(prompt, held, tuple(readings(prompt.facts, scene, domain.colours)))
