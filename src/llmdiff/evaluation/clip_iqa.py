"""CLIP-IQA (Wang et al., 2023): how good a picture looks, by whether CLIP finds it nearer to praise than to blame."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from llmdiff.evaluation.similarity import ImageTextModel

TEXTS = ("Good photo.", "Bad photo.")
"""The paper's pair for quality."""

_SCALE = 100.0


def clip_iqa(model: ImageTextModel, images: Sequence[Image.Image]) -> Tensor:
    """The share of praise: softmax(100 · cos(x, "Good photo."), 100 · cos(x, "Bad photo."))₀.

    It knows nothing of a prompt, and of pictures unlike photographs little: noise scores healthy on it. It is to be
    read beside the base model's pictures, as a difference.

    Args:
        model: A CLIP, as `ImageTextModel.load` gives it.
        images: N pictures.

    Returns:
        Scores between 0 and 1. (N,).

    Example:
        >>> clip_iqa(ImageTextModel.load("my-siglip"), [Image.new("RGB", (64, 64))]).shape
        torch.Size([1])
    """
    cosines = model.features_of_images(images) @ model.features_of_texts(TEXTS).T
    return torch.softmax(_SCALE * cosines, -1)[:, 0]
