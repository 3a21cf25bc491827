"""Helpers for folders of base models."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmdiff.base.loading import load_pipeline
from llmdiff.errors import LLMDiffError

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


def fault(base: object, **options: Any) -> str:
    """The sentence with which loading fails."""
    with pytest.raises(LLMDiffError) as caught:
        load_pipeline(str(base), **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def change_index(folder: Path, **entries: Any) -> None:
    """Sets entries of a folder's index."""
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | entries))
