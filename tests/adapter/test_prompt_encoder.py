"""What stands in for a pipeline's ``encode_prompt``: text features that carry their prompt, wherever they go."""

import warnings
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from adapter.changes import distance
from adapter.families import FAMILIES
from adapter.threads import at_once
from adapter.tiny import CONTEXT_WIDTH, build_sd, build_sdxl, draw, perturb
from llmdiff.adapter.conditioning import mask_of, split
from llmdiff.errors import LLMDiffError

DEVICE = {"device": torch.device("cpu"), "num_images_per_prompt": 1, "do_classifier_free_guidance": True}


def encoded(pipe, prompt, **options):
    """Positive and negative text features."""
    return pipe.encode_prompt(prompt, **DEVICE | options)[:2]


def given(positive, negative, **options):
    return {"prompt": None, "prompt_embeds": positive, "negative_prompt_embeds": negative} | options


@pytest.fixture
def pipe(sd, make_adapter, mode):
    sd.llmdiff_adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    return sd


def test_features_that_were_made_here_may_be_passed_as_prompt_embeds(pipe):
    expected = draw(pipe, "a cup", negative_prompt="blue")
    kept = encoded(pipe, "a cup", negative_prompt="blue")
    draw(pipe, "another prompt")
    assert torch.equal(draw(pipe, **given(*kept)), expected)
    assert torch.equal(draw(pipe, **given(*kept)), expected)
    assert distance(draw(pipe, **given(*encoded(pipe, "zebra", negative_prompt="blue"))), expected) > 1e-3


def test_a_negative_prompt_as_text_beside_features_that_were_made_here(pipe):
    expected = draw(pipe, "a cup", negative_prompt="blue")
    positive, _ = encoded(pipe, "a cup")
    assert torch.equal(draw(pipe, None, prompt_embeds=positive, negative_prompt="blue"), expected)


def test_features_of_several_prompts_are_put_together_as_users_do(pipe):
    prompts, noise = ["a cup", "a much longer blue prompt"], torch.randn(2, 4, 8, 8)
    expected = draw(pipe, prompts, latents=noise)
    apart = [encoded(pipe, prompt) for prompt in prompts]
    width = max(features.shape[-1] for pair in apart for features in pair)
    if len({features.shape for pair in apart for features in pair}) > 1:
        pytest.skip(f"one of the prompts needs {width} numbers a token")
    positive, negative = (torch.cat(side) for side in zip(*apart, strict=True))
    assert torch.allclose(draw(pipe, **given(positive, negative, latents=noise)), expected, atol=1e-4)


def test_siblings_in_threads_share_tokenizers_that_keep_settings_of_a_call(make_adapter):
    """Two stock pipelines that do so fail now and then: one pads as the other asked."""
    first = build_sdxl()
    pipes = [first, type(first)(**first.components)]
    adapter = make_adapter(first)
    failures: list[Exception] = []

    def work(pipe):
        try:
            for _ in range(50):
                pipe.encode_prompt("a red cup", negative_prompt="a long row of blue cups and bowls", **DEVICE)
        except Exception as error:  # of a thread, to be seen outside
            failures.append(error)

    for pipe in pipes:
        adapter.attach(pipe)
    at_once(*(partial(work, pipe) for pipe in pipes), interval=1e-6)
    assert not failures


def test_features_may_be_weighted_and_mixed(pipe):
    """Both the text features and the encoding are: halfway between two prompts is neither."""
    (one, negative), (other, _) = encoded(pipe, "a cup"), encoded(pipe, "zebra")
    pictures = [draw(pipe, **given(torch.lerp(one, other, w), negative)) for w in (0.0, 0.5, 1.0)]
    assert torch.equal(pictures[0], draw(pipe, "a cup"))
    assert distance(pictures[1], pictures[0]) > 1e-3 < distance(pictures[1], pictures[2])
    width, llm = CONTEXT_WIDTH, pipe.llmdiff_adapter.llm.width
    mixed, ends = torch.lerp(one, other, 0.5), (one, other)
    expected = sum(split(end, width, llm)[1] for end in ends) / 2
    assert torch.allclose(split(mixed, width, llm)[1], expected, atol=1e-6)


def test_features_are_repeated_for_each_picture(pipe):
    noise = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1)
    twice = draw(pipe, **given(*encoded(pipe, "a cup"), num_images_per_prompt=2, latents=noise))
    assert torch.allclose(twice, draw(pipe, "a cup", num_images_per_prompt=2, latents=noise), atol=1e-4)
    assert torch.allclose(twice[0], twice[1], atol=1e-4)


