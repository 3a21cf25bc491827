"""Readings in fewer bits beside those in more."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import fidelity
from llmdiff.evaluation.fidelity import compare
from llmdiff.language import ExtractionConfig, LanguageModel
from tiny_base import Places
from tiny_llm import build_llama
from tiny_text import build_text_model, encoder_tokenizer


def test_a_model_beside_itself_is_whole(tiny_llm: LanguageModel) -> None:
    result = compare(tiny_llm, tiny_llm)
    assert [row["block"] for row in result["blocks"]] == [1, 2, 3, 4]
    assert all(row["least"] == pytest.approx(1, abs=1e-6) for row in [*result["blocks"], result["encoding"]])
    assert result["tokens"] > 20


def test_what_is_lost_is_seen_from_its_block_on(tiny_llm: LanguageModel) -> None:
    model = copy.deepcopy(tiny_llm.model)
    with torch.no_grad():
        weight = model.layers[2].mlp.down_proj.weight
        weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    result = compare(LanguageModel.from_model(model, tiny_llm.tokenizer, "noisy"), tiny_llm)
    means = [row["mean"] for row in result["blocks"]]
    assert means[:2] == pytest.approx([1, 1], abs=1e-5)
    assert max(means[2:]) < 0.999
    assert result["encoding"]["least"] <= result["encoding"]["mean"] < 1


def test_a_text_encoder_is_read_by_its_own_extraction() -> None:
    bert = LanguageModel.from_model(build_text_model("BERT"), encoder_tokenizer(), "bert")
    assert compare(bert, bert)["extraction"] == "last"


def test_other_shapes_are_refused(tiny_llm: LanguageModel) -> None:
    with pytest.raises(LLMDiffError, match="different shapes"):
        compare(tiny_llm, build_llama(blocks=2))


@pytest.mark.fault("lost work")
def test_an_interrupted_one_goes_on(tiny_llm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, read = compare(tiny_llm, tiny_llm), fidelity._read
    seen: list[str] = []

    def interrupted(llm: LanguageModel, prompt: str, config: ExtractionConfig) -> Any:
        seen.append(prompt)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return read(llm, prompt, config)

    monkeypatch.setattr(fidelity, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(tiny_llm, tiny_llm, keep_in=tmp_path)
    assert compare(tiny_llm, tiny_llm, keep_in=tmp_path) == expected
    assert seen[6:] == [prompt for prompt in fidelity.PROMPTS[2:] for _ in range(2)]
    assert list(tmp_path.iterdir()) == []


def test_the_command(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "fidelity", "--llm", str(places.llm)]
    assert main([*command, "--dtype", "bfloat16", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"]["dtype"], result["reference"]["dtype"]) == ("bfloat16", "float32")
    assert all(0.9 < row["mean"] < 1 for row in result["blocks"])
    assert main([*command, "--dtype", "bfloat16"]) == 0
    assert "encoding" in capsys.readouterr().out
    assert main(command) == 1
    assert "own reference" in capsys.readouterr().err
    assert main([*command, "--dtype", "int3"]) == 1
