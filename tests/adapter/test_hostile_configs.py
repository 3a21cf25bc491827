"""Configurations of adapters from strangers: an adapter or one sentence, before anything is allocated by them."""

import copy
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel
from tiny_base import Places

pytestmark = pytest.mark.fault("hostile text")


@pytest.fixture
def folder(places: Places, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places.adapter, tmp_path / "adapter"))


def outcome(folder: Path, text: str, llm: LanguageModel) -> str:
    """What loading an adapter of a changed config says, and nothing if it loads."""
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        try:
            LLMDiffAdapter.from_pretrained(folder, llm=llm)
        except LLMDiffError as error:
            return str(error)
        finally:
            assert time.perf_counter() - start < 10
    return ""


def first(layers: dict[str, Any]) -> dict[str, Any]:
    return next(iter(layers.values()))


CHANGES: dict[str, Any] = {
    "wide context": lambda c: c.update(mode="replace") or first(c["base"]["layers"]).update(context=10**12),
    "wide query": lambda c: first(c["base"]["layers"]).update(query=10**18),
    "beyond 64 bits": lambda c: first(c["base"]["layers"]).update(inner=10**30),
    "many heads": lambda c: first(c["base"]["layers"]).update(heads=10**9),
    "heads that do not divide": lambda c: first(c["base"]["layers"]).update(heads=7),
    "negative": lambda c: first(c["base"]["layers"]).update(inner=-8),
    "many blocks": lambda c: c.update(refiner={"blocks": 10**12, "width": 64}),
    "a wide refiner": lambda c: c.update(refiner={"blocks": 1, "width": 2 * 10**17}),
    "a wide LLM": lambda c: c["llm"].update(width=10**15),
    "a deep LLM": lambda c: c["llm"].update(blocks=10**12),
    "no width": lambda c: c["llm"].pop("width"),
    "another dtype": lambda c: c["llm"].update(dtype="load"),
    "a name that is none": lambda c: c["llm"].update(name=["a"]),
    "a large LoRA": lambda c: c.update(lora={"rank": 10**12, "projections": {"a": [10**6, 10**6]}}),
    "many projections": lambda c: c.update(lora={"rank": 1, "projections": {f"p{n}": [1, 1] for n in range(50_000)}}),
    "many layers": lambda c: c["base"]["layers"].update({f"l{n}": first(c["base"]["layers"]) for n in range(50_000)}),
    "an odd path": lambda c: c["base"]["layers"].update({"..": first(c["base"]["layers"])}),
    "an empty path": lambda c: c["base"]["layers"].update({"": first(c["base"]["layers"])}),
    "a large pool": lambda c: c.update(mode="replace", pooled_width=10**15),
    "another block": lambda c: c["reading"].update(extraction="layer:99999999999"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_sizes_are_checked_against_the_weights(folder: Path, tiny_llm: LanguageModel, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    said = outcome(folder, json.dumps(config), tiny_llm)
    assert said
    assert "\n" not in said
    assert len(said) < 1000


TEXTS = [
    "",
    "null",
    "[]",
    '"a"',
    "1",
    "[" * 100_000,
    '{"a":' * 50_000,
    "9" * 10_000,
    "NaN",
    "\ud800",
    '{"llm": {}}',
    "{}",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:8].encode("ascii", "replace").decode())
def test_texts_that_are_no_configuration(folder: Path, tiny_llm: LanguageModel, text: str) -> None:
    assert outcome(folder, text, tiny_llm)


def test_a_text_of_gigabytes_is_not_read(folder: Path, tiny_llm: LanguageModel) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate(10**10)  # sparse
    with pytest.raises(LLMDiffError, match="it has more than 4 MB"):
        LLMDiffAdapter.from_pretrained(folder, llm=tiny_llm)


VALUES = st.one_of(
    st.integers(), st.integers(-(10**20), 10**20), st.floats(), st.none(), st.booleans(), st.text(max_size=9),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


def places_in(node: Any) -> list[tuple[Any, Any]]:
    """Every value of a JSON tree, by its owner and key."""
    if not isinstance(node, dict):
        return []
    return [(node, key) for key in node] + [found for value in node.values() for found in places_in(value)]


@given(data=st.data())
@examples(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_is_an_adapter_or_a_sentence(
    places: Places, folder: Path, tiny_llm: LanguageModel, data: st.DataObject
) -> None:
    config = copy.deepcopy(json.loads((places.adapter / "config.json").read_text()))
    for _ in range(data.draw(st.integers(1, 2))):
        owner, key = data.draw(st.sampled_from(places_in(config)))
        owner[key] = data.draw(VALUES)
    assert "\n" not in outcome(folder, json.dumps(config), tiny_llm)


@pytest.mark.fault("missing weights")
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_a_type_that_loses_their_values_are_named(
    folder: Path, tiny_llm: LanguageModel, dtype: torch.dtype
) -> None:
    """As another tool has converted them; a half of the bits is none."""
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    save_file({name: weight.to(dtype) for name, weight in weights.items()}, file)
    with pytest.raises(LLMDiffError, match=f"{sorted(weights)[0]} is of type {dtype}"):
        LLMDiffAdapter.from_pretrained(folder, llm=tiny_llm)
    save_file({name: weight.half() for name, weight in weights.items()}, file)
    LLMDiffAdapter.from_pretrained(folder, llm=tiny_llm)


@pytest.mark.fault("not finite")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, tiny_llm: LanguageModel, value: float) -> None:
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name] = weights[name].clone()
    weights[name].view(-1)[-1] = value
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(LLMDiffError, match=f"{name} is not finite"):
        LLMDiffAdapter.from_pretrained(folder, llm=tiny_llm)
    assert torch.isfinite(weights[sorted(weights)[0]]).all()
