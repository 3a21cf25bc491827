"""Whether an image model has the weights that an adapter was made for."""

import copy
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapter.tiny import build_sd
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.base.weight_samples import are_other_weights, weight_samples
from llmdiff.language import LanguageModel

SAID = "other weights than the one that the adapter was made for: with fine-tunes of it an adapter usually works"


@pytest.fixture(scope="module")
def made(tiny_llm: LanguageModel) -> Callable[[], LLMDiffAdapter]:
    """Makes copies of an adapter that was made for `build_sd()`."""
    adapter = LLMDiffAdapter.create(build_sd(), tiny_llm)
    return lambda: LLMDiffAdapter(adapter.config, tiny_llm)


@contextmanager
def silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def fine_tuned(share: float) -> Any:
    """Its image model, with weights that are that far from its own."""
    pipe = build_sd()
    torch.manual_seed(1)
    for weight in pipe.unet.parameters():
        weight.data += share * weight.data.std(correction=0) * torch.randn_like(weight)
    return pipe


def test_a_fine_tune_is_told_of_once_and_works(made: Callable[[], LLMDiffAdapter]) -> None:
    with pytest.warns(UserWarning, match=SAID) as caught:
        adapter = made().attach(fine_tuned(0.02))
    assert len([one for one in caught if "other weights" in str(one.message)]) == 1
    assert adapter.pipes[0]("a red cup", num_inference_steps=1, output_type="np").images.shape[-1] == 3


@pytest.mark.parametrize("change", ["none", "bfloat16", "float16", "LoRA"])
def test_the_same_weights_in_other_forms_are_the_same(made: Callable[[], LLMDiffAdapter], change: str) -> None:
    pipe = build_sd()
    if change == "LoRA":
        peft = pytest.importorskip("peft")
        pipe.unet.add_adapter(peft.LoraConfig(target_modules=["to_q", "to_k"], init_lora_weights=False))
    elif change != "none":
        pipe.unet.to(getattr(torch, change))
    with silent():
        made().attach(pipe)


@pytest.mark.parametrize("change", ["float8", "meta"])
def test_what_cannot_be_known_is_not_told(made: Callable[[], LLMDiffAdapter], change: str) -> None:
    layers = copy.deepcopy(list(ImageModel(fine_tuned(0.5)).layers.values()))
    for layer in layers:
        layer.to(torch.float8_e4m3fn) if change == "float8" else layer.to("meta")
    assert weight_samples(layers) is None
    assert not are_other_weights(made().config.base.weights, None)


def test_an_adapter_keeps_what_it_was_made_for_and_an_older_one_has_nothing(
    made: Callable[[], LLMDiffAdapter], tmp_path: Path, tiny_llm: LanguageModel
) -> None:
    made().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert len(content["base"]["weights"]) == 2 * len(content["base"]["layers"])
    with silent():
        LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(build_sd())
    with pytest.warns(UserWarning, match=SAID):
        LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(fine_tuned(0.02))
    del content["base"]["weights"], content["crc32"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with silent():
        LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(fine_tuned(0.02))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([torch.bfloat16, torch.float16]), st.floats(1e-3, 1e2))
def test_rounding_is_told_from_training(seed: int, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(seed)
    layers = [Layer(size) for _ in range(8)]
    before = weight_samples(layers)
    assert not are_other_weights(before, weight_samples([copy.deepcopy(layer).to(dtype) for layer in layers]))
    for layer in layers:
        for weight in layer.parameters():
            weight.data += 0.02 * size * torch.randn_like(weight)
    assert are_other_weights(before, weight_samples(layers))


class Layer(nn.Module):
    """The projections of a cross-attention layer, with weights of that size."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(4, 4), nn.Linear(6, 4)
        for weight in self.parameters():
            weight.data = size * torch.randn_like(weight)
