"""The same recipe with another text model in its one line `llm:`."""

from pathlib import Path

import pytest
import yaml

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.training import train
from tiny_base import Places
from tiny_text import save_bert

RECIPE = {
    "mode": "replace",
    "data": {"kind": "scenes", "captions": 3, "pictures": 1},
    "precision": "float32",
    "loop": {"steps": 2, "batch_size": 2, "warmup": 1},
}


def test_a_text_encoder_takes_the_place_of_the_llm_and_its_adapter_fits_no_other(
    tmp_path: Path, places: Places
) -> None:
    adapters = {}
    for name, llm in {"llama": places.llm, "bert": save_bert(tmp_path / "bert")}.items():
        recipe = tmp_path / f"{name}.yaml"
        own = {"folder": str(tmp_path / name), "base": str(places.base), "llm": str(llm)}
        recipe.write_text(yaml.safe_dump(RECIPE | own))
        adapters[name] = LLMDiffAdapter.from_pretrained(train(str(recipe))["adapter"])
    assert adapters["llama"].config.reading.extraction == "llmdiff"
    assert adapters["bert"].config.reading.extraction == "last"
    assert adapters["bert"].llm.architecture == "encoder-only"
    for mine, theirs in (("llama", "bert"), ("bert", "llama")):
        with pytest.raises(LLMDiffError, match="does not fit: give the LLM it was made for"):
            LLMDiffAdapter.from_pretrained(tmp_path / mine / "adapter", llm=adapters[theirs].llm)


def test_the_papers_extraction_is_refused_before_anything_is_written(tmp_path: Path, places: Places) -> None:
    own = {"folder": str(tmp_path / "run"), "base": str(places.base), "llm": str(save_bert(tmp_path / "bert"))}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | own | {"reading": {"extraction": "llmdiff"}}))
    with pytest.raises(LLMDiffError, match="needs a decoder-only LLM"):
        train(str(tmp_path / "recipe.yaml"))
    assert not (tmp_path / "run").exists()
