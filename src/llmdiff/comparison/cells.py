"""The cells of a comparison: one condition trained with one seed, known by the content of its recipe."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmdiff.comparison.config import ComparisonConfig
from llmdiff.comparison.notes import read_note, write_note
from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.hashing import json_hash
from llmdiff.progress import Progress, silent
from llmdiff.training import Recipe, checkpoint
from llmdiff.training import train as run_training
from llmdiff.training.recipe import read_values, recipe_of, set_value, with_todays_keys

UNRELATED: Any = {
    "folder": True, "samples": True, "cache": {"folder", "check", "latents", "workers", "answers"},
    "loop": {"log_every", "save_every", "sample_every", "heldout_every", "trackers"},
}  # fmt: skip
"""Keys of a recipe that its adapter does not depend on."""


@dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Attributes:
        condition: its name.
        seed: of the training.
        recipe: as `llmdiff train` takes it.
        folder: of the cell; its name has the hash of all that the adapter depends on, so that a changed recipe has
            another one.
    """

    condition: str
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def adapter(self) -> Path:
        """The folder of its adapter."""
        return self.recipe.folder / "adapter"

    @property
    def result(self) -> Path:
        """The file of its scores."""
        return self.folder / "result.json"

    @property
    def pictures(self) -> Path:
        """The file of its scores by pictures."""
        return self.folder / "pictures.json"

    @property
    def trained(self) -> dict[str, Any] | None:
        """What the training has told at its end; None before that."""
        return read_note(self.folder / "trained.json")

    def train(self, progress: Progress = silent) -> None:
        """Trains it, from its newest checkpoint on if there is one.

        Raises:
            LLMDiffError, Interrupted: see `llmdiff.training.train`.
        """
        source = self.folder / "recipe.yaml"
        try:
            with written_whole(source) as draft:
                draft.write_text(self.recipe.model_dump_json(indent=1), "utf-8")  # JSON is YAML
        except OSError as error:
            raise LLMDiffError(f"The folder {self.folder} cannot be written ({error}).") from error
        checkpoints = self.recipe.folder / "checkpoints"
        summary = run_training(str(source), resume=checkpoint.newest(checkpoints) is not None, progress=progress)
        write_note(self.folder / "trained.json", {key: summary[key] for key in ("steps", "skipped", "parameters")})
        shutil.rmtree(checkpoints, ignore_errors=True)

    def forget_training(self) -> None:
        """Removes what the training has left, so that it begins anew."""
        (self.folder / "trained.json").unlink(missing_ok=True)
        shutil.rmtree(self.recipe.folder, ignore_errors=True)


def cells(config: ComparisonConfig) -> list[Cell]:
    """All cells, every condition of the first seed before any of the second: a part of the grid is a fair one.

    Raises:
        LLMDiffError: The recipe of a condition is not valid; the sentence names it.
    """
    values = read_values(config.recipe) if isinstance(config.recipe, str) else with_todays_keys(config.recipe)
    return list(_cells(config, values))


def _cells(config: ComparisonConfig, values: dict[str, Any]) -> Iterator[Cell]:
    for seed in config.seeds:
        for name in config.conditions:
            recipe = _recipe(config, values, name, seed)
            content = json.loads(recipe.model_dump_json(exclude=UNRELATED))
            folder = config.folder / "cells" / name / f"seed{seed}-{json_hash(content)[:12]}"
            yield Cell(name, seed, recipe.model_copy(update={"folder": folder / "run"}), folder)


def _recipe(config: ComparisonConfig, values: dict[str, Any], name: str, seed: int) -> Recipe:
    own = json.loads(json.dumps(values, default=str))  # a copy, all the way down
    for path, value in config.conditions[name].changes.items():
        set_value(own, path, value, f"{path}: {value}")
    for path, value in _alike(config, seed).items():
        set_value(own, path, value, path)
    return recipe_of(own, f"The recipe of the condition {name!r}")


def _alike(config: ComparisonConfig, seed: int) -> dict[str, Any]:
    """What all cells have: their seed, one cache of what the frozen models say, and no sheets on the way."""
    return {
        "loop.seed": seed,
        "loop.sample_every": 0,
        "samples": [],
        "cache.folder": str(config.folder / "cache"),
        "cache.answers": True,
        "folder": str(config.folder / "cells"),
    }
