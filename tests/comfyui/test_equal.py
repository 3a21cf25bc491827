"""What ComfyUI predicts with our join is what diffusers predicts with the adapter attached."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapter.tiny import build_sd
from comfyui import installation
from comfyui.sampling import comfyui_noise, diffusers_noise, latents
from comfyui.tiny import SHAPE, Forms, build_adapter, build_model, features_of, full, joint_of, lora_patch
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.config import Mode
from llmdiff.base import ImageModel
from llmdiff.comfyui import condition, join_model, set_scale
from llmdiff.comfyui.model import conditioned
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel

pytestmark = installation.needed
PROMPT, NEGATIVE = "a red cup on a box", "blurred"
MODES: tuple[Mode, ...] = ("augment", "replace")


def encode(pipe: Any, adapter: LLMDiffAdapter, text: str) -> Any:
    """The CONDITIONING of a prompt, of the same text features that the pipeline has of it."""
    if adapter.config.mode == "replace":
        return condition(adapter, text)
    features, settings = features_of(pipe, text)
    return condition(adapter, text, [[features, settings]])


def noise(model: Any, x: Tensor, forms: Forms, adapter: LLMDiffAdapter, **others: Any) -> Tensor:
    positive, negative = encode(forms.pipe, adapter, PROMPT), encode(forms.pipe, adapter, NEGATIVE)
    return comfyui_noise(model, x, positive, negative, **others)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=5e-4)


@pytest.fixture(params=MODES)
def adapter(request: pytest.FixtureRequest, sd: Forms, llm: LanguageModel) -> LLMDiffAdapter:
    return build_adapter(sd.pipe, llm, request.param)


@pytest.fixture
def augment(sd: Forms, llm: LanguageModel) -> LLMDiffAdapter:
    return build_adapter(sd.pipe, llm, "augment")


@pytest.mark.parametrize("mode", MODES)
def test_both_forms_predict_the_same_noise(forms: Forms, llm: LanguageModel, mode: Mode) -> None:
    adapter = build_adapter(forms.pipe, llm, mode)
    x = latents(2)
    ours = noise(join_model(forms.model, joint_of(adapter)), x, forms, adapter)
    theirs = diffusers_noise(forms.pipe, adapter, x, PROMPT, NEGATIVE)
    base = diffusers_noise(forms.pipe, None, x, PROMPT, NEGATIVE)
    assert_equal(ours, theirs)
    assert (theirs - base).abs().max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_an_adapter_with_a_refiner_and_a_lora_does_so_at_any_scale(
    forms: Forms, llm: LanguageModel, mode: Mode
) -> None:
    adapter, x = full(forms.pipe, llm, mode), latents()
    model = join_model(forms.model, joint_of(adapter), 0.3, lora_patch)
    for scale in (0.3, 1.2):
        adapter.scale = scale
        ours = noise(set_scale(model, scale), x, forms, adapter)
        assert_equal(ours, diffusers_noise(forms.pipe, adapter, x, PROMPT, NEGATIVE))
    assert_equal(noise(model, x, forms, adapter), noise(set_scale(set_scale(model, 2.0), 0.3), x, forms, adapter))


def test_a_prompt_longer_than_the_text_encoder_reads_is_read_by_the_llm(sd: Forms, adapter: LLMDiffAdapter) -> None:
    x, text = latents(), "a red cup on a box " * 6
    model = join_model(sd.model, joint_of(adapter))
    ours = comfyui_noise(model, x, encode(sd.pipe, adapter, text), encode(sd.pipe, adapter, ""))
    assert_equal(ours, diffusers_noise(sd.pipe, adapter, x, text, ""))


def test_at_scale_0_augment_mode_is_the_model_alone_to_the_bit(sd: Forms, augment: LLMDiffAdapter) -> None:
    x = latents()
    features, settings = features_of(sd.pipe, PROMPT)
    base = comfyui_noise(sd.model, x, [[features, settings]], [[features, settings]])
    ours = encode(sd.pipe, augment, PROMPT)
    assert torch.equal(base, comfyui_noise(join_model(sd.model, joint_of(augment), 0.0), x, ours, ours))


def test_the_model_itself_is_not_changed(sd: Forms, adapter: LLMDiffAdapter) -> None:
    x = latents()
    features, settings = features_of(sd.pipe, PROMPT)
    plain = [[features, settings]]
    before = comfyui_noise(sd.model, x, plain, plain)
    model = join_model(sd.model, joint_of(adapter))
    noise(model, x, sd, adapter)
    assert torch.equal(before, comfyui_noise(sd.model, x, plain, plain))
    branches = {id(joined.branch) for joined in conditioned(model.clone().clone()).layers.values()}
    assert branches == {id(branch) for branch in adapter.named_branches().values()}


def test_a_conditioning_without_encoding_beside_one_with_it(sd: Forms, augment: LLMDiffAdapter) -> None:
    """A negative prompt of the model's own text encoder is the base model's, as it is in diffusers."""
    x = latents()
    features, settings = features_of(sd.pipe, NEGATIVE)
    model = join_model(sd.model, joint_of(augment))
    ours = comfyui_noise(model, x, encode(sd.pipe, augment, PROMPT), [[features, settings]])
    without = diffusers_noise(sd.pipe, None, x, NEGATIVE, "", cfg=1.0)
    with_llm = diffusers_noise(sd.pipe, augment, x, PROMPT, "", cfg=1.0)
    assert_equal(ours, without + 3.0 * (with_llm - without))


def test_in_replace_mode_it_is_refused_in_a_sentence(sd: Forms, llm: LanguageModel) -> None:
    adapter = build_adapter(sd.pipe, llm, "replace")
    features, settings = features_of(sd.pipe, NEGATIVE)
    with pytest.raises(LLMDiffError, match="make it with LLMDiff Encode, the negative one too"):
        comfyui_noise(
            join_model(sd.model, joint_of(adapter)), latents(), condition(adapter, PROMPT), [[features, settings]]
        )


def test_combined_conditionings_have_their_own_parts_of_a_picture(sd: Forms, adapter: LLMDiffAdapter) -> None:
    """Two prompts, each with a mask: what is in one's part is what it predicts alone."""
    x, texts = latents(), (PROMPT, "a blue box")
    model = join_model(sd.model, joint_of(adapter))
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :, :4], masks[1, :, :, 4:] = 1, 1
    negative = encode(sd.pipe, adapter, "")
    both = []
    for text, mask in zip(texts, masks, strict=True):
        [[joined, settings]] = encode(sd.pipe, adapter, text)
        both.append([joined, {**settings, "mask": mask, "mask_strength": 1.0}])
    ours = comfyui_noise(model, x, both, negative)
    left, right = (diffusers_noise(sd.pipe, adapter, x, text, "") for text in texts)
    assert_equal(ours[..., :4], left[..., :4])
    assert_equal(ours[..., 4:], right[..., 4:])
    assert (left - right).abs().max() > 0.01


