"""Captioned pictures to train on: drawn scenes, or a folder of the user's own."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Description, describe
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import scene_with
from llmdiff.scenes.phrasing import natural_text
from llmdiff.scenes.scene import sample_scene
from llmdiff.training.recipe import FolderData, SceneData


class Captioned(Protocol):
    """A fixed list of captioned pictures."""

    captions: list[str]
    base_captions: list[str]
    """The same in words that the base model's own text encoder knows, as far as there are any."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> Tensor:
        """Picture number `index`: float (3, H, W) in -1..1."""
        ...


def captioned(data: SceneData | FolderData, resolution: int) -> Captioned:
    """The recipe's data at the base model's resolution (pixels), unless the recipe says another."""
    if isinstance(data, SceneData):
        return Scenes(data)
    return Folder(data.path, data.resolution or resolution)


class Scenes:
    """Drawn scenes; everything about sample n is a function of (seed, n).

    Caption k belongs to samples k, k + captions, k + 2 · captions …, whose pictures differ in what it leaves open.
    """

    def __init__(self, data: SceneData) -> None:
        self.data = data
        written = [self._caption(i) for i in range(data.captions)]
        self._facts = [description.facts() for description, _ in written]
        self.captions = [text for _, text in written] * data.pictures
        self.base_captions = [plain_text(description) for description, _ in written] * data.pictures

    def __len__(self) -> int:
        return len(self.captions)

    def pixels(self, index: int) -> Tensor:
        facts = self._facts[index % self.data.captions]
        return _normalised(draw(scene_with(facts, np.random.default_rng((self.data.seed, 1, index)))))

    def _caption(self, index: int) -> tuple[Description, str]:
        rng = np.random.default_rng((self.data.seed, 0, index))
        scene = sample_scene(rng)
        plain = rng.random() < self.data.plain
        description = describe(scene, rng)
        return description, plain_text(description) if plain else natural_text(description, rng)


class Folder:
    """Pictures listed in a folder's `metadata.jsonl`, scaled and centre-cropped to squares of `resolution` pixels.

    Raises:
        LLMDiffError: The list is missing or wrong, or a picture cannot be read; the message names it.
    """

    def __init__(self, path: Path, resolution: int) -> None:
        self.resolution = resolution
        rows = [_row(path, number, line) for number, line in enumerate(_lines(path), 1)]
        self.paths = [path / name for name, _ in rows]
        self.captions = self.base_captions = [text for _, text in rows]
        missing = next((p for p in self.paths if not p.is_file()), None)
        if missing:
            raise LLMDiffError(f"{path / 'metadata.jsonl'} lists {missing}, which is not a file; remove the line.")

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, index: int) -> Tensor:
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise LLMDiffError(f"The picture {path} cannot be read ({error}); mend it or remove its line.") from error
        side = (self.resolution, self.resolution)
        return _normalised(np.asarray(ImageOps.fit(upright, side, Image.Resampling.LANCZOS)))


def _lines(path: Path) -> list[str]:
    listing = path / "metadata.jsonl"
    try:
        lines = [line for line in listing.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LLMDiffError(f"{listing} cannot be read ({error}); it lists the pictures and their captions.") from error
    if not lines:
        raise LLMDiffError(f"{listing} lists no pictures.")
    return lines


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        name, text = row["file_name"], row["text"]
    except (ValueError, KeyError, TypeError) as error:
        wanted = '{"file_name": "1.png", "text": "…"}'
        raise LLMDiffError(f"Line {number} of {path / 'metadata.jsonl'} is not of the form {wanted}.") from error
    if not isinstance(name, str) or not isinstance(text, str):
        raise LLMDiffError(f"Line {number} of {path / 'metadata.jsonl'}: file_name and text must be strings.")
    return name, text


def _normalised(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
