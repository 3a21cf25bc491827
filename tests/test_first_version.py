"""Files that the first version (0.1.0) wrote still do what they did: adapters and PNGs (recipes: tests/training)."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapter.tiny import build_sd, build_sdxl, draw
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import read_png, regenerate
from llmdiff.language import LanguageModel

FOLDER = Path(__file__).parent / "first_version"
BUILD = {"sd-augment": build_sd, "sd-replace": build_sd, "sdxl-replace": build_sdxl}


@pytest.mark.parametrize("name", BUILD)
def test_an_adapter_draws_the_picture_that_it_drew(name: str, tiny_llm: LanguageModel, tmp_path: Path) -> None:
    expected = load_file(FOLDER / "latents.safetensors")[name]
    pipe = BUILD[name]()
    adapter = LLMDiffAdapter.from_pretrained(FOLDER / name, llm=tiny_llm).attach(pipe)
    assert torch.allclose(draw(pipe, "a red cup", negative_prompt="blue"), expected, atol=1e-3)
    adapter.save_pretrained(tmp_path)
    before, after = (load_file(folder / "adapter.safetensors") for folder in (FOLDER / name, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], weight) for key, weight in before.items())


def test_a_picture_of_the_base_model_is_redrawn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other versions and another processor
        redrawn = regenerate(FOLDER / "base-alone.png")
    pixels, _ = read_png(FOLDER / "base-alone.png")
    assert np.abs(np.asarray(redrawn.image, int) - np.asarray(pixels, int)).max() <= 8


def test_what_a_picture_was_made_with_is_read() -> None:
    _, document = read_png(FOLDER / "embedded.png")
    record = document.pictures[0]
    assert (record.picture.prompt, record.picture.negative) == ("a red star, by day", "blurry: very")
    assert record.models.adapter == "embedded"
    assert record.provenance.llm is not None
