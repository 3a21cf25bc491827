"""How well a picture matches a text, by a model that reads both: SigLIP, SigLIP 2, CLIP and models made of them.

The score of a picture x and a text y is the cosine of their features (Zhai et al., 2023; Radford et al., 2021), which
the paper calls SigLIP score; PickScore is the same on a CLIP that was trained on people's choices.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.features import Loaded, VisionModel, load_scoring_model, pooled, usable
from llmdiff.sources import LOADING_FAULTS, reason, with_classes
from llmdiff.tokenizer_files import check_growth, check_tokenizer_files

_KINDS = ("siglip", "siglip2", "clip")
_BATCH = 16
_LONGEST_TOKEN = 30  # characters, beyond which a text is too long without being read
_WORDS = 64  # tokens that SigLIP was trained with, whatever its tokenizer allows


class Similarity(NamedTuple):
    """Scores of pictures and their texts.

    Attributes:
        scores: Cosine of each picture and its text. (N,).
        in_pieces: How many texts were longer than the model reads, and were scored piece by piece.
    """

    scores: Tensor
    in_pieces: int


class ImageTextModel(VisionModel):
    """A model of features of pictures and texts, with what prepares both.

    Shapes: N pictures or texts, F features.
    """

    def __init__(self, loaded: Loaded, tokenizer: Any, name: str) -> None:
        super().__init__(loaded, name)
        config = loaded.model.config
        self._tokenizer, self._is_clip = tokenizer, config.model_type == "clip"
        # SigLIP reads padding too, as it was trained.
        self._names = ["input_ids", "attention_mask"] if self._is_clip else ["input_ids"]
        most = config.text_config.max_position_embeddings
        self._length = most if self._is_clip else min(most, _WORDS)

    @classmethod
    def load(cls, name: str, device: str | None = None) -> Self:
        """Loads a model from a folder or the Hub.

        Args:
            name: "embedded", a folder in transformers' layout, or a Hub id, such as google/siglip2-base-patch16-224.
            device: Where it computes.

        Raises:
            LLMDiffError: It cannot be loaded, or is no model of pictures and texts.

        Example:
            >>> model = ImageTextModel.load("my-siglip")
            >>> model.features_of_texts(["a red cup"]).shape
            torch.Size([1, 32])
        """
        from transformers import AutoTokenizer

        loaded = load_scoring_model(name, device, "model of pictures and texts", _KINDS)
        try:
            if (folder := Path(loaded.source)).is_dir():
                check_tokenizer_files(folder)
            with with_classes():
                tokenizer = AutoTokenizer.from_pretrained(loaded.source)
        except LOADING_FAULTS as error:
            raise LLMDiffError(f"The tokenizer of {name!r} cannot be loaded: {reason(error)}.") from error
        check_growth(tokenizer, f"The tokenizer of {name!r}")
        with usable(name):
            model = cls(loaded, tokenizer, name)
            model.similarity([Image.new("RGB", (64, 48))], ["a red cup"])
        return model

    def features_of_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of length 1. (N, F), float32, on the CPU."""
        return normalize(self.embed(images), dim=-1)

    @torch.no_grad()
    def features_of_texts(self, texts: Sequence[str]) -> Tensor:
        """Features of length 1, of texts that the model can read whole. (N, F), float32, on the CPU."""
        found = []
        for first in range(0, len(texts), _BATCH):
            inputs = self._tokenizer(
                list(texts[first : first + _BATCH]),
                padding=True if self._is_clip else "max_length",  # as each was trained
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            )
            known = {name: inputs[name].to(self._model.device) for name in self._names}
            found.append(pooled(self._model.get_text_features(**known)))
        return normalize(torch.cat(found), dim=-1)

    def similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Similarity:
        """The cosine of each picture with its own text; of a text that is too long, the mean over its pieces.

        Args:
            images: N pictures.
            texts: The text of each.

        Example:
            >>> model = ImageTextModel.load("my-siglip")
            >>> model.similarity([Image.new("RGB", (64, 48))], ["a red cup"]).scores.shape
            torch.Size([1])
        """
        pieces = [list(self.pieces(text)) for text in texts]
        owner = torch.tensor([number for number, own in enumerate(pieces) for _ in own])
        features = self.features_of_texts([piece for own in pieces for piece in own])
        cosines = (self.features_of_images(images)[owner] * features).sum(-1)
        counts = torch.bincount(owner, minlength=len(texts))
        sums = torch.zeros(len(texts)).index_add(0, owner, cosines)
        return Similarity(sums / counts, sum(len(own) > 1 for own in pieces))

    def pieces(self, text: str) -> Iterator[str]:
        """A text in pieces that the model reads whole: cut after sentences, else after commas, else between words."""
        waiting = [text]
        while waiting:
            piece = waiting.pop()
            if self._fits(piece):
                yield piece
            else:
                waiting += reversed(self._cut(piece))

    def _cut(self, text: str) -> tuple[str, str]:
        for pattern in (r"(?<=[.!?;])\s+", r"(?<=,)\s+", r"\s+"):
            parts = [part for part in re.split(pattern, text) if part]
            if len(parts) > 1:
                first = self._whole_parts(parts)
                return " ".join(parts[:first]), " ".join(parts[first:])
        half = len(text) // 2  # one word that is too long
        return text[:half], text[half:]

    def _whole_parts(self, parts: Sequence[str]) -> int:
        """How many parts go into the next piece: as many as it takes, one at least, and not all of them."""
        count = 1
        while count < len(parts) - 1 and self._fits(" ".join(parts[: count + 1])):
            count += 1
        return count

    def _fits(self, text: str) -> bool:
        if len(text) > _LONGEST_TOKEN * self._length:
            return False
        return len(text) < 2 or len(self._tokenizer(text)["input_ids"]) <= self._length