def test_an_area_of_a_picture_is_drawn_as_a_picture_of_its_size(sd: Forms, adapter: LLMDiffAdapter) -> None:
    x = latents()
    model = join_model(sd.model, joint_of(adapter))
    [[joined, settings]] = encode(sd.pipe, adapter, PROMPT)
    whole, negative = encode(sd.pipe, adapter, "a box")[0], encode(sd.pipe, adapter, "")
    alone = comfyui_noise(model, x, [whole], negative, cfg=1.0)
    part = diffusers_noise(sd.pipe, adapter, x[..., :4, :4], PROMPT, "", cfg=1.0)
    area = {**settings, "area": (4, 4, 0, 0), "strength": 1.0}
    ours = comfyui_noise(model, x, [whole, [joined, area]], negative, cfg=1.0)
    assert_equal(ours[..., 4:, :], alone[..., 4:, :])
    assert_equal(ours[..., :1, :1], (part[..., :1, :1] + alone[..., :1, :1]) / 2)


@contextmanager
def joined(pipe: Any, adapter: LLMDiffAdapter) -> Iterator[Any]:
    adapter.join(ImageModel(pipe))
    try:
        yield pipe.unet
    finally:
        adapter.detach()


@pytest.mark.parametrize("how", ["concatenated", "averaged", "zeroed"])
def test_what_nodes_do_to_text_features_they_do_to_the_encoding(sd: Forms, adapter: LLMDiffAdapter, how: str) -> None:
    """ComfyUI's nodes, and the same arithmetic on what diffusers' U-Net is given."""
    import nodes

    first, second = encode(sd.pipe, adapter, PROMPT), encode(sd.pipe, adapter, "a blue box")
    if how == "concatenated":
        (made,) = nodes.ConditioningConcat().concat(first, second)
        text = torch.cat([first[0][0], second[0][0]], 1)
    elif how == "averaged":
        (made,) = nodes.ConditioningAverage().addWeighted(first, second, 0.3)
        text = 0.3 * first[0][0] + 0.7 * second[0][0]
    else:
        (made,) = nodes.ConditioningZeroOut().zero_out(first)
        text = torch.zeros_like(first[0][0])
    x, negative = latents(), encode(sd.pipe, adapter, "")
    ours = comfyui_noise(join_model(sd.model, joint_of(adapter)), x, made, negative)
    with joined(sd.pipe, adapter) as unet, torch.no_grad():
        without, prompt = (unet(x, 300, encoder_hidden_states=one).sample for one in (negative[0][0], text))
    assert_equal(ours, without + 3.0 * (prompt - without))


