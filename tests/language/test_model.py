"""Loading LLMs, their identity, and what the user is told when that fails."""

import copy
import json
import shutil
from pathlib import Path

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, extract_sum, tokenize


@pytest.fixture
def folder(tiny_llm: LanguageModel, tmp_path: Path) -> Path:
    """A tiny LLM saved as transformers saves one."""
    model = LlamaForCausalLM(tiny_llm.model.config)
    model.model.load_state_dict(tiny_llm.model.state_dict())
    model.save_pretrained(tmp_path / "llm")
    tiny_llm.tokenizer.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def test_a_saved_llm_reads_as_it_did(tiny_llm: LanguageModel, folder: Path) -> None:
    loaded = LanguageModel.load(str(folder))
    config, weights = ExtractionConfig(template="chat"), torch.ones(4)
    sums = [extract_sum(llm, tokenize(llm, ["a cat"], config), config, weights) for llm in (tiny_llm, loaded)]
    torch.testing.assert_close(sums[0], sums[1])
    assert (loaded.width, loaded.block_count, loaded.dtype, loaded.device.type) == (32, 4, torch.float32, "cpu")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_identity_is_the_same_wherever_the_llm_comes_from(
    tiny_llm: LanguageModel, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    copied = folder.with_name("copy")
    shutil.copytree(folder, copied)
    one, two = LanguageModel.load(str(folder)).identity(), LanguageModel.load(str(copied)).identity()
    assert one | {"name": None} == two | {"name": None}
    assert json.loads(json.dumps(one)) == one
    assert set(one) == {"name", "revision", "type", "width", "blocks", "dtype", "quantization", "fingerprint"}
    with_head = AutoModelForCausalLM.from_pretrained(folder)
    own = LanguageModel.from_model(with_head, tokenizer, "own").identity()
    assert own["fingerprint"] == tiny_llm.identity()["fingerprint"] == one["fingerprint"]


def test_fingerprint_is_of_the_weights_and_not_of_a_dtype_that_holds_them(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    prints = {LanguageModel.load(str(folder), dtype=dtype).identity()["fingerprint"] for dtype in dtypes}
    assert len(prints) == 1
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.add_(0.001)
    model.save_pretrained(folder)
    assert LanguageModel.load(str(folder)).identity()["fingerprint"] not in prints


def test_an_offloaded_llm_reads_and_is_recognised(tiny_llm: LanguageModel) -> None:
    model = accelerate.cpu_offload(copy.deepcopy(tiny_llm.model), torch.device("cpu"))
    offloaded = LanguageModel.from_model(model, tiny_llm.tokenizer, "tiny-llama")
    assert next(offloaded.model.parameters()).is_meta
    assert offloaded.identity() == tiny_llm.identity()
    config, weights = ExtractionConfig(), torch.ones(4)
    sums = [extract_sum(llm, tokenize(llm, ["a cat"], config), config, weights) for llm in (tiny_llm, offloaded)]
    assert torch.equal(sums[0], sums[1])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "absent"), "./absent", "~/absent/llm"):
        with pytest.raises(LLMDiffError, match="no language model"):
            LanguageModel.load(name)


def test_damaged_weights_are_told(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(LLMDiffError, match="damaged") as caught:
        LanguageModel.load(str(folder))
    assert caught.value.__cause__ is not None


def test_weights_of_another_model_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.2" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LLMDiffError, match=r"lack .*layers\.2") as caught:
        LanguageModel.load(str(folder))
    assert "\n" not in str(caught.value)


def test_missing_weights_and_broken_configs_are_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(LLMDiffError, match="could not be loaded"):
        LanguageModel.load(str(folder))
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(LLMDiffError, match="could not be loaded"):
        LanguageModel.load(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(LLMDiffError, match="not usable JSON"):
        LanguageModel.load(str(folder))


def test_a_config_that_fits_no_model_is_told(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 33}))
    with pytest.raises(LLMDiffError, match="could not be loaded"):
        LanguageModel.load(str(folder))


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_missing_or_broken_tokenizer_is_told(folder: Path, content: str | None) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(LLMDiffError, match=r"tokenizer in .* is missing or damaged"):
        LanguageModel.load(str(folder))


def test_foreign_code_is_not_run_unless_allowed(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('foreign code was run')")
    with pytest.raises(LLMDiffError, match="allow it with trust_remote_code=True"):
        LanguageModel.load(str(folder))


def test_a_hub_llm_that_cannot_be_fetched_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LLMDiffError, match=r"^nobody/no-such-llm is not in the local cache"):
        LanguageModel.load("nobody/no-such-llm")
