"""The scene benchmark: the share of pictures that show every fact that their prompt states.

"two red balls left of a cup at night" is right when the picture shows exactly two red balls and one cup, a red ball
left of the cup, and the night: read off the picture by the checker of its domain, which knows nothing of the prompt.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.domains import DOMAINS, version_for
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.prompts import ScenePrompt, groups, scene_prompts
from llmdiff.generation import Models, Renderer
from llmdiff.generation.watch import Watch
from llmdiff.hashing import weights_hash
from llmdiff.progress import Progress, silent
from llmdiff.scenes.checker import read
from llmdiff.scenes.facts import Fact, all_hold

STEPS = 20
GUIDANCE = 4.0
_BATCH = 12  # pictures per call of the pipeline
_Wording = Callable[[ScenePrompt], str]


@dataclass(frozen=True)
class Outcome:
    """One picture's result."""

    prompt: ScenePrompt
    right: bool
    facts_right: float
    """Share of its facts that hold."""


def check(image: Image.Image, facts: Sequence[Fact]) -> bool:
    """True if the picture shows every fact.

    Example:
        >>> scene = Scene("night", (Thing("ball", "red", "small", 32, 32),))
        >>> check(draw(scene), [Count(Look("ball", "red"), 1), Backdrop("night")])
        True
    """
    return all_hold(facts, read(image).scene)


def evaluate_scenes(
    base: str = "embedded",
    adapter: str = "embedded",
    seeds: int = 2,
    limit: int | None = None,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    plainly: bool = False,
    version: int | None = None,
    progress: Progress = silent,
    keep_in: Path | None = None,
) -> list[dict[str, Any]]:
    """Draws every prompt with the base model and with the adapted one, from the same noise, and checks the pictures.

    Args:
        base: Base model.
        adapter: Adapter on it; "none" evaluates the base alone.
        seeds: Pictures per prompt.
        limit: Only so many prompts of each group.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        plainly: Also draws with the base model under the same facts in its own plain words: the most that it could
            draw if it understood the prompts.
        version: Of the prompts; if not given, the one whose pictures are as large as the base's.
        progress: Shows how far it is.
        keep_in: A folder for scores while it runs: an evaluation that was interrupted goes on where it was, with the
            same models and arguments.

    Returns:
        Rows of group (and "all"), model ("base", "told plainly", "adapted", "difference"), prompts, share (of pictures
        right in every fact; the gain for "difference"), low and high (95 % bootstrap over prompts), and facts (mean
        share of facts).

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> rows = evaluate_scenes(adapter="none", seeds=1, limit=1, steps=2)
        >>> [row["model"] for row in rows if row["group"] == "all"]
        ['base']
    """
    renderer = Renderer.load(Models(base=base, adapter=None if adapter == "none" else adapter))
    prompts = scene_prompts(limit, version or version_for(renderer.default_size()[0]))
    outcomes: dict[str, list[Outcome]] = {}
    kept = KeptScores(keep_in, _identity(renderer, prompts, seeds, steps, guidance) if keep_in else {})

    def draw(model: str, wording: _Wording = _own_words) -> None:
        scores = _Scores(kept, model)
        tell = _stage(progress, model)
        outcomes[model] = draw_and_check(renderer.pipe, prompts, seeds, steps, guidance, tell, wording, scores)

    with renderer.base_alone():
        draw("base")
        if plainly:
            draw("told plainly", _plain_words)
    if renderer.adapter is not None:
        draw("adapted")
    kept.forget()
    return [row for group in (*groups(prompts), "all") for row in _rows(group, outcomes)]


def _identity(renderer: Renderer, prompts: Sequence[ScenePrompt], *arguments: float) -> dict[str, Any]:
    """All that the scores of a model depend on."""
    parts = {name: part for name, part in renderer.pipe.components.items() if isinstance(part, nn.Module)}
    return {
        "models": renderer.provenance().model_dump(),
        "weights": {name: weights_hash(part) for name, part in parts.items()},
        "prompts": [prompt.prompt for prompt in prompts],
        "arguments": arguments,
    }


