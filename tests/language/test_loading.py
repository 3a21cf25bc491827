"""Where a language model comes from, in how many bits it is, and how its memory is given back."""

import gc
import json
import os
import weakref
from pathlib import Path

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, extract_sum, tokenize
from tiny_gguf import BLOCKS, WIDTH, write_gguf
from tiny_llm import build_llama

CONFIG = ExtractionConfig()


def read(llm: LanguageModel, prompt: str = "a cat sat") -> torch.Tensor:
    return extract_sum(llm, tokenize(llm, [prompt], CONFIG), CONFIG, torch.ones(llm.block_count))


@pytest.fixture
def gguf(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    write_gguf(tmp_path / "tiny.gguf", tokenizer)
    return tmp_path / "tiny.gguf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama whose linears are wide enough for any quantisation."""
    llm = build_llama(blocks=3, width=64)
    model = LlamaForCausalLM(llm.model.config)
    model.model.load_state_dict(llm.model.state_dict())
    model.save_pretrained(tmp_path / "llm")
    llm.tokenizer.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def test_a_gguf_file_is_a_language_model(gguf: Path) -> None:
    llm = LanguageModel.load(str(gguf))
    assert (llm.architecture, llm.width, llm.block_count, llm.dtype) == ("decoder-only", WIDTH, BLOCKS, torch.float32)
    assert torch.isfinite(read(llm)).all()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_gguf_file_that_is_cut_short_is_told(gguf: Path, share: float) -> None:
    gguf.write_bytes(gguf.read_bytes()[: int(share * gguf.stat().st_size)])
    with pytest.raises(LLMDiffError, match=r"^The GGUF file .*tiny\.gguf is cut short, damaged .*fetch it again\.$"):
        LanguageModel.load(str(gguf))


def test_a_gguf_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(LLMDiffError, match="no GGUF file"):
        LanguageModel.load(str(tmp_path / "absent.gguf"))
    (tmp_path / "other.gguf").write_bytes(b"not a GGUF file, whatever its name says" * 100)
    with pytest.raises(LLMDiffError, match="cut short, damaged or of an unknown kind"):
        LanguageModel.load(str(tmp_path / "other.gguf"))


def test_a_gguf_file_is_not_quantised_again(gguf: Path) -> None:
    with pytest.raises(LLMDiffError, match="dequantised when it is loaded"):
        LanguageModel.load(str(gguf), quantization="int8")


def test_an_unknown_quantisation_is_told(folder: Path) -> None:
    with pytest.raises(LLMDiffError, match="no quantisation '3bit': choose one of int8, 8bit, 4bit"):
        LanguageModel.load(str(folder), quantization="3bit")


@pytest.mark.parametrize(("name", "library"), [("int8", "torchao"), ("4bit", "bitsandbytes")])
def test_a_quantisation_without_its_library_is_told(
    folder: Path, name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LLMDiffError, match=rf"needs {library}: pip install 'llmdiff-adapter\[quant\]'"):
        LanguageModel.load(str(folder), quantization=name)


@pytest.mark.parametrize(("name", "library"), [("int8", "torchao"), ("8bit", "bitsandbytes"), ("4bit", "bitsandbytes")])
def test_fewer_bits_read_nearly_the_same_and_are_recorded(folder: Path, name: str, library: str) -> None:
    pytest.importorskip(library)
    whole = LanguageModel.load(str(folder))
    fewer = LanguageModel.load(str(folder), quantization=name)
    mine, theirs = read(fewer)[0, 1:], read(whole)[0, 1:]
    cosine = torch.nn.functional.cosine_similarity(mine, theirs, dim=-1)
    assert cosine.min() > (0.8 if name == "4bit" else 0.99)
    assert not torch.equal(mine, theirs)
    identity = fewer.identity()
    assert identity["quantization"] == name
    assert identity["dtype"] == "float32"
    assert identity["fingerprint"] == LanguageModel.load(str(folder), quantization=name).identity()["fingerprint"]
    assert len(fewer.content()) == 32
    with pytest.raises(LLMDiffError, match="placed already"):
        fewer.to("meta")
    before = read(fewer)
    assert torch.equal(read(fewer.offload()), before)


def test_a_device_map_places_the_parts(folder: Path) -> None:
    whole = LanguageModel.load(str(folder))
    for placement in ("auto", {"": "cpu"}):
        placed = LanguageModel.load(str(folder), device_map=placement)
        assert torch.equal(read(placed), read(whole))
        assert placed.identity() == whole.identity()


@pytest.mark.usefixtures("nothing_kept")
def test_what_was_loaded_is_let_go_and_loaded_again(folder: Path) -> None:
    llm = LanguageModel.load(str(folder), dtype=torch.bfloat16)
    text_encoding = TextEncoding(CONFIG, llm.width, llm.block_count).eval()
    before, identity = encode(llm, ["a cat"], CONFIG, text_encoding).embeds, llm.identity()
    gone = weakref.ref(llm.model)
    llm.offload()
    gc.collect()
    assert gone() is None
    assert llm.is_offloaded
    assert (llm.dtype, llm.device.type, llm.identity()) == (torch.bfloat16, "cpu", identity)
    assert torch.equal(encode(llm, ["a cat"], CONFIG, text_encoding).embeds, before)  # which is remembered
    assert llm.is_offloaded
    llm.encodings.clear()
    assert torch.equal(encode(llm, ["a cat"], CONFIG, text_encoding).embeds, before)
    assert not llm.is_offloaded


def test_what_was_given_waits_on_the_cpu() -> None:
    llm = build_llama()
    before, model = read(llm), llm.model
    llm.offload().offload()
    assert llm.is_offloaded
    assert torch.equal(read(llm), before)
    assert llm.model is model
    assert not llm.is_offloaded


def test_an_llm_that_accelerate_has_offloaded_is_known_by_its_content() -> None:
    llm = build_llama()
    content = llm.content()
    offloaded = LanguageModel.from_model(
        accelerate.cpu_offload(build_llama().model, torch.device("cpu")), llm.tokenizer, "offloaded"
    )
    assert offloaded.content() == content
    with torch.no_grad():
        llm.model.layers[1].mlp.up_proj.weight.mul_(1.00001)
    same = LanguageModel.from_model(llm.model, llm.tokenizer, "changed")
    assert same.content() != content
    assert same.identity()["fingerprint"] == build_llama().identity()["fingerprint"]


def test_saving_and_loading_leave_the_content_as_it_was(tmp_path: Path) -> None:
    llm = build_llama()
    content = LanguageModel.from_model(llm.model, llm.tokenizer, "new").content()
    llm.model.save_pretrained(tmp_path)
    llm.tokenizer.save_pretrained(tmp_path)
    assert LanguageModel.from_model(llm.model, llm.tokenizer, "saved").content() == content
    assert LanguageModel.load(str(tmp_path)).content() == content
    llm.config.rms_norm_eps *= 2
    assert LanguageModel.from_model(llm.model, llm.tokenizer, "other").content() != content


def test_the_text_decoder_of_a_vision_language_model_is_read(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    text = {"vocab_size": 265, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    vision = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 1}
    special = {"bos_token_id": 259, "eos_token_id": 260}
    config = Qwen2VLConfig(text_config=text | special, vision_config=vision, **special)
    Qwen2VLForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = LanguageModel.load(str(tmp_path))
    assert (llm.architecture, llm.width, llm.block_count) == ("decoder-only", 32, 3)
    assert not [name for name, _ in llm.model.named_modules() if "vis" in name]
    assert torch.isfinite(read(llm)).all()


def sharded(llm: LanguageModel, folder: Path) -> tuple[Path, dict[str, str]]:
    """The index of a model's weights in two files, and what it says."""
    llm.model.save_pretrained(folder, max_shard_size="50KB")
    llm.tokenizer.save_pretrained(folder)
    index = folder / "model.safetensors.index.json"
    return index, json.loads(index.read_text())["weight_map"]


@pytest.mark.fault("paths")
def test_weights_outside_of_their_folder_are_refused(tmp_path: Path) -> None:
    index, names = sharded(build_llama(), tmp_path / "llm")
    assert LanguageModel.load(str(index.parent)).block_count == 4
    last = max(names.values())
    (index.parent / last).rename(tmp_path / last)
    for place in (f"../{last}", str(tmp_path / last)):
        index.write_text(json.dumps({"metadata": {}, "weight_map": names | {min(names): place}}))
        with pytest.raises(LLMDiffError, match=r"says that weights are in .*, which is no file beside it"):
            LanguageModel.load(str(index.parent))


@pytest.mark.fault("special files")
@pytest.mark.timeout(60)
def test_an_index_that_is_none_and_weights_that_are_no_file_are_told(tmp_path: Path) -> None:
    index, names = sharded(build_llama(), tmp_path / "llm")
    for content in (
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        "[" * 10**5,
    ):
        index.write_text(content)
        with pytest.raises(LLMDiffError, match=r"model\.safetensors\.index\.json"):
            LanguageModel.load(str(index.parent))
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    shard = index.parent / max(names.values())
    shard.unlink()
    for make, said in (
        (lambda _: None, "is not there"),
        (os.mkfifo, "a FIFO"),
        (lambda path: path.symlink_to(path), ""),
    ):
        make(shard)
        with pytest.raises(LLMDiffError, match=rf"{shard.name}.*{said}.*fetch the model again"):
            LanguageModel.load(str(index.parent))
        shard.unlink(missing_ok=True)


@pytest.mark.fault("missing weights")
def test_weights_of_a_larger_model_and_of_whole_numbers_are_told(folder: Path) -> None:
    config, file = folder / "config.json", folder / "model.safetensors"
    whole, weights = config.read_text(), load_file(file)
    config.write_text(json.dumps(json.loads(whole) | {"num_hidden_layers": 2}))
    with pytest.warns(UserWarning, match="are of a larger model than its config: blocks from 2 on are not read"):
        LanguageModel.load(str(folder))
    config.write_text(whole)
    save_file({name: weight.to(torch.int8) for name, weight in weights.items()}, file, {"format": "pt"})
    with pytest.raises(LLMDiffError, match=r"is of the type I8, and its config speaks of no quantisation"):
        LanguageModel.load(str(folder))
