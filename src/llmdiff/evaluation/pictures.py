"""Scores of pictures that are there, of one system or of several side by side.

Every picture is decoded once, whatever the number of scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.features import VisionModel
from llmdiff.evaluation.picture_scores import Features, PictureScore, QualityScore, SceneScore, SiglipScore
from llmdiff.evaluation.set_distances import Distance, Estimate, cmmd, estimated, estimated_difference, frechet
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.generation import pictures_in, prompt_of, read_picture
from llmdiff.generation.found import check_same_names, no_prompt
from llmdiff.progress import Progress, silent

_AT_ONCE = 64  # pictures in memory
FEWEST = 20
"""Pictures of which a distance of sets has an interval."""
_DISTANCES: dict[str, Distance] = {"fd": frechet, "cmmd": cmmd}


@dataclass
class _Read:
    """What all scores make of the pictures of one folder, in the order of their names."""

    prompts: list[str] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    in_pieces: dict[str, int] = field(default_factory=dict)


def evaluate_pictures(
    folders: Mapping[str, Path],
    siglip: str | None = None,
    clip: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
    *,
    scenes: bool = False,
    features: str | None = None,
    reference: Path | None = None,
    differences: Sequence[tuple[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Scores the pictures of folders, and differences of folders, picture by picture.

    Args:
        folders: By the name of their system. Pictures of several have the same names in all of them.
        siglip: Model of the SigLIP score: "embedded", a folder or the Hub id of a SigLIP, SigLIP 2, CLIP or PickScore.
        clip: CLIP of CLIP-IQA: folder or Hub id.
        device: Where the models compute.
        progress: Shows how far it is.
        scenes: Whether pictures of prompts of the scene benchmark are read by its checker.
        features: Model of the features for the distances to `reference`: "embedded", a folder or Hub id.
        reference: Pictures of any names that the distances are taken to.
        differences: Systems and those that they are compared with; each with the first if None.

    Returns:
        Rows of score ("siglip", "clip-iqa", "scene", "facts", "fd" or "cmmd"), model, revision, system (or "b - a" for
        a difference), prompts, pictures, in_pieces (prompts that were longer than the model reads), mean (of a set:
        the distance), and low and high: 95 %, by the bootstrap over prompts or, of a distance, by the jackknife.

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
    if (features is None) != (reference is None):
        raise LLMDiffError("A distance needs two things: --features with a model, and --reference with pictures.")
    if siglip is clip is features is None and not scenes:
        raise LLMDiffError("There is no score to compute: ask for --siglip, --clip-iqa, --scenes or --features.")
    files = {system: pictures_in(folder) for system, folder in folders.items()}
    check_same_names(files)
    scores: list[PictureScore] = []
    if scenes:
        scores.append(SceneScore())
    if siglip is not None:
        scores.append(SiglipScore(ImageTextModel.load(siglip, device)))
    if clip is not None:
        scores.append(QualityScore(ImageTextModel.load(clip, device)))
    of_set = Features(VisionModel.load(features, device)) if features is not None else None
    read = {
        system: _read(
            system, [pictures[name] for name in sorted(pictures)], [*scores, *([of_set] if of_set else [])], progress
        )
        for system, pictures in files.items()
    }
    first, *others = folders
    pairs = [(other, first) for other in others] if differences is None else differences
    for one, other in pairs:
        _check_same_prompts(sorted(files[one]), (other, read[other].prompts), (one, read[one].prompts))
    rows = [row for score in scores for row in _rows(score, read, pairs)]
    if of_set is None or reference is None:
        return rows
    pixels = _read("the reference", [*pictures_in(reference).values()], [of_set], progress, with_prompts=False)
    return rows + _distance_rows(of_set, read, pixels, pairs)


def _read(
    system: str, paths: Sequence[Path], scores: Sequence[PictureScore], progress: Progress, with_prompts: bool = True
) -> _Read:
    """All scores of a folder's pictures, some of which are in memory at a time."""
    found, batches = _Read(), dict[str, list[np.ndarray]]()
    for begin in range(0, len(paths), _AT_ONCE):
        progress(f"scoring {system}", begin / len(paths))
        some = paths[begin : begin + _AT_ONCE]
        images, prompts = zip(*(_labelled(path, with_prompts) for path in some), strict=True)
        found.prompts += prompts
        for score in scores:
            batch = score(images, prompts)
            for name, values in batch.values.items():
                _check_finite(values, some)
                batches.setdefault(name, []).append(values)
                found.in_pieces[name] = found.in_pieces.get(name, 0) + batch.in_pieces
    found.values = {name: np.concatenate(parts) for name, parts in batches.items()}
    return found


def _check_finite(values: np.ndarray, paths: Sequence[Path]) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(1)
    if not finite.all():
        broken = paths[int(np.flatnonzero(~finite)[0])]
        raise LLMDiffError(f"The score of {broken} is not a finite number: the model's weights may be damaged.")


def _labelled(path: Path, with_prompt: bool) -> tuple[Image.Image, str]:
    image, chunks = read_picture(path)
    prompt = prompt_of(path, chunks) if with_prompt else ""
    if prompt is None:
        raise no_prompt(path)
    return image, prompt


def _check_same_prompts(names: Sequence[str], first: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    for name, one, another in zip(names, first[1], other[1], strict=True):
        if one != another:
            raise LLMDiffError(f"The picture {name!r} of {first[0]!r} has another prompt than that of {other[0]!r}.")


def _rows(score: PictureScore, read: Mapping[str, _Read], pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    rows = []
    for label in score.names:
        about = {"score": label, "model": score.model, "revision": score.revision}
        for system, one in read.items():
            rows.append(about | _row(system, one.values[label], one.prompts, one.in_pieces[label]))
        for system, other in pairs:
            one, gain = read[system], read[system].values[label] - read[other].values[label]
            rows.append(about | _row(f"{system} - {other}", gain, one.prompts, one.in_pieces[label]))
    return rows


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


def _distance_rows(
    score: Features, read: Mapping[str, _Read], reference: _Read, pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    sets = {system: torch.from_numpy(one.values["features"]) for system, one in read.items()}
    to = torch.from_numpy(reference.values["features"])
    if min(map(len, (*sets.values(), to))) < FEWEST:
        raise LLMDiffError(f"A distance of sets needs {FEWEST} pictures in each at least.")
    rows = []
    for label, distance in _DISTANCES.items():
        about = {"score": label, "model": score.model, "revision": score.revision}
        for system, own in sets.items():
            rows.append(about | _distance_row(system, estimated(distance, own, to), read[system]))
        for system, other in pairs:
            gain = estimated_difference(distance, sets[system], sets[other], to)
            rows.append(about | _distance_row(f"{system} - {other}", gain, read[system]))
    return rows


def _distance_row(system: str, found: Estimate, read: _Read) -> dict[str, Any]:
    counts = {"prompts": len(set(read.prompts)), "pictures": len(read.prompts), "in_pieces": 0}
    return {"system": system, **counts, "mean": found.value, "low": found.low, "high": found.high}
