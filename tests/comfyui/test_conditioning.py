"""The CONDITIONING of a prompt, and what the wrappers of a model make of it, without ComfyUI."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapter.tiny import build_sd
from comfyui.tiny import build_adapter, joint_of
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.conditioning import split
from llmdiff.comfyui import condition
from llmdiff.comfyui.conditioning import MADE_BY
from llmdiff.comfyui.patches import CALL
from llmdiff.comfyui.wrappers import Conditioned
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel

W, D = 24, 8
CPU = torch.zeros(1)


@dataclass
class Crossattn:
    """As ComfyUI has text features on their way to a model."""

    cond: Tensor


@pytest.fixture(scope="module")
def pipe() -> Any:
    return build_sd()


@pytest.fixture(scope="module")
def augment(pipe: Any, llm: LanguageModel) -> LLMDiffAdapter:
    return build_adapter(pipe, llm, "augment")


@pytest.fixture(scope="module")
def replace(pipe: Any, llm: LanguageModel) -> LLMDiffAdapter:
    return build_adapter(pipe, llm, "replace")


def own(rows: int = 1, tokens: int = 16) -> Any:
    return [[torch.randn(rows, tokens, W), {"pooled_output": torch.ones(rows, 3), "strength": 0.5}]]


def wrappers(adapter: LLMDiffAdapter, scale: float = 1.0) -> Conditioned:
    return Conditioned(joint_of(adapter, "me"), {}, scale, {})


def given_to_model(wrapped: Conditioned, text: Tensor | None, **others: Any) -> dict[str, Any]:
    """The arguments that a model gets."""
    got: dict[str, Any] = {}

    def model(x: Tensor, t: Tensor, concat: Any, text: Any, control: Any, options: Any, **rest: Any) -> Tensor:
        got.update(text=text, options=options, **rest)
        return x

    wrapped.apply_model(model, CPU, CPU, None, text, None, {"uuids": [1]}, **others)
    return got


def test_text_features_carry_the_encoding_and_settings_stay(augment: LLMDiffAdapter) -> None:
    before = own(rows=2)
    [[joined, kept]] = condition(augment, "a red cup", before, made_by="me")
    features, embeds = split(joined, W, D)
    assert embeds is not None
    assert torch.equal(features, before[0][0])
    encoding = augment.encode(["a red cup"])
    assert torch.equal(embeds[:, : encoding.embeds.shape[1]], encoding.embeds.expand(2, -1, -1))
    assert not embeds[:, encoding.embeds.shape[1] :].any()
    assert kept == {**before[0][1], MADE_BY: "me"}
    assert MADE_BY not in before[0][1]


def test_each_conditioning_of_several_carries_it(augment: LLMDiffAdapter) -> None:
    made = condition(augment, "a red cup " * 9, own(tokens=16) + own(tokens=32))
    assert [tuple(features.shape[:2]) for features, _ in made] == [(1, 16), (1, 32)]
    (_, few), (_, many) = (split(features, W, D) for features, _ in made)
    assert few is not None
    assert many is not None
    length = augment.encode(["a red cup " * 9]).embeds.shape[1]
    assert torch.equal(few[:, :length], many[:, :length])


def test_replace_mode_makes_text_features_of_its_own(replace: LLMDiffAdapter) -> None:
    for text, tokens in (("", 77), ("a red cup", 77), ("a red cup " * 12, 154)):
        [[joined, kept]] = condition(replace, text)
        assert joined.shape == (1, tokens, W + D)
        assert "pooled_output" not in kept
        expected = replace.text(replace.encode([text])).prompt_embeds
        torch.testing.assert_close(joined[:, : expected.shape[1], :W], expected)
        assert not joined[:, expected.shape[1] :].any()


def test_weights_of_a_prompt_are_read_if_asked_for(replace: LLMDiffAdapter) -> None:
    [[weighted, _]], [[plain, _]] = condition(replace, "a (red:1.5) cup"), condition(replace, "a red cup")
    [[as_text, _]] = condition(replace, "a (red:1.5) cup", prompt_weights=False)
    of_weighted, of_plain = weighted[0, :, W:].norm(dim=-1), plain[0, :, W:].norm(dim=-1)
    ratios = (of_weighted / of_plain).nan_to_num(0)
    assert ratios.max() == pytest.approx(1.5)
    assert as_text[0, :, W:].any(-1).sum() > plain[0, :, W:].any(-1).sum()


def test_what_is_missing_or_too_much_is_told_in_a_sentence(augment: LLMDiffAdapter, replace: LLMDiffAdapter) -> None:
    with pytest.raises(LLMDiffError, match="connect clip or conditioning too"):
        condition(augment, "a cup")
    with pytest.raises(LLMDiffError, match="connect neither clip nor conditioning"):
        condition(replace, "a cup", own())
    with pytest.raises(LLMDiffError, match="have a width of 32, and the adapter's model takes 24"):
        condition(augment, "a cup", condition(augment, "a cup", own()))


def test_the_model_gets_its_text_features_and_the_patches_the_rows(augment: LLMDiffAdapter) -> None:
    [[joined, _]] = condition(augment, "a red cup", before := own())
    got = given_to_model(wrappers(augment), joined, y=3)
    assert torch.equal(got["text"], before[0][0])
    assert got["options"]["uuids"] == [1]
    assert got["y"] == 3
    assert torch.equal(got["options"][CALL].rows.mask[0, :16], joined[0, :, W:].any(-1))


def test_without_an_encoding_or_a_scale_it_is_the_models_own_call(augment: LLMDiffAdapter) -> None:
    [[joined, _]] = condition(augment, "a red cup", before := own())
    plain = before[0][0]
    for wrapped, text in ((wrappers(augment), plain), (wrappers(augment, 0.0), joined)):
        got = given_to_model(wrapped, text)
        assert torch.equal(got["text"], plain)
        assert got["options"][CALL] is None
    assert given_to_model(wrappers(augment), None)["options"][CALL] is None


def test_a_call_does_not_leave_its_rows_to_the_next(augment: LLMDiffAdapter) -> None:
    wrapped, shared = wrappers(augment), {"uuids": [1]}
    [[joined, _]] = condition(augment, "a red cup", own())
    wrapped.apply_model(lambda *_: CPU, CPU, CPU, None, joined, None, shared)
    assert shared == {"uuids": [1]}


def test_replace_mode_refuses_text_without_an_encoding(replace: LLMDiffAdapter) -> None:
    with pytest.raises(LLMDiffError, match="make it with LLMDiff Encode, the negative one too"):
        given_to_model(wrappers(replace), torch.zeros(1, 77, W))


def test_a_conditioning_of_another_width_is_refused(augment: LLMDiffAdapter) -> None:
    with pytest.raises(LLMDiffError, match="width 27 was made for another model or by another adapter"):
        given_to_model(wrappers(augment), torch.zeros(1, 77, W + 3))


def test_a_conditioning_of_another_adapter_is_refused(augment: LLMDiffAdapter) -> None:
    ours, foreign = ({"model_conds": {}, MADE_BY: made_by} for made_by in ("me", "another"))
    wrappers(augment).calc_cond_batch(lambda *_: None, None, [[ours], None], CPU, CPU, {})
    with pytest.raises(LLMDiffError, match="by another adapter than the model has"):
        wrappers(augment).calc_cond_batch(lambda *_: None, None, [[foreign]], CPU, CPU, {})


def for_controlnet(adapter: LLMDiffAdapter, text: Tensor, **others: Any) -> dict[str, Any]:
    """The features that a conditioning with these has for its model, after batching."""
    conds: list[Any] = [[{"model_conds": {"c_crossattn": Crossattn(text)}, **others}]]
    got = []
    wrappers(adapter).calc_cond_batch(lambda _, conds, *__: got.append(conds), None, conds, CPU, CPU, {})
    assert "crossattn_controlnet" not in conds[0][0]["model_conds"]
    kept: dict[str, Any] = got[0][0][0]["model_conds"]
    return kept


def test_controlnets_get_text_features_without_encoding_and_padding(
    augment: LLMDiffAdapter, replace: LLMDiffAdapter
) -> None:
    [[joined, _]] = condition(augment, "a red cup", before := own())
    assert torch.equal(for_controlnet(augment, joined, control=1)["crossattn_controlnet"].cond, before[0][0])
    assert "crossattn_controlnet" not in for_controlnet(augment, joined)
    [[joined, _]] = condition(replace, "a red cup")
    expected = replace.text(replace.encode(["a red cup"])).prompt_embeds
    torch.testing.assert_close(for_controlnet(replace, joined, control=1)["crossattn_controlnet"].cond, expected)
    twice = torch.cat([joined, joined], 1)  # as nodes that concatenate do
    got = for_controlnet(replace, twice, control=1)["crossattn_controlnet"].cond
    torch.testing.assert_close(got, torch.cat([expected, expected], 1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=8))
def test_rows_are_known_again_by_their_content_alone(augment: LLMDiffAdapter, calls: list[tuple[int, int]]) -> None:
    """Whatever is called in whatever order, the rows are those of the very call."""
    wrapped = wrappers(augment)
    seen: dict[tuple[int, int], int] = {}
    for number, (seed, rows) in enumerate(calls):
        text = torch.randn(rows, 2, W + D, generator=torch.Generator().manual_seed(seed))
        got = given_to_model(wrapped, text.clone())["options"][CALL].rows
        assert torch.equal(got.embeds.reshape(rows, 2, D), text[..., W:])
        if number and calls[number - 1] == (seed, rows):
            assert id(got) == seen[seed, rows]
        seen[seed, rows] = id(got)
