"""The work of a comparison: every cell trained and scored that is not yet, one after the other."""

import warnings
from typing import Any

from llmdiff import __version__
from llmdiff.adapter import storage
from llmdiff.comparison import scoring
from llmdiff.comparison.cells import Cell, cells
from llmdiff.comparison.config import ComparisonConfig
from llmdiff.comparison.notes import read_note, write_note
from llmdiff.errors import LLMDiffError
from llmdiff.generation import Renderer
from llmdiff.hashing import json_hash
from llmdiff.progress import Progress, silent
from llmdiff.training.run_lock import locked


def compare(config: ComparisonConfig, pictures: bool = True, progress: Progress = silent) -> dict[str, str]:
    """Trains and scores the cells of a comparison that have no result yet, first all distances, then the pictures.

    It may be killed at any moment: the next call goes on from the last checkpoint of the cell that it was at. A cell
    whose recipe has changed is trained anew, in a folder of its own; a result that is damaged, or of other settings of
    the scores, is computed anew.

    Args:
        config: the comparison.
        pictures: whether the pictures are drawn too.
        progress: called with what is being done and the finished share of it.

    Returns:
        What went wrong, by condition and seed (``"last, seed 0"``): such cells are tried again by the next call.

    Raises:
        LLMDiffError: A recipe is not valid, or another process is at this comparison.
        Interrupted: After Ctrl-C.

    Example:
        >>> compare(ComparisonConfig.read(Path("study.yaml")))
        {}
    """
    grid = cells(config)
    failed: dict[str, str] = {}
    with locked(config.folder):
        for number, cell in enumerate(grid):
            report = _within(progress, f"{number + 1}/{len(grid)} {cell.condition}, seed {cell.seed}")
            try:
                screened(cell, config, report)
            except LLMDiffError as error:
                failed[f"{cell.condition}, seed {cell.seed}"] = str(error)
                warnings.warn(f"{cell.condition}, seed {cell.seed}: {error}", stacklevel=2)
        chosen = [cell for cell in grid if cell.condition in config.pictures.conditions] if pictures else []
        for number, cell in enumerate(chosen):
            if read_note(cell.result) is not None:
                report = _within(progress, f"Pictures {number + 1}/{len(chosen)} {cell.condition}, seed {cell.seed}")
                drawn(cell, config, report)
    return failed


def screened(cell: Cell, config: ComparisonConfig, progress: Progress = silent) -> dict[str, Any]:
    """The result of a cell, which is trained and scored if that has not been done.

    Raises:
        LLMDiffError: The training, or the models, do not allow it.
    """
    key = screen_key(config)
    known = read_note(cell.result)
    if known is not None and known.get("screen") == key:
        return known
    renderer = _trained(cell, progress)
    found = scoring.screen(cell, renderer, config.screen, progress)
    result = {
        "condition": cell.condition,
        "seed": cell.seed,
        "recipe": cell.folder.name,
        "screen": key,
        "version": __version__,
        "steps": cell.recipe.loop.steps,
    } | found
    write_note(cell.result, result)
    return result


def screen_key(config: ComparisonConfig) -> str:
    """A hash of the settings of the distances, by which a result is known to be of them."""
    return json_hash(config.screen.model_dump(mode="json"))[:16]


def picture_key(config: ComparisonConfig) -> str:
    """The same of the pictures; which conditions are drawn does not change a picture."""
    return json_hash(config.pictures.model_dump(mode="json", exclude={"conditions"}))[:16]


def drawn(cell: Cell, config: ComparisonConfig, progress: Progress = silent) -> None:
    """Draws the pictures of a cell, and those of the base model, unless they are there.

    Raises:
        LLMDiffError: The models do not allow it.
    """
    key = picture_key(config)
    base = config.folder / "base"
    wanted = [(cell.folder, cell.pictures, True), (base, base / "pictures.json", False)]
    missing = [one for one in wanted if (read_note(one[1]) or {}).get("pictures") != key]
    if not missing:
        return
    renderer = _trained(cell, progress)
    for folder, note, adapted in missing:
        found = scoring.draw(folder, renderer, config.pictures, adapted=adapted, progress=progress)
        write_note(note, {"pictures": key, "version": __version__} | found)


def _trained(cell: Cell, progress: Progress) -> Renderer:
    """The models of a cell, which is trained if it is not; an adapter that is damaged is trained anew."""
    if cell.trained is not None:
        try:
            storage.read_config(cell.adapter)
            storage.read_weights(cell.adapter)
        except LLMDiffError as error:
            warnings.warn(f"The adapter {cell.adapter} is trained anew: {error}", stacklevel=2)
            cell.forget_training()
    if cell.trained is None:
        cell.train(progress)
    return scoring.load(cell)


def _within(progress: Progress, what: str) -> Progress:
    return lambda stage, share: progress(f"{what}: {stage}", share)