def test_features_are_good_in_a_sibling_pipeline_and_elsewhere_are_refused_or_told_of(pipe, mode):
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    call = {"image": torch.zeros(1, 3, 16, 16), "strength": 0.9, "num_inference_steps": 2, "output_type": "latent"}

    def redraw(**options):
        return other(generator=torch.Generator().manual_seed(0), **call, **options).images

    kept = given(*encoded(pipe, "a cup"))
    unattached = redraw(**kept)
    pipe.llmdiff_adapter.attach(other)
    assert torch.equal(redraw(prompt="a cup"), unattached)
    assert torch.equal(redraw(**kept), unattached)


def test_features_from_elsewhere(pipe, mode):
    plain = given(torch.randn(1, 16, CONTEXT_WIDTH), torch.randn(1, 16, CONTEXT_WIDTH))
    if mode == "replace":
        with pytest.raises(LLMDiffError, match=r"were not made by this pipeline.*pass the prompt as text"):
            draw(pipe, **plain)
        return
    base = draw(build_sd(), **plain)
    with pytest.warns(UserWarning, match="The LLM did not read these prompt_embeds.*Pass the prompt as text"):
        found = draw(pipe, **plain)
    assert torch.equal(found, base)
    with warnings.catch_warnings(), pipe.llmdiff_adapter.disable_adapter():
        warnings.simplefilter("error")
        assert torch.equal(draw(pipe, **plain), base)


def test_a_prompt_beside_negative_features_from_elsewhere(sd, make_adapter):
    perturb(make_adapter(sd)).attach(sd)
    negative = build_sd().encode_prompt("blue", **DEVICE)[0]
    with pytest.warns(UserWarning, match="did not read these negative_prompt_embeds"):
        mixed = draw(sd, "a cup", negative_prompt_embeds=negative)
    assert distance(mixed, draw(sd, "a cup", negative_prompt="blue")) > 1e-4


def test_neither_prompt_nor_features(pipe):
    with pytest.raises((LLMDiffError, ValueError), match="prompt"):
        draw(pipe, None)
    with pytest.raises(LLMDiffError, match="neither a prompt nor prompt_embeds"):
        pipe.encode_prompt(None, **DEVICE)


def test_the_results_are_of_the_kinds_that_the_pipeline_returns(make_adapter, mode):
    for name, family in FAMILIES.items():
        pipe = family.build()
        names = {key: value for key, value in family.options.items() if key in ("max_sequence_length", "clean_caption")}
        options = names | ({"complex_human_instruction": None} if name == "Sana" else {})
        call = {"device": torch.device("cpu"), "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
        stock = pipe.encode_prompt("a cup", **call, **options)
        adapter = make_adapter(pipe, mode=mode).attach(pipe)
        found = pipe.encode_prompt("a cup", **call, **options)
        assert [type(one) for one in found] == [type(one) for one in stock], name
        if mode == "augment":
            width = adapter.config.base.context_width
            for one, other in zip(found, stock, strict=True):
                assert torch.equal(one[..., :width] if one.dim() == 3 else one, other), name


def test_weights_reach_the_llm_and_no_other_text_encoder(make_adapter):
    """CLIP reads the plain prompt, in both of SDXL's encoders and in the negative prompt."""
    pipe = build_sdxl()
    adapter = perturb(make_adapter(pipe)).attach(pipe)
    adapter.prompt_weights = True
    weighted = pipe.encode_prompt("a (cup:1.3)", negative_prompt="[blue] thing", **DEVICE)
    plain = pipe.encode_prompt("a cup", negative_prompt="blue thing", **DEVICE)
    width = adapter.config.base.context_width
    for one, other in zip(weighted[:2], plain[:2], strict=True):
        assert torch.equal(one[..., :width], other[..., :width])
        assert not torch.equal(one[..., width:], other[..., width:])
    for one, other in zip(weighted[2:], plain[2:], strict=True):
        assert torch.equal(one, other)


def test_a_word_of_weight_zero_is_not_there(sd, make_adapter):
    adapter = perturb(make_adapter(sd)).attach(sd)
    adapter.prompt_weights = True
    positive, _ = encoded(sd, "a (cup:0)")
    embeds = split(positive, CONTEXT_WIDTH, adapter.llm.width)[1]
    assert mask_of(embeds).sum() == mask_of(adapter.encode(["a (cup:0)"]).embeds).sum() < len("a cup")
    assert draw(sd, "a (cup:0)").isfinite().all()


def test_the_pipeline_that_was_exchanged_under_it_is_told_of(pipe):
    pipe.unet = build_sd(seed=5).unet
    with pytest.raises(LLMDiffError, match="unet, or a part of it, was exchanged after attach"):
        draw(pipe)
