"""The scene benchmark: the share of pictures that show every fact that their prompt states.

"two red balls left of a cup at night" is right when the picture shows exactly two red balls and one cup, a red ball
left of the cup, and the night: read off the picture by the checker of its domain, which knows nothing of the prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.confusion import confusion
from llmdiff.evaluation.domains import version_for
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import Outcome, System, draw_outcomes, identity, plain_words
from llmdiff.evaluation.prompts import groups, scene_prompts
from llmdiff.generation import Models, Renderer
from llmdiff.progress import Progress, silent
from llmdiff.scenes.checker import read
from llmdiff.scenes.facts import Fact, all_hold

STEPS = 20
GUIDANCE = 4.0
Outcomes = dict[str, list[Outcome]]
"""By the name of their system."""


@dataclass(frozen=True)
class SceneSettings:
    """What is drawn in the scene benchmark.

    Attributes:
        base: Base model.
        adapter: Adapter on it; "none" evaluates the base alone.
        seeds: Pictures per prompt.
        limit: Only so many prompts of each group.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        plainly: Also draws with the base model under the same facts in its own plain words: the most that it could
            draw if it understood the prompts.
        version: Of the prompts; if not given, the one whose pictures are as large as the base's.
        guidance_sweep: Scales of guidance at which the base is drawn too: how much of a gain more guidance alone gives.
    """

    base: str = "embedded"
    adapter: str = "embedded"
    seeds: int = 2
    limit: int | None = None
    steps: int = STEPS
    guidance: float = GUIDANCE
    plainly: bool = False
    version: int | None = None
    guidance_sweep: tuple[float, ...] = ()


@dataclass(frozen=True)
class SceneReport:
    """Scores of the scene benchmark.

    Attributes:
        rows: As `evaluate_scenes` returns them.
        facts: Rows of fact ("count", "related", "backdrop"), model, prompts, share, low and high.
        confusion: Rows of model, what, stated, drawn, count and share: what was drawn in place of what was stated.
        prompts: Rows of group, prompt, model, pictures, share (right in every fact) and facts (mean share of facts).
    """

    rows: list[dict[str, Any]]
    facts: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    prompts: list[dict[str, Any]]


def check(image: Image.Image, facts: Sequence[Fact]) -> bool:
    """True if the picture shows every fact.

    Example:
        >>> scene = Scene("night", (Thing("ball", "red", "small", 32, 32),))
        >>> check(draw(scene), [Count(Look("ball", "red"), 1), Backdrop("night")])
        True
    """
    return all_hold(facts, read(image).scene)


def evaluate_scenes(progress: Progress = silent, keep_in: Path | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Draws every prompt with the base model and with the adapted one, from the same noise, and checks the pictures.

    Args:
        progress: Shows how far it is.
        keep_in: A folder for scores while it runs: an evaluation that was interrupted goes on where it was, with the
            same models and arguments.
        settings: Of `SceneSettings`.

    Returns:
        Rows of group (and "all"), model ("base", "told plainly", "base at 8" of a sweep, "adapted", "difference" to the
        base, "adapted - base at 8"), prompts, share (of pictures right in every fact; the gain for differences), low
        and high (95 % bootstrap over prompts), and facts (mean share of facts).

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> rows = evaluate_scenes(adapter="none", seeds=1, limit=1, steps=2)
        >>> [row["model"] for row in rows if row["group"] == "all"]
        ['base']
    """
    return scene_report(SceneSettings(**settings), progress, keep_in).rows


def scene_report(settings: SceneSettings, progress: Progress = silent, keep_in: Path | None = None) -> SceneReport:
    """The same with shares of each kind of fact and prompt, and with what was drawn in place of what was stated.

    Example:
        >>> report = scene_report(SceneSettings("my-sd", "none", seeds=1, limit=1, steps=1))
        >>> sorted({row["fact"] for row in report.facts})
        ['backdrop', 'count', 'related']
    """
    adapter = None if settings.adapter == "none" else settings.adapter
    renderer = Renderer.load(Models(base=settings.base, adapter=adapter))
    prompts = scene_prompts(settings.limit, settings.version or version_for(renderer.default_size()[0]))
    of = identity(renderer, prompts, settings.seeds, settings.steps, settings.guidance) if keep_in else {}
    kept, outcomes = KeptScores(keep_in, of), Outcomes()

    def draw(system: System) -> None:
        def tell(share: float) -> None:
            progress(system.name, share)

        outcomes[system.name] = draw_outcomes(
            renderer.pipe, system, prompts, settings.seeds, settings.steps, kept, tell
        )

    with renderer.base_alone():
        for system in _of_base(settings):
            draw(system)
    if renderer.adapter is not None:
        draw(System("adapted", settings.guidance, adapted=True))
    kept.forget()
    return _report(outcomes, [*groups(prompts), "all"])


