"""What the results of a comparison say so far: means, paired differences and verdicts, each with an interval.

Letters in shapes: K training seeds, P scenes or prompts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from llmdiff.comparison.cells import Cell, cells
from llmdiff.comparison.config import Claim, ComparisonConfig
from llmdiff.comparison.notes import read_note
from llmdiff.comparison.run import picture_key, screen_key
from llmdiff.evaluation.bootstrap import crossed_interval

Verdict = Literal["closer", "farther", "undecided", "too few seeds", "not measured"]
FEWEST = 2
"""Training seeds without which nothing is said of a difference."""


@dataclass(frozen=True)
class Estimate:
    """A mean over trainings and prompts with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """The estimate of numbers (K, P)."""
        return cls(float(values.mean()), *crossed_interval(values))


@dataclass(frozen=True)
class Row:
    """A condition in the screen.

    Attributes:
        condition: its name.
        about: a few words of it.
        seeds: those that are done.
        parameters: that were trained.
        distance: from the teacher; 0 says all, 1 nothing.
        by_wording: the distance under each wording of the prompts.
        difference: from the reference, on the seeds that both have; less is better.
        verdict: by the interval of the difference.
    """

    condition: str
    about: str
    seeds: tuple[int, ...]
    parameters: int
    distance: Estimate
    by_wording: dict[str, Estimate]
    difference: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class Tested:
    """A claim and what came of it: the difference of distances is negative where the claim holds."""

    claim: Claim
    seeds: int
    difference: Estimate | None
    verdict: Verdict

    @property
    def word(self) -> str:
        """The verdict on the claim."""
        return {"closer": "holds", "farther": "does not hold: the contrary does"}.get(self.verdict, self.verdict)


@dataclass(frozen=True)
class Drawn:
    """A condition, or the base model, in pictures: shares right in every fact, and of facts; its gain over the base."""

    condition: str
    seeds: tuple[int, ...]
    share: Estimate
    facts: Estimate
    gain: Estimate | None


@dataclass(frozen=True)
class Findings:
    """All that is known of a comparison.

    Attributes:
        config: the comparison.
        done: cells that have a result, of `total`.
        total: cells there are.
        rows: conditions with a result, in the order of the comparison.
        claims: all claims.
        drawn: the base model first; empty where nothing has been drawn.
    """

    config: ComparisonConfig
    done: int
    total: int
    rows: tuple[Row, ...]
    claims: tuple[Tested, ...]
    drawn: tuple[Drawn, ...]

    @property
    def is_whole(self) -> bool:
        """True if no cell is missing."""
        return self.done == self.total

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {
            "title": self.config.title, "reference": self.config.reference, "done": self.done, "total": self.total,
            "rows": [asdict(row) for row in self.rows],
            "claims": [
                t.claim.model_dump()
                | {"verdict": t.word, "seeds": t.seeds, "difference": t.difference and asdict(t.difference)}
                for t in self.claims
            ],
            "pictures": [asdict(one) for one in self.drawn],
        }  # fmt: skip


def read_findings(config: ComparisonConfig) -> Findings:
    """What is known by the results that are there; nothing is computed but intervals.

    Raises:
        LLMDiffError: The recipe of a condition is not valid.

    Example:
        >>> found = read_findings(ComparisonConfig.read(Path("study.yaml")))
        >>> found.done, found.total
        (84, 84)
    """
    grid = cells(config)
    results = _results(config, grid)
    scenes = _scenes(results)
    return Findings(
        config=config,
        done=sum(map(len, results.values())),
        total=len(grid),
        rows=tuple(_row(config, name, results[name], scenes) for name in config.conditions if results[name]),
        claims=tuple(
            Tested(claim, *_difference(_scenes(results, claim.wording), claim.better, claim.than))
            for claim in config.claims
        ),
        drawn=tuple(_drawn(config, grid)),
    )


def _results(config: ComparisonConfig, grid: Sequence[Cell]) -> dict[str, dict[int, dict[str, Any]]]:
    """Results by condition and seed, of those that are of today's settings."""
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in config.conditions}
    for cell in grid:
        result = read_note(cell.result)
        if result is not None and result.get("screen") == screen_key(config):
            found[cell.condition][cell.seed] = result
    return found


Scenes = dict[str, dict[int, np.ndarray]]
"""The mean distance of each scene (P,) by condition and seed."""


def _scenes(results: dict[str, dict[int, dict[str, Any]]], wording: str | None = None) -> Scenes:
    return {name: {seed: _by_scene(one, wording) for seed, one in of.items()} for name, of in results.items()}


def _by_scene(result: dict[str, Any], wording: str | None) -> np.ndarray:
    """The mean distance of each scene over timesteps and wordings, or in one wording: (P,)."""
    by_things: dict[int, list[list[float]]] = {}
    for row in (row for row in result["distances"] if wording in (None, row["wording"])):
        by_things.setdefault(row["things"], []).append(row["distances"])
    return np.concatenate([np.mean(rows, axis=0) for rows in by_things.values()])


def _row(
    config: ComparisonConfig,
    name: str,
    results: dict[int, dict[str, Any]],
    scenes: Scenes,
) -> Row:
    seeds = tuple(sorted(results))
    wordings = dict.fromkeys(row["wording"] for row in results[seeds[0]]["distances"])
    _, difference, verdict = _difference(scenes, name, config.reference)
    return Row(
        condition=name,
        about=config.conditions[name].about,
        seeds=seeds,
        parameters=next(iter(results.values()))["parameters"],
        distance=Estimate.of(np.stack([scenes[name][seed] for seed in seeds])),
        by_wording={
            wording: Estimate.of(np.stack([_by_scene(results[seed], wording) for seed in seeds]))
            for wording in wordings
        },
        difference=None if name == config.reference else difference,
        verdict=verdict,
    )


def _difference(scenes: Scenes, first: str, second: str) -> tuple[int, Estimate | None, Verdict]:
    """The number of seeds that both have, the paired difference of their distances on these, and what it says."""
    common = sorted(scenes[first].keys() & scenes[second].keys())
    if not common:
        return 0, None, "not measured"
    paired = np.stack([scenes[first][seed] - scenes[second][seed] for seed in common])
    estimate = Estimate.of(paired)
    if len(common) < FEWEST:
        return len(common), estimate, "too few seeds"
    if estimate.high < 0:
        return len(common), estimate, "closer"
    return len(common), estimate, "farther" if estimate.low > 0 else "undecided"


def _drawn(config: ComparisonConfig, grid: Sequence[Cell]) -> list[Drawn]:
    base = _pictures(config, read_note(config.folder / "base" / "pictures.json"))
    if base is None:
        return []
    found = [Drawn("base", (), Estimate.of(base["right"][None]), Estimate.of(base["facts"][None]), None)]
    for name in config.pictures.conditions:
        own = {cell.seed: _pictures(config, read_note(cell.pictures)) for cell in grid if cell.condition == name}
        there = {seed: one for seed, one in own.items() if one is not None}
        if there:
            right, facts = (np.stack([one[key] for one in there.values()]) for key in ("right", "facts"))
            gain = Estimate.of(right - base["right"])
            found.append(Drawn(name, tuple(sorted(there)), Estimate.of(right), Estimate.of(facts), gain))
    return found


def _pictures(config: ComparisonConfig, note: dict[str, Any] | None) -> dict[str, np.ndarray] | None:
    """Shares right and of facts, (P,) each, of pictures of today's settings."""
    if note is None or note.get("pictures") != picture_key(config):
        return None
    return {key: np.array([row[key] for row in note["prompts"]]) for key in ("right", "facts")}
