"""The manifest of a run in its folder, by which it is resumed only as what it was: its recipe, and its data and models
in hashes of their content, wherever they lie by then."""

import json
import secrets
import warnings
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from llmdiff.base import ImageModel
from llmdiff.data import Captioned
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.hashing import json_hash, lines_hash, weights_hash
from llmdiff.language import LanguageModel
from llmdiff.language.record import tokenizer_hash
from llmdiff.sources import reason
from llmdiff.training import checkpoint
from llmdiff.training.recipe import Recipe

FREE: Any = {
    "folder": True, "samples": True,
    "precision": True, "compile": True, "gradient_checkpointing": True,
    "cache": {"folder", "check", "latents", "workers", "answers"},
    "heldout": {"levels", "pictures"},
    "objective": {"scalar_rate"}, "lora": {"rate"},
    "loop": {
        "steps", "learning_rate", "warmup", "decay", "clip", "weight_decay", "micro_batch",
        "log_every", "save_every", "sample_every", "heldout_every", "trackers",
    },
}  # fmt: skip
"""Keys that may change when a run is resumed: of its length, its rates, its speed, and what is looked at on the way.
All others decide what the weights are, or which sample is what."""

PLACES = {"base": "base model", "base_config": "base model", "llm": "LLM", "data": "pixels"}
"""Keys that say where something lies, which may change if its content is the same; `data` stands for each `path` in it.
The values are the names of the content among a run's facts."""

_RUN = "run"
"""The key of a run's identity among its facts."""
_LARGEST_NOTE = 2**26  # bytes
_BOOKKEEPING = {"architectures", "dtype", "torch_dtype", "transformers_version"}  # in a config: where it came from


def check_folder(recipe: Recipe, resume: bool) -> bool:
    """True if the recipe's folder has a run with a checkpoint to go on from, False if the run begins anew.

    Raises:
        LLMDiffError: The folder holds a run that is not to be resumed, or that is of another recipe, or none to resume.
    """
    begun = checkpoint.newest(recipe.folder / "checkpoints") is not None
    if resume and not (begun or _recipe_note(recipe).is_file()):
        raise LLMDiffError(f"There is no run in {recipe.folder} to resume; start one without --resume.")
    if begun and not resume:
        raise LLMDiffError(f"{recipe.folder} already holds a run; add --resume, or set folder to another path.")
    if begun:
        _check_same(recipe)
    return begun


def check_facts(recipe: Recipe, facts: dict[str, Any]) -> None:
    """Raises LLMDiffError if the run in the recipe's folder began on other data or models, as far as that is known.

    Args:
        recipe: of the run, which has a checkpoint.
        facts: those of its data and models now, as `data_facts` and `model_facts` give them.
    """
    before = _facts_before(recipe)
    changed = [_change(name, before[name], now) for name, now in facts.items() if before.get(name, now) != now]
    if changed:
        note = _facts_note(recipe)
        raise LLMDiffError(
            f"The data or models of the run in {recipe.folder} have changed: the {changed[0]}. Put back what was "
            f"there, set folder to another path and train anew, or delete {note} to go on with what is there now."
        )


def identity(recipe: Recipe, begun: bool) -> str:
    """The identity of the run in the recipe's folder, which its checkpoints carry; a new one of a run that begins.

    A folder that has lost it, and one of an older run, which had none, takes that of its newest checkpoint.

    Args:
        recipe: of the run.
        begun: whether it has a checkpoint to go on from.
    """
    known = (_facts_before(recipe).get(_RUN), checkpoint.run_of(recipe.folder / "checkpoints")) if begun else ()
    return next((one for one in known if one and isinstance(one, str)), None) or secrets.token_hex(16)


def claim(recipe: Recipe, run: str, facts: dict[str, Any]) -> None:
    """Writes the recipe, and what the run is and reads, into its folder, by which a run there can be resumed.

    Args:
        recipe: of the run.
        run: its identity.
        facts: as `data_facts` and `model_facts` give them.

    Raises:
        LLMDiffError: The folder cannot be written.
    """
    try:
        with written_whole(_recipe_note(recipe)) as draft:
            draft.write_text(recipe.model_dump_json(indent=2))
        with written_whole(_facts_note(recipe)) as draft:
            draft.write_text(json.dumps({_RUN: run, **facts}, indent=2))
    except OSError as error:
        raise LLMDiffError(f"The folder {recipe.folder} cannot be written ({error}).") from error