def _of_base(settings: SceneSettings) -> list[System]:
    plain = [System("told plainly", settings.guidance, wording=plain_words)] if settings.plainly else []
    sweep = [System(f"base at {scale:g}", scale) for scale in settings.guidance_sweep]
    return [System("base", settings.guidance), *plain, *sweep]


def _report(outcomes: Outcomes, names: Sequence[str]) -> SceneReport:
    return SceneReport(
        rows=[row for group in names for row in _rows(group, outcomes)],
        facts=_fact_rows(outcomes),
        confusion=[
            {"model": model} | row
            for model, found in outcomes.items()
            for row in confusion(reading for one in found for reading in one.readings)
        ],
        prompts=_prompt_rows(outcomes),
    )


def _rows(group: str, outcomes: Outcomes) -> list[dict[str, Any]]:
    own = {model: [o for o in found if group in (o.prompt.group, "all")] for model, found in outcomes.items()}
    right = _with_differences({model: _per_prompt(found, lambda o: float(o.right)) for model, found in own.items()})
    facts = _with_differences({model: _per_prompt(found, lambda o: o.facts_right) for model, found in own.items()})
    return [
        {"group": group, "model": model} | _summary(right[model]) | {"facts": float(facts[model].mean())}
        for model in right
        if len(right[model])
    ]


def _fact_rows(outcomes: Outcomes) -> list[dict[str, Any]]:
    kinds = dict.fromkeys(_name(fact) for found in outcomes.values() for one in found for fact in one.prompt.facts)
    return [
        {"fact": kind, "model": model} | _summary(values)
        for kind in kinds
        for model, values in _with_differences(_shares(outcomes, kind)).items()
    ]


def _shares(outcomes: Outcomes, kind: str) -> dict[str, np.ndarray]:
    """The share of the facts of a kind that hold, by model and prompt that states any."""
    return {
        model: _per_prompt([one for one in found if _stated(one, kind)], lambda one: _share(one, kind))
        for model, found in outcomes.items()
    }


def _prompt_rows(outcomes: Outcomes) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for model, found in outcomes.items():
        for one in found:
            rows.setdefault((one.prompt.prompt, model), []).append(one)
    return [
        {
            "group": found[0].prompt.group,
            "prompt": prompt,
            "model": model,
            "pictures": len(found),
            "share": sum(one.right for one in found) / len(found),
            "facts": sum(one.facts_right for one in found) / len(found),
        }
        for (prompt, model), found in rows.items()
    ]


def _name(fact: Fact) -> str:
    return type(fact).__name__.lower()


def _stated(one: Outcome, kind: str) -> list[bool]:
    """Whether each fact of a kind holds; empty where the prompt states none."""
    return [held for fact, held in zip(one.prompt.facts, one.held, strict=True) if _name(fact) == kind]


def _share(one: Outcome, kind: str) -> float:
    return float(np.mean(_stated(one, kind)))


def _with_differences(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Beside the values of each system, by prompt, those of the adapted one less those of the base."""
    if "adapted" not in values:
        return values
    at = {model: values["adapted"] - found for model, found in values.items() if model.startswith("base at ")}
    sweep = {f"adapted - {model}": found for model, found in at.items()}
    return values | {"difference": values["adapted"] - values["base"]} | sweep


def _per_prompt(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> np.ndarray:
    """The mean of `value` over each prompt's pictures: (P,)."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        values.setdefault(outcome.prompt.prompt, []).append(value(outcome))
    return np.array([np.mean(v) for v in values.values()])


def _summary(values: np.ndarray) -> dict[str, Any]:
    low, high = interval(values)
    return {"prompts": len(values), "share": float(values.mean()), "low": low, "high": high}
