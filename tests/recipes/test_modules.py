"""The embedded base's parts: a tokenizer for plain captions, and a pipeline like any Stable Diffusion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import CLIPTokenizer

from embedded_base import modules, train_base
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.scenes.captions import NUMBERS, PLACES, plain_caption, plural
from llmdiff.scenes.scene import RELATIONS, sample_scene
from llmdiff.scenes.vocabulary import COLOURS, KINDS, SIZES


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return modules.plain_tokenizer()


@pytest.fixture(scope="module")
def pipe(tokenizer: CLIPTokenizer) -> Any:
    """An untrained embedded base."""
    torch.manual_seed(0)
    objective = train_base.BaseObjective(
        torch.zeros(1, 8, 16, 16), tokenizer, modules.text_encoder(tokenizer).eval(), precision=torch.float32
    )
    pipe = train_base.pipeline(objective, modules.autoencoder().eval())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_words() -> set[str]:
    phrases = [*NUMBERS[1:], "an", "and", *PLACES.values(), *RELATIONS, *COLOURS, *SIZES, *KINDS, *map(plural, KINDS)]
    return {word for phrase in phrases for word in phrase.split()}


def test_every_word_of_plain_captions_is_one_token(tokenizer):
    for word in plain_words():
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, word
        assert tokenizer.decode(ids).strip() == word


def test_captions_come_back_from_their_tokens(tokenizer):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        text = plain_caption(sample_scene(rng), rng).text
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert len(ids) == len(text.replace(",", " ,").split()) + 2 <= modules.TEXT_TOKENS
        assert tokenizer.decode(ids, skip_special_tokens=True).split() == text.replace(",", " ,").split()


def test_any_other_text_is_spelled_and_upper_case_read_as_lower(tokenizer):
    ids = tokenizer("A Vermilion zeppelin?", add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids == tokenizer("a vermilion ZEPPELIN?", add_special_tokens=False)["input_ids"]


def test_the_tokenizer_is_the_same_after_saving_and_when_made_again(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again, anew = CLIPTokenizer.from_pretrained(tmp_path), modules.plain_tokenizer()
    assert again.get_vocab() == anew.get_vocab() == tokenizer.get_vocab()
    for text in ("two blue boxes left of a cup", "Sphinx of black quartz!", ""):
        assert again(text)["input_ids"] == anew(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.model_max_length == modules.TEXT_TOKENS


def test_training_reads_captions_as_the_pipeline_does(pipe, tokenizer):
    captions = ["a red ball by day", "", " ".join(["a red ball and"] * 20)]
    context = pipe.encode_prompt(captions, "cpu", 1, False)[0]
    with torch.no_grad():
        expected = pipe.text_encoder(modules.token_ids(tokenizer, captions)).last_hidden_state
    assert context.shape == (3, modules.TEXT_TOKENS, modules.TEXT_WIDTH)
    assert torch.equal(context, expected)


def test_the_schedule_ends_in_pure_noise():
    scheduler = modules.scheduler()
    assert scheduler.alphas_cumprod[-1] < 1e-9
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999
    assert scheduler.config.prediction_type == "v_prediction"


def draw(pipe: Any) -> np.ndarray:
    rng = torch.Generator().manual_seed(1)
    return pipe("a red ball", num_inference_steps=1, generator=rng, output_type="np").images


def test_a_stock_pipeline_loads_what_was_saved_and_draws_the_same(pipe, tmp_path: Path):
    """Up to rounding: in training the U-Net's weights lie channels-last."""
    picture = draw(pipe)
    assert picture.shape == (1, 64, 64, 3)
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded).__name__ == "StableDiffusionPipeline"
    assert loaded.vae_scale_factor == 4
    assert np.allclose(draw(loaded), picture, atol=1e-4)


def test_an_adapter_fits(pipe, tiny_llm):
    adapter = LLMDiffAdapter.create(pipe, tiny_llm, mode="replace")
    assert adapter.config.base.context_width == modules.TEXT_WIDTH
    assert len(adapter.named_branches()) == 4


def test_a_sheet_of_samples(pipe, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(train_base, "SAMPLE_PROMPTS", ("a cup", "a ball"))
    call = type(pipe).__call__
    monkeypatch.setattr(
        type(pipe), "__call__", lambda *args, **options: call(*args, **options | {"num_inference_steps": 1})
    )
    train_base.sample(pipe, tmp_path / "samples" / "1.png")
    with Image.open(tmp_path / "samples" / "1.png") as sheet:
        assert sheet.size == (128, 64)