@dataclass(frozen=True)
class _Scores:
    """Those of one model that are kept."""

    kept: KeptScores
    model: str

    def before(self, jobs: Sequence[tuple[ScenePrompt, int]]) -> list[Outcome]:
        """The outcomes of an interrupted run, of whole batches: pictures may depend on those they are drawn with."""
        found = self.kept.of_model(self.model)[: len(jobs)]
        whole = len(found) if len(found) == len(jobs) else len(found) // _BATCH * _BATCH
        if whole:
            warnings.warn(
                f"An evaluation that was interrupted has scored {whole} of {len(jobs)} pictures ({self.model}): it "
                "goes on from there.",
                stacklevel=2,
            )
        return [Outcome(prompt, *score) for (prompt, _), score in zip(jobs, found[:whole], strict=False)]

    def add(self, first: int, outcomes: Sequence[Outcome]) -> None:
        self.kept.add(self.model, first, [(one.right, one.facts_right) for one in outcomes])


def _stage(progress: Progress, name: str) -> Callable[[float], None]:
    return lambda share: progress(name, share)


def _own_words(prompt: ScenePrompt) -> str:
    return prompt.prompt


def _plain_words(prompt: ScenePrompt) -> str:
    return DOMAINS[prompt.version].plainly(prompt.facts)


def draw_and_check(
    pipe: Any,
    prompts: Sequence[ScenePrompt],
    seeds: int,
    steps: int,
    guidance: float,
    tell: Callable[[float], None] = lambda share: None,
    wording: _Wording = _own_words,
    scores: _Scores | None = None,
) -> list[Outcome]:
    """Draws every prompt, from the noise of each seed, and checks the pictures.

    Args:
        pipe: the pipeline, with an adapter attached or without.
        prompts: of the benchmark.
        seeds: pictures of each prompt.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        tell: called with the share that is done.
        wording: from a prompt to the words that are drawn.
        scores: those that are kept; None keeps none.

    Returns:
        Outcomes of the pictures, those of a prompt one after the other.
    """
    jobs = [(prompt, seed) for prompt in prompts for seed in range(seeds)]
    outcomes = scores.before(jobs) if scores else []
    for first in range(len(outcomes), len(jobs), _BATCH):
        batch = jobs[first : first + _BATCH]
        watch = Watch()
        with watch.decoding(pipe):
            images = pipe(
                [wording(prompt) for prompt, _ in batch],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(seed) for _, seed in batch],
            ).images
        watch.check("A picture")
        found = [_outcome(prompt, image) for (prompt, _), image in zip(batch, images, strict=True)]
        if scores:
            scores.add(first, found)
        outcomes += found
        tell(len(outcomes) / len(jobs))
    return outcomes


def _outcome(prompt: ScenePrompt, image: Image.Image) -> Outcome:
    scene = DOMAINS[prompt.version].read(image)
    held = [fact.holds(scene) for fact in prompt.facts]
    return Outcome(prompt, all(held), sum(held) / len(held))


def _rows(group: str, outcomes: dict[str, list[Outcome]]) -> list[dict[str, Any]]:
    own = {model: [o for o in found if group in (o.prompt.group, "all")] for model, found in outcomes.items()}
    right = {model: _per_prompt(found, lambda o: float(o.right)) for model, found in own.items()}
    facts = {model: _per_prompt(found, lambda o: o.facts_right) for model, found in own.items()}
    if "adapted" in own:
        right["difference"] = right["adapted"] - right["base"]
        facts["difference"] = facts["adapted"] - facts["base"]
    return [_row(group, model, right[model], facts[model]) for model in right if len(right[model])]


def _per_prompt(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> np.ndarray:
    """The mean of `value` over each prompt's pictures: (P,)."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        values.setdefault(outcome.prompt.prompt, []).append(value(outcome))
    return np.array([np.mean(v) for v in values.values()])


def _row(group: str, model: str, right: np.ndarray, facts: np.ndarray) -> dict[str, Any]:
    low, high = interval(right)
    return {
        "group": group,
        "model": model,
        "prompts": len(right),
        "share": float(right.mean()),
        "low": low,
        "high": high,
        "facts": float(facts.mean()),
    }
