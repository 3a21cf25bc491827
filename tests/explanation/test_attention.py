"""Attention maps of tiny models of several families, in both modes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.tiny import build_hunyuan, build_pixart, build_sana, build_sd, build_sdxl, perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.explanation import draw_attention
from llmdiff.explanation.recorder import AttentionRecorder, grid_of, last_row_attention
from llmdiff.generation import PictureSettings, Renderer
from llmdiff.language import LanguageModel

FAMILIES = {
    "sd": build_sd,
    "sdxl": build_sdxl,
    "pixart": build_pixart,
    "sana": build_sana,
    "hunyuan": build_hunyuan,
}
PROMPT = "a cat, the ball"


def make_renderer(build: Callable[[], Any], llm: LanguageModel, mode: str) -> Renderer:
    """A tiny base model with an adapter that visibly changes its pictures."""
    pipe = build()
    return Renderer(pipe, perturb(LLMDiffAdapter.create(pipe, llm, mode=mode)).requires_grad_(False))


def picture(renderer: Renderer, prompt: str = PROMPT, **changes: Any) -> PictureSettings:
    width, height = renderer.default_size()
    values = {"steps": 2, "guidance": 3.0, "scale": 1.0, "seed": 1, "width": width, "height": height} | changes
    return PictureSettings(prompt=prompt, **values)


@pytest.fixture(scope="module")
def sd(tiny_llm: LanguageModel) -> Renderer:
    return make_renderer(build_sd, tiny_llm, "augment")


CASES = [(name, mode) for name in FAMILIES for mode in ("augment", "replace") if (name, mode) != ("hunyuan", "replace")]


@pytest.mark.parametrize(("family", "mode"), CASES)
def test_looking_changes_no_bit_of_the_picture(family: str, mode: str, tiny_llm: LanguageModel) -> None:
    renderer = make_renderer(FAMILIES[family], tiny_llm, mode)
    settings = picture(renderer)
    plain = renderer.draw(settings)
    found = draw_attention(renderer, settings)
    assert np.array_equal(np.asarray(plain), np.asarray(found.image))
    assert np.array_equal(np.asarray(plain), np.asarray(renderer.draw(settings)))
    assert [word.text for word in found.words] == ["a", "cat", "the", "ball"]
    assert found.adapter is not None
    for maps in (found.text, found.adapter):
        assert maps is not None
        assert maps.ndim == 3
        assert len(maps) == 4
        assert (maps >= 0).all()
        assert (maps.sum(0) <= 1 + 1e-5).all()
        assert (maps.mean((1, 2)) > 0).all()


def test_the_base_model_alone_is_looked_at_too(sd: Renderer) -> None:
    settings = picture(sd)
    with sd.base_alone():
        plain = sd.draw(settings)
    found = draw_attention(sd, settings, with_adapter=False)
    assert np.array_equal(np.asarray(plain), np.asarray(found.image))
    assert found.adapter is None
    assert found.text is not None
    assert np.array_equal(np.asarray(sd.draw(settings)), np.asarray(draw_attention(sd, settings).image))


def test_an_adapter_that_is_dialled_to_nothing_attends_nothing(sd: Renderer) -> None:
    assert draw_attention(sd, picture(sd, scale=0.0)).adapter is None


def test_all_tokens_together_have_all_attention_at_each_place(sd: Renderer) -> None:
    assert sd.adapter is not None
    with AttentionRecorder(ImageModel(sd.pipe), sd.adapter.named_branches()) as recorder:
        sd.draw(picture(sd))
    for source in ("text", "adapter"):
        maps = recorder.maps(source)
        assert maps is not None
        torch.testing.assert_close(maps.sum(0), torch.ones(maps.shape[1:]))


def test_without_keys_every_token_of_the_prompt_has_the_same_share(tiny_llm: LanguageModel) -> None:
    renderer = make_renderer(build_sd, tiny_llm, "augment")
    assert renderer.adapter is not None
    with torch.no_grad():
        for branch in renderer.adapter.named_branches().values():
            branch.key.weight.zero_()
    found = draw_attention(renderer, picture(renderer, "cat ball"))
    assert found.adapter is not None  # "c", "at", " ", "b", "a", "l", "l" by the merges of the tiny tokenizer
    np.testing.assert_allclose(found.adapter[0], 2 / 7, rtol=1e-5)
    np.testing.assert_allclose(found.adapter[1], 4 / 7, rtol=1e-5)


def test_words_in_brackets_are_those_without_their_weights(sd: Renderer) -> None:
    found = draw_attention(sd, picture(sd, "a (cat:1.3)", prompt_weights=True))
    assert [word.text for word in found.words] == ["a", "cat"]
    assert found.adapter is not None
    assert (found.adapter.mean((1, 2)) > 0).all()


def test_attention_that_cannot_be_seen_is_an_error(sd: Renderer) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    before = sd.pipe.unet.attn_processors
    sd.pipe.unet.set_attn_processor(AttnProcessor())
    try:
        with pytest.raises(LLMDiffError, match="cannot be seen"):
            draw_attention(sd, picture(sd))
    finally:
        sd.pipe.unet.set_attn_processor(before)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 2), heads=st.integers(1, 3), places=st.integers(1, 5), tokens=st.integers(1, 5),
    masked=st.sampled_from([None, "bool", "bias"]), scale=st.sampled_from([None, 0.3]),
)  # fmt: skip
def test_probabilities_are_those_of_torch(
    rows: int, heads: int, places: int, tokens: int, masked: str | None, scale: float | None
) -> None:
    q, k = torch.randn(rows, heads, places, 4), torch.randn(rows, heads, tokens, 4)
    keep = torch.rand(rows, 1, 1, tokens) < 0.5
    keep[..., 0] = True
    mask = {None: None, "bool": keep, "bias": torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))}[masked]
    values = torch.eye(tokens).expand(rows, heads, tokens, tokens)
    expected = F.scaled_dot_product_attention(q, k, values, attn_mask=mask, scale=scale)[-1].mean(0)
    torch.testing.assert_close(last_row_attention(q, k, values, attn_mask=mask, scale=scale), expected)


@given(height=st.integers(1, 40), width=st.integers(1, 40), halvings=st.integers(0, 3))
def test_the_grid_of_a_layer_is_found(height: int, width: int, halvings: int) -> None:
    side = 2**halvings
    rows, columns = -(-height // side), -(-width // side)
    grid = grid_of(rows * columns, height, width)
    assert grid is not None
    assert grid[0] * grid[1] == rows * columns
