"""Scores of pictures that are there, of one system or of several side by side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.clip_iqa import clip_iqa
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.generation import pictures_in, prompt_of, read_picture
from llmdiff.generation.found import check_same_names, no_prompt
from llmdiff.progress import Progress, silent

Score = Callable[[Sequence[Image.Image], Sequence[str]], tuple[np.ndarray, int]]
"""Scores of pictures and their prompts, and how many prompts were scored in pieces."""

_AT_ONCE = 64  # pictures in memory


def evaluate_pictures(
    folders: Mapping[str, Path],
    siglip: str | None = None,
    clip: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Scores the pictures of folders, and the difference of each to the first, picture by picture.

    Args:
        folders: By the name of their system. Pictures of several have the same names in all of them.
        siglip: Model of the SigLIP score: folder or Hub id of a SigLIP, SigLIP 2, CLIP or PickScore.
        clip: CLIP of CLIP-IQA: folder or Hub id.
        device: Where the models compute.
        progress: Shows how far it is.

    Returns:
        Rows of score ("siglip" or "clip-iqa"), model, revision, system (or "b - a" for a difference), prompts,
        pictures, in_pieces (prompts that were longer than the model reads), mean, and low and high (95 % bootstrap
        over prompts).

    Raises:
        LLMDiffError: A model cannot be loaded, a folder or picture cannot be read, a picture has no prompt, or no
            companion of its name and prompt in another folder.

    Example:
        >>> rows = evaluate_pictures({"base": Path("a"), "adapted": Path("b")}, siglip="my-siglip")
        >>> [row["system"] for row in rows]
        ['base', 'adapted', 'adapted - base']
    """
    if not folders:
        raise LLMDiffError("There is nothing to score: name a folder of pictures.")
    if siglip is None and clip is None:
        raise LLMDiffError("There is no score to compute: name a model by --siglip, --clip-iqa or both.")
    files = {system: pictures_in(folder) for system, folder in folders.items()}
    check_same_names(files)
    rows: list[dict[str, Any]] = []
    for label, name in (("siglip", siglip), ("clip-iqa", clip)):
        if name is not None:
            model = ImageTextModel.load(name, device)
            score = _similarity(model) if label == "siglip" else _quality(model)
            about = {"score": label, "model": model.name, "revision": model.revision}
            rows += [about | row for row in _rows(files, score, label, progress)]
    return rows


def _similarity(model: ImageTextModel) -> Score:
    def score(images: Sequence[Image.Image], prompts: Sequence[str]) -> tuple[np.ndarray, int]:
        found = model.similarity(images, prompts)
        return found.scores.numpy(), found.in_pieces

    return score


def _quality(model: ImageTextModel) -> Score:
    return lambda images, prompts: (clip_iqa(model, images).numpy(), 0)


def _rows(
    files: Mapping[str, Mapping[str, Path]], score: Score, label: str, progress: Progress
) -> list[dict[str, Any]]:
    values: dict[str, np.ndarray] = {}
    prompts: dict[str, list[str]] = {}
    rows = []
    for system, pictures in files.items():
        paths = [pictures[name] for name in sorted(pictures)]
        values[system], prompts[system], in_pieces = _scored(
            paths,
            score,
            lambda share, system=system: progress(f"{label} of {system}", share),  # type: ignore[misc]
        )
        rows.append(_row(system, values[system], prompts[system], in_pieces))
    first, *others = values
    for other in others:
        _check_same_prompts(sorted(files[first]), (first, prompts[first]), (other, prompts[other]))
        rows.append(_row(f"{other} - {first}", values[other] - values[first], prompts[first], in_pieces))
    return rows


def _check_same_prompts(names: Sequence[str], first: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    for name, one, another in zip(names, first[1], other[1], strict=True):
        if one != another:
            raise LLMDiffError(f"The picture {name!r} of {first[0]!r} has another prompt than that of {other[0]!r}.")


def _scored(paths: Sequence[Path], score: Score, tell: Callable[[float], None]) -> tuple[np.ndarray, list[str], int]:
    """Scores in the order of the paths, their prompts, and how many of those were scored in pieces."""
    values: list[np.ndarray] = []
    prompts: list[str] = []
    pieces = 0
    for begin in range(0, len(paths), _AT_ONCE):
        tell(begin / len(paths))
        images, own = zip(*(_labelled(path) for path in paths[begin : begin + _AT_ONCE]), strict=True)
        scores, in_pieces = score(images, own)
        if not np.isfinite(scores).all():
            broken = paths[begin + int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise LLMDiffError(f"The score of {broken} is not a finite number: the model's weights may be damaged.")
        values.append(scores)
        prompts += own
        pieces += in_pieces
    return np.concatenate(values), prompts, pieces


def _labelled(path: Path) -> tuple[Image.Image, str]:
    image, chunks = read_picture(path)
    prompt = prompt_of(path, chunks)
    if prompt is None:
        raise no_prompt(path)
    return image, prompt


def _row(system: str, values: np.ndarray, prompts: Sequence[str], in_pieces: int) -> dict[str, Any]:
    by_prompt: dict[str, list[float]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        by_prompt.setdefault(prompt, []).append(float(value))
    means = np.array([np.mean(own) for own in by_prompt.values()])
    low, high = interval(means)
    return {
        "system": system,
        "prompts": len(means),
        "pictures": len(values),
        "in_pieces": in_pieces,
        "mean": float(means.mean()),
        "low": low,
        "high": high,
    }
