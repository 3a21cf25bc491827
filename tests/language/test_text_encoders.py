"""Text encoders of other architectures through the same interface (docs/method.md section 2, the table)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextModel

from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, extract_stack, extract_sum, tokenize
from tiny_text import (
    ENCODER_DECODERS,
    ENCODERS,
    SIZES,
    SPECIAL,
    VOCABULARY,
    build_text_model,
    encoder_tokenizer,
    save_bert,
)

PROMPTS = ["a cat sat on a mat", "a", ""]
EXTRACTIONS = ["last", "penultimate", "layer:1", "mean", "norm-mean", "weighted", "signed"]


def take(name: str) -> LanguageModel:
    return LanguageModel.from_model(build_text_model(name), encoder_tokenizer(), name)


def read(llm: LanguageModel, prompt: str, extraction: str) -> Tensor:
    config = ExtractionConfig(extraction=extraction)
    weights = TextEncoding(config, llm.width, llm.block_count).weights()
    return extract_sum(llm, tokenize(llm, [prompt], config), config, weights.detach())


@pytest.mark.parametrize("name", [*ENCODERS, *ENCODER_DECODERS])
def test_states_are_those_of_the_encoder(name: str) -> None:
    model, llm = build_text_model(name), take(name)
    assert (llm.width, llm.block_count) == (32, 3)
    assert llm.architecture == ("encoder-only" if name in ENCODERS else "encoder-decoder")
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    out = encoder(input_ids=tokenize(llm, ["a cat"], ExtractionConfig()).ids, output_hidden_states=True)
    torch.testing.assert_close(read(llm, "a cat", "last"), out.last_hidden_state)
    torch.testing.assert_close(read(llm, "a cat", "penultimate"), out.hidden_states[-2])
    torch.testing.assert_close(read(llm, "a cat", "layer:1"), out.hidden_states[1])


@pytest.mark.parametrize("extraction", EXTRACTIONS)
@pytest.mark.parametrize("name", [*ENCODERS, *ENCODER_DECODERS])
def test_padding_changes_nothing(name: str, extraction: str) -> None:
    llm, config = take(name), ExtractionConfig(extraction=extraction)
    _, stack = extract_stack(llm, tokenize(llm, PROMPTS, config), config)
    for row, prompt in enumerate(PROMPTS):
        own = tokenize(llm, [prompt], config)
        _, alone = extract_stack(llm, own, config)
        length = own.ids.shape[1]
        torch.testing.assert_close(stack[:, row, :length], alone[:, 0], rtol=1e-4, atol=1e-4)
        assert not stack[:, row, length:].any()


@pytest.mark.parametrize("name", [*ENCODERS, *ENCODER_DECODERS])
def test_the_papers_extraction_is_refused(name: str) -> None:
    llm = take(name)
    tokens = tokenize(llm, PROMPTS, ExtractionConfig())
    for refuse in (
        lambda: extract_stack(llm, tokens, ExtractionConfig()),
        lambda: llm.resolve_extraction(ExtractionConfig(extraction="llmdiff")),
    ):
        with pytest.raises(
            LLMDiffError, match=r"needs a decoder-only LLM, and .* is encoder-.*choose the extraction last"
        ):
            refuse()


def test_where_no_extraction_is_chosen_it_is_the_usual_one(tiny_llm: LanguageModel) -> None:
    assert tiny_llm.resolve_extraction(None) == ExtractionConfig()
    assert take("BERT").resolve_extraction(None).extraction == "last"
    assert take("BERT").resolve_extraction(ExtractionConfig(max_tokens=9)) == ExtractionConfig(
        max_tokens=9, extraction="last"
    )
    assert take("BERT").resolve_extraction(ExtractionConfig(extraction="mean")).extraction == "mean"


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "CLIP", "T5"])
def test_long_prompts_are_cut_to_what_the_encoder_reads(name: str) -> None:
    llm, config = take(name), ExtractionConfig(extraction="last")
    with pytest.warns(UserWarning, match="are cut"):
        encoding = encode(llm, [f"{name} word " * 50], config, TextEncoding(config, 32, 3).eval())
    assert encoding.mask.sum() == 60  # the tokenizer's own limit, below what the positions would allow
    assert torch.isfinite(encoding.embeds).all()


def test_only_the_text_tower_of_an_image_text_model_is_loaded(tmp_path: Path) -> None:
    text = SIZES | SPECIAL | {"max_position_embeddings": 77}
    vision = {key: value for key, value in SIZES.items() if key != "vocab_size"} | {"image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(tmp_path)
    encoder_tokenizer().save_pretrained(tmp_path)
    llm = LanguageModel.load(str(tmp_path))
    assert isinstance(llm.model, CLIPTextModel)
    assert (llm.architecture, llm.config.vocab_size) == ("encoder-only", VOCABULARY)


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DistilBERT", "CLIP", *ENCODER_DECODERS])
def test_a_saved_encoder_reads_as_it_did(name: str, tmp_path: Path) -> None:
    given = take(name)
    build_text_model(name).save_pretrained(tmp_path)
    encoder_tokenizer().save_pretrained(tmp_path)
    loaded = LanguageModel.load(str(tmp_path))
    assert loaded.architecture == given.architecture
    torch.testing.assert_close(read(loaded, "a cat", "last"), read(given, "a cat", "last"))
    assert loaded.identity() | {"name": 0} == given.identity() | {"name": 0}


def test_a_missing_pooler_does_not_matter_and_a_missing_block_does(tmp_path: Path) -> None:
    weights = load_file(save_bert(tmp_path) / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert LanguageModel.load(str(tmp_path)).block_count == 3
    kept = {name: weight for name, weight in kept.items() if "layer.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LLMDiffError, match=r"lack .*layer\.1"):
        LanguageModel.load(str(tmp_path))


def test_the_embedded_bases_own_text_encoder_is_read_with_the_tokenizer_beside_it() -> None:
    llm = LanguageModel.load("base-text")
    assert (llm.architecture, llm.width, llm.block_count) == ("encoder-only", 128, 3)
    pipe = load_pipeline("embedded")
    config = llm.resolve_extraction(None)
    prompt = "a red ball left of a blue cup"
    ids = pipe.tokenizer(prompt, return_tensors="pt").input_ids
    assert torch.equal(tokenize(llm, [prompt], config).ids, ids)
    torch.testing.assert_close(read(llm, prompt, "last"), pipe.text_encoder(ids).last_hidden_state)