def data_facts(data: Captioned, held: Captioned | None) -> dict[str, Any]:
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
        "pixels": _hash(part.identity(i) for part in parts for i in range(len(part))),
    }


def model_facts(base: ImageModel, llm: LanguageModel) -> dict[str, Any]:
    """Short hashes of all that a run's frozen models compute by: weights, settings and tokenizers, and not their names.

    Args:
        base: the base model.
        llm: the LLM, its weights whole.
    """
    parts = {name: _content(part) for name, part in base.pipe.components.items() if name != "safety_checker"}
    return {
        "base model": json_hash([parts, _settings(base.schedule.config)])[:16],
        "LLM": json_hash([_content(llm.model), llm.content().hex(), _content(llm.tokenizer)])[:16],
    }


def _content(part: Any) -> Any:
    """What a part of a model computes by; None of one that training asks nothing of."""
    if isinstance(part, nn.Module):
        config: Any = getattr(part, "config", {})
        return type(part).__name__, _settings(config), weights_hash(part)
    return tokenizer_hash(part) if isinstance(part, PreTrainedTokenizerBase) else None


def _settings(config: Any) -> dict[str, Any]:
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in values.items() if key not in _BOOKKEEPING and not key.startswith("_")}


def _change(name: str, before: Any, now: Any) -> str:
    return f"{name} ({before} then, {now} now)" if isinstance(now, int) else name


def _recipe_note(recipe: Recipe) -> Path:
    return recipe.folder / "recipe.json"


def _facts_note(recipe: Recipe) -> Path:
    return recipe.folder / "data.json"


def _facts_before(recipe: Recipe) -> dict[str, Any]:
    """The facts with which a run began; none of an older run, or where the note cannot be used."""
    found = _read(_facts_note(recipe), "its data and models")
    return found if isinstance(found, dict) else {}


def _check_same(mine: Recipe) -> None:
    """Raises LLMDiffError unless the run was begun by a recipe that leads to the same weights, but for what is free."""
    written = _read(_recipe_note(mine), "its recipe")
    try:
        theirs = Recipe.model_validate(written)  # keys that are newer than it have their defaults
    except (LLMDiffError, ValueError) as error:
        if written is not None:
            _warn_unchecked(_recipe_note(mine), reason(error), "its recipe")
        return
    known = _facts_before(mine)
    before, now = ({k: v for k, v in _binding(one).items() if not _lies_anywhere(k, known)} for one in (theirs, mine))
    changed = [key for key, value in now.items() if key not in before or before[key] != value]
    changed += [key for key in before if key not in now]
    if changed:
        key = changed[0]
        raise LLMDiffError(
            f"The run in {mine.folder} has another {key!r} ({_shown(before, key)} then, {_shown(now, key)} now): "
            "resume it as it was, or set folder to another path and train anew."
        )


def _binding(recipe: Recipe) -> dict[str, Any]:
    """The settings that must stay when a run is resumed: all that its weights depend on, but for rounding."""
    return dict(_flat(json.loads(recipe.model_dump_json(exclude=FREE))))


def _lies_anywhere(key: str, known: dict[str, Any]) -> bool:
    """True of a key that says where something lies, if its content is known."""
    section, _, rest = key.partition(".")
    is_place = section in PLACES and (rest.split(".")[-1] == "path" if section == "data" else not rest)
    return is_place and PLACES[section] in known


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings under dotted keys, as the recipe's options have them."""
    if isinstance(values, dict | list) and values:
        for key, value in values.items() if isinstance(values, dict) else zip(map(str, count()), values, strict=False):
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, values


def _read(note: Path, what: str) -> Any:
    """The content of a note, None where there is none or it cannot be used, which never stops a run from going on."""
    try:
        return json.loads(read_text(open_regular(note), _LARGEST_NOTE))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        _warn_unchecked(note, why_not(error), what)
    except (ValueError, RecursionError) as error:
        _warn_unchecked(note, reason(error), what)
    return None


def _warn_unchecked(note: Path, why: str, what: str) -> None:
    warnings.warn(
        f"{note} cannot be used ({why}): the run goes on, but whether {what} is as it was is not checked.", stacklevel=5
    )


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key])[:60] if key in values else "none"


def _hash(rows: Iterable[Any]) -> str:
    return lines_hash(rows)[:16]
