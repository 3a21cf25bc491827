"""Consistency: whether one scene in several wordings gives the same picture.

"a red ball and a cup at night", "after dark, a mug beside a crimson sphere": the same facts, so from the same noise
the pictures should show the same things. Two pictures are the same here when the checker reads the same of both for
everything that the facts state, right or wrong; where things stand counts only as far as a relation is stated.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.domains import DOMAINS, version_for
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import Outcome, System, draw_outcomes, identity
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.evaluation.scenes import GUIDANCE, STEPS
from llmdiff.generation import Models, Renderer
from llmdiff.progress import Progress, silent

_SEED = 980  # of the wordings


def evaluate_consistency(
    base: str = "embedded",
    adapter: str = "embedded",
    scenes: int = 5,
    wordings: int = 4,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    version: int | None = None,
    progress: Progress = silent,
    keep_in: Path | None = None,
) -> list[dict[str, Any]]:
    """Draws scenes of the benchmark in several wordings each, from the same noise, and compares the pictures.

    Args:
        base: Base model.
        adapter: Adapter on it; "none" evaluates the base alone.
        scenes: Of each group of the benchmark's prompts, whose facts they are.
        wordings: Of each scene: the plain one, and others drawn by lot; 2 at least.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        version: Of the prompts; if not given, the one whose pictures are as large as the base's.
        progress: Shows how far it is.
        keep_in: A folder for scores while it runs, from which one that was interrupted goes on.

    Returns:
        Rows of model ("base", "adapted", "difference"), scenes, wordings, same (share of pairs of wordings whose
        pictures show the same), low and high (95 % bootstrap over scenes), right (share of pictures right in every
        fact) and always_right (share of scenes of which every picture is).

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> rows = evaluate_consistency("my-sd", "none", scenes=1, wordings=2, steps=1)
        >>> rows[0]["model"], rows[0]["scenes"]
        ('base', 6)
    """
    renderer = Renderer.load(Models(base=base, adapter=None if adapter == "none" else adapter))
    originals = scene_prompts(scenes, version or version_for(renderer.default_size()[0]))
    prompts = [worded for number, one in enumerate(originals) for worded in _worded(one, number, wordings)]
    kept = KeptScores(keep_in, identity(renderer, prompts, steps, guidance) if keep_in else {})
    values: dict[str, np.ndarray] = {}

    def draw(system: System) -> None:
        def tell(share: float) -> None:
            progress(system.name, share)

        outcomes = draw_outcomes(renderer.pipe, system, prompts, 1, steps, kept, tell)
        values[system.name] = np.array(
            [_scores(outcomes[first : first + wordings]) for first in range(0, len(outcomes), wordings)]
        )

    with renderer.base_alone():
        draw(System("base", guidance))
    if renderer.adapter is not None:
        draw(System("adapted", guidance, adapted=True))
        values["difference"] = values["adapted"] - values["base"]
    kept.forget()
    return [_row(model, found, wordings) for model, found in values.items()]


def _worded(prompt: ScenePrompt, number: int, count: int) -> list[ScenePrompt]:
    """A prompt's facts in plain words and in others; a number keeps prompts of two scenes apart."""
    domain, rng = DOMAINS[prompt.version], np.random.default_rng((_SEED, number))
    texts = [domain.plainly(prompt.facts), *(domain.naturally(prompt.facts, rng) for _ in range(count - 1))]
    return [ScenePrompt(prompt.group, text, prompt.facts, prompt.version) for text in texts]


def _scores(outcomes: list[Outcome]) -> tuple[float, float, float]:
    """Of one scene: share of pairs that show the same, share of pictures that are right, and whether all are."""
    shown = [sorted(one.readings) for one in outcomes]
    right = [one.right for one in outcomes]
    return float(np.mean([a == b for a, b in combinations(shown, 2)])), float(np.mean(right)), float(all(right))


def _row(model: str, values: np.ndarray, wordings: int) -> dict[str, Any]:
    """Of the scores of all scenes, (scenes, 3)."""
    low, high = interval(values[:, 0])
    same, right, always = values.mean(0).tolist()
    return {
        "model": model, "scenes": len(values), "wordings": wordings, "same": same, "low": low, "high": high,
        "right": right, "always_right": always,
    }  # fmt: skip