def test_prompts_of_different_lengths_are_one_call_if_their_text_features_allow(
    sd: Forms, adapter: LLMDiffAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI repeats the shorter text features; what repeats of an encoding changes nothing either."""
    x, text = latents(), PROMPT
    negative = encode(sd.pipe, adapter, NEGATIVE)
    longer = [[torch.cat([features, features], 1), settings] for features, settings in negative]
    model = join_model(sd.model, joint_of(adapter))
    rows = []
    wrapped = conditioned(model)
    own = wrapped._rows
    monkeypatch.setattr(wrapped, "_rows", lambda embeds, device: rows.append(len(embeds)) or own(embeds, device))
    ours = comfyui_noise(model, x, encode(sd.pipe, adapter, text), longer)
    assert rows == [2]
    assert_equal(ours, diffusers_noise(sd.pipe, adapter, x, text, NEGATIVE))


def test_keys_and_values_are_made_once_for_all_steps(sd: Forms, adapter: LLMDiffAdapter) -> None:
    made: list[int] = []
    for branch in adapter.named_branches().values():
        branch.key.register_forward_hook(lambda *_: made.append(1))
    model = join_model(sd.model, joint_of(adapter))
    noise(model, latents(), sd, adapter, steps=3)
    assert len(made) == len(adapter.named_branches())
    assert not conditioned(model)._recent, "kept after sampling"


def test_two_models_with_two_adapters_do_not_disturb_each_other(sd: Forms, llm: LanguageModel) -> None:
    x = latents()
    adapters = [build_adapter(sd.pipe, llm, mode, seed=seed) for seed, mode in enumerate(MODES)]
    models = [join_model(sd.model, joint_of(adapter)) for adapter in adapters]
    alone = [diffusers_noise(sd.pipe, adapter, x, PROMPT, NEGATIVE) for adapter in adapters]
    for _ in range(2):
        for model, adapter, theirs in zip(models, adapters, alone, strict=True):
            assert_equal(noise(model, x, sd, adapter), theirs)


def replacing(model: Any) -> Any:
    """A clone whose layers attend by another node's function, as IP-Adapters have it, that changes nothing."""

    def attend(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        parts = (one.unflatten(-1, (options["n_heads"], -1)).transpose(1, 2) for one in (query, key, value))
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)

    model = model.clone()
    for side, numbers in (("input", range(12)), ("middle", (0,)), ("output", range(12))):
        for number in numbers:
            model.set_model_attn2_replace(attend, side, number)
            model.set_model_attn2_replace(attend, side, number, 0)
    return model


def test_nodes_that_replace_the_attention_go_beside_augment_mode(sd: Forms, augment: LLMDiffAdapter) -> None:
    x = latents()
    theirs = diffusers_noise(sd.pipe, augment, x, PROMPT, NEGATIVE)
    for model in (
        replacing(join_model(sd.model, joint_of(augment))),
        join_model(replacing(sd.model), joint_of(augment)),
    ):
        assert_equal(noise(model, x, sd, augment), theirs)


def test_in_replace_mode_they_are_refused_in_a_sentence(sd: Forms, llm: LanguageModel) -> None:
    adapter = build_adapter(sd.pipe, llm, "replace")
    with pytest.raises(LLMDiffError, match="put its own attention in the place"):
        noise(replacing(join_model(sd.model, joint_of(adapter))), latents(), sd, adapter)
    with pytest.raises(LLMDiffError, match="put its own attention in the place"):
        join_model(replacing(sd.model), joint_of(adapter))


def test_weights_may_be_streamed(sd: Forms, adapter: LLMDiffAdapter) -> None:
    """Layers that take their weights to where they are used, call by call, as with little memory on a GPU."""
    model = join_model(sd.model, joint_of(adapter))
    streamed = [part for part in sd.model.model.modules() if hasattr(part, "comfy_cast_weights")]
    for part in streamed:
        part.comfy_cast_weights = True
    try:
        assert_equal(
            noise(model, latents(), sd, adapter), diffusers_noise(sd.pipe, adapter, latents(), PROMPT, NEGATIVE)
        )
    finally:
        for part in streamed:
            part.comfy_cast_weights = False


def test_a_model_of_another_shape_is_refused_in_a_sentence(forms: Forms, sd: Forms, llm: LanguageModel) -> None:
    other = build_adapter(forms.pipe, llm, "augment")
    if forms.pipe.unet.config.addition_embed_type:
        with pytest.raises(LLMDiffError, match="this adapter was made for"):
            join_model(sd.model, joint_of(other))
    with pytest.raises(LLMDiffError, match="has an adapter already"):
        join_model(join_model(forms.model, joint_of(other)), joint_of(other))
    with pytest.raises(LLMDiffError, match="put LLMDiff Apply before this node"):
        set_scale(forms.model, 0.5)
    with pytest.raises(LLMDiffError, match="finite number"):
        set_scale(join_model(forms.model, joint_of(other)), float("nan"))


def test_a_lora_is_not_left_out_unseen(sd: Forms, llm: LanguageModel) -> None:
    with pytest.raises(LLMDiffError, match="The adapter has a LoRA"):
        join_model(sd.model, joint_of(full(sd.pipe, llm, "augment")))


def test_the_pooled_vector_must_be_the_models(sd: Forms, llm: LanguageModel) -> None:
    adapter = build_adapter(sd.pipe, llm, "replace")
    config = adapter.config.model_copy(update={"pooled_width": 12})
    with pytest.raises(LLMDiffError, match="takes a pooled text vector of width 0, and the adapter makes 12"):
        join_model(sd.model, joint_of(adapter).__class__(config, 8, adapter.named_branches()))


def test_a_fine_tune_is_told_of(sd: Forms, augment: LLMDiffAdapter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        join_model(sd.model, joint_of(augment))
    with pytest.warns(UserWarning, match="has other weights than"):
        join_model(build_model(build_sd(**SHAPE, seed=5)), joint_of(augment))
