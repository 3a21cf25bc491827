"""The manifest of a run in its folder, by which it is resumed only as what it was: its recipe, its data in hashes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmdiff.data import Captioned
from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.hashing import lines_hash
from llmdiff.sources import reason
from llmdiff.training import checkpoint
from llmdiff.training.recipe import Recipe

_FREE: Any = {
    "folder": True, "samples": True, "gradient_checkpointing": True, "compile": True,
    "cache": {"folder", "check", "latents", "workers"},
    "loop": {"micro_batch", "log_every", "save_every", "sample_every", "heldout_every", "trackers"},
}  # fmt: skip
"""Keys that may change when a run is resumed."""


def check_folder(recipe: Recipe, resume: bool) -> bool:
    """True if the recipe's folder has a run with a checkpoint to go on from, False if the run begins anew.

    Raises:
        LLMDiffError: The folder holds a run that is not to be resumed, or that is of another recipe, or none to resume.
    """
    if resume and not _recipe_note(recipe).is_file():
        raise LLMDiffError(f"There is no run in {recipe.folder} to resume; start one without --resume.")
    begun = checkpoint.newest(recipe.folder / "checkpoints") is not None
    if begun and not resume:
        raise LLMDiffError(f"{recipe.folder} already holds a run; add --resume, or set folder to another path.")
    if begun:
        _check_same(_recipe_note(recipe), recipe)
    return begun


def check_data(recipe: Recipe, facts: dict[str, Any]) -> None:
    """Raises LLMDiffError if the run in the recipe's folder began on other data; older runs have no such record.

    Args:
        recipe: of the run, which has a checkpoint.
        facts: those of the data now, as `facts_of` gives them.
    """
    note = _data_note(recipe)
    if not note.is_file():
        return
    try:
        before = json.loads(note.read_text())
        changed = [_change(name, before[name], now) for name, now in facts.items() if before[name] != now]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LLMDiffError(f"{note} is damaged ({reason(error)}); delete it if the data is as it was.") from error
    if changed:
        raise LLMDiffError(
            f"The data of the run in {recipe.folder} has changed in its {changed[0]}: put it back, set folder to "
            f"another path and train anew, or delete {note} to go on with other samples than an unbroken run has."
        )


def claim(recipe: Recipe, facts: dict[str, Any]) -> None:
    """Writes the recipe and the facts of its data into its folder, by which a run there can be resumed.

    Args:
        recipe: of the run.
        facts: those of its data, as `facts_of` gives them.

    Raises:
        LLMDiffError: The folder cannot be written.
    """
    try:
        with written_whole(_recipe_note(recipe)) as draft:
            draft.write_text(recipe.model_dump_json(indent=2))
        with written_whole(_data_note(recipe)) as draft:
            draft.write_text(json.dumps(facts, indent=2))
    except OSError as error:
        raise LLMDiffError(f"The folder {recipe.folder} cannot be written ({error}).") from error


def facts_of(data: Captioned, held: Captioned | None) -> dict[str, Any]:
    """All of a run's data that decides which sample is what: numbers of pictures, and short hashes of the rest.

    Args:
        data: the pictures to train on.
        held: those held out, if there are any.
    """
    parts = [data, held] if held else [data]
    return {
        "number of pictures": sum(map(len, parts)),
        "captions": _hash([*texts] for part in parts for texts in (*part.captions, *part.teacher_captions)),
        "weights": _hash(weight for part in parts for weight in part.weights),
        "number of pictures held out": len(held) if held else 0,
        "pictures": _hash(part.identity(i) for part in parts for i in range(len(part))),
    }


def _change(name: str, before: Any, now: Any) -> str:
    return f"{name} ({before} then, {now} now)" if isinstance(now, int) else name


def _recipe_note(recipe: Recipe) -> Path:
    return recipe.folder / "recipe.json"


def _data_note(recipe: Recipe) -> Path:
    return recipe.folder / "data.json"


def _check_same(note: Path, mine: Recipe) -> None:
    """Raises LLMDiffError unless the written recipe leads to the same weights; the folder may have moved."""
    try:
        theirs = Recipe.model_validate_json(note.read_text())  # keys that are newer than it have their defaults
    except (OSError, ValueError) as error:
        raise LLMDiffError(
            f"{note} is damaged ({reason(error)}); set folder to another path and train anew."
        ) from error
    before, now = _binding(theirs), _binding(mine)
    changed = [key for key, value in now.items() if key not in before or before[key] != value]
    changed += [key for key in before if key not in now]
    if changed:
        raise LLMDiffError(f"The run in {note.parent} has another {changed[0]!r}; resume it with its own recipe.")


def _binding(recipe: Recipe) -> dict[str, Any]:
    """The settings that must stay when a run is resumed: all that its weights depend on, but for rounding."""
    return dict(_flat(json.loads(recipe.model_dump_json(exclude=_FREE))))


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings under dotted keys, as the recipe's options have them."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, values


def _hash(rows: Iterable[Any]) -> str:
    return lines_hash(rows)[:16]
