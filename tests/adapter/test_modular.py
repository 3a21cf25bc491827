"""Modular pipelines: the picture is that of the classic pipeline, whatever the task and the blocks."""

import copy
import pickle
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    ClassifierFreeGuidance,
    ControlNetModel,
    ModularPipeline,
    StableDiffusionXLAutoBlocks,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLModularPipeline,
)
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.components_manager import custom_offload_with_hook
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec
from diffusers.modular_pipelines.stable_diffusion_xl.encoders import StableDiffusionXLTextEncoderStep
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.changes import TEXT, distance, drop_text_encoders
from adapter.families import build_controlnet
from adapter.modular import GUIDANCE, MASK, PICTURE, build_modular, build_union_controlnet, draw_modular
from adapter.tiny import PROMPT, build_sd, build_sdxl, draw, perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.modular import LLMDiffTextEncoderStep
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError

ALIKE = 1e-3  # pictures that are the same but for the order of the sums; others are apart by more than ten times that


@pytest.fixture(autouse=True)
def _no_word_of_experimental_guiders() -> None:
    diffusers.logging.set_verbosity_error()


def pair(make_adapter: Any, mode: str, **options: Any) -> tuple[Any, Any, LLMDiffAdapter]:
    """A classic pipeline, a modular one of the same parts, and an adapter that is attached to both."""
    classic = build_sdxl()
    modular = build_modular(classic, **options)
    adapter = perturb(make_adapter(classic, mode=mode)).attach(classic).attach(modular)
    if mode == "replace":
        drop_text_encoders(classic)
        drop_text_encoders(modular)
    return classic, modular, adapter


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative_prompt": "blue"},
        {"prompt": ["a", "a much longer prompt"], "negative_prompt": ["blue", ""]},
        {"prompt": ["a much longer prompt"], "num_images_per_prompt": 2},
    ],
)
def test_the_picture_is_the_classic_pipelines(make_adapter, mode, options):
    classic, modular, _ = pair(make_adapter, mode)
    picture = draw(classic, guidance_scale=GUIDANCE, **options)
    assert distance(draw_modular(modular, **options), picture) < ALIKE
    assert (
        distance(draw_modular(modular, **options | {"prompt": ["blue"] * len(options.get("prompt", "a"))}), picture)
        > 10 * ALIKE
    )


def test_prompt_weights_are_the_classic_pipelines(make_adapter, mode):
    classic, modular, adapter = pair(make_adapter, mode)
    adapter.prompt_weights = True
    picture = draw(classic, "a (red:1.7) cup", guidance_scale=GUIDANCE)
    assert distance(draw_modular(modular, "a (red:1.7) cup"), picture) < ALIKE
    assert distance(draw_modular(modular), picture) > 10 * ALIKE


@settings(max_examples=4, deadline=None)
@given(st.lists(st.text("abc ,.", max_size=30), min_size=1, max_size=3), st.booleans(), st.sampled_from([1.0, 3.0]))
def test_any_prompts_are_the_classic_pipelines(tiny_llm, prompts, replaces, scale):
    def make_adapter(pipe, **options):
        return LLMDiffAdapter.create(pipe, tiny_llm, **options)

    guider = ClassifierFreeGuidance(guidance_scale=scale)
    classic, modular, _ = pair(make_adapter, "replace" if replaces else "augment", guider=guider)
    noise = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(len(prompts)))
    drawn = draw_modular(modular, prompts, latents=noise)
    assert distance(drawn, draw(classic, prompts, guidance_scale=scale, latents=noise)) < ALIKE
    for i, prompt in enumerate(prompts):
        assert distance(draw_modular(modular, prompt, latents=noise[i : i + 1])[0], drawn[i]) < ALIKE


IMAGE = {"image": PICTURE, "strength": 0.9}
TASKS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {  # the classic pipeline, options, what it calls others
    "img2img": (StableDiffusionXLImg2ImgPipeline, IMAGE, {}),
    "inpainting": (StableDiffusionXLInpaintPipeline, IMAGE | {"mask_image": MASK}, {}),
    "controlnet": (StableDiffusionXLControlNetPipeline, {"control_image": PICTURE}, {"control_image": "image"}),
    "controlnet, guess mode": (
        StableDiffusionXLControlNetPipeline,
        {"control_image": PICTURE, "guess_mode": True},
        {"control_image": "image"},
    ),
    "controlnet, img2img": (StableDiffusionXLControlNetImg2ImgPipeline, IMAGE | {"control_image": PICTURE}, {}),
    "controlnet, inpainting": (
        StableDiffusionXLControlNetInpaintPipeline,
        IMAGE | {"mask_image": MASK, "control_image": PICTURE},
        {},
    ),
    "two controlnets": (
        StableDiffusionXLControlNetPipeline,
        {"control_image": [PICTURE, 1 - PICTURE], "controlnet_conditioning_scale": [1.0, 0.5]},
        {"control_image": "image"},
    ),
    "controlnet union": (
        StableDiffusionXLControlNetUnionPipeline,
        {"control_image": [PICTURE], "control_mode": [0]},
        {},
    ),
}


APART = {"inpainting", "controlnet, img2img", "controlnet, inpainting"}
"""Where diffusers 0.42's modular pipeline draws another picture than its classic one, of the same noise."""


def controlnet_of(task: str, unet: Any) -> dict[str, Any]:
    if "controlnet" not in task:
        return {}
    if "union" in task:
        return {"controlnet": build_union_controlnet(unet)}
    net = build_controlnet(type("Holder", (), {"unet": unet}))
    return {"controlnet": MultiControlNetModel([net, copy.deepcopy(net)]) if "two" in task else net}


@pytest.mark.parametrize("task", TASKS)
def test_every_task(make_adapter, mode, task):
    """The picture is that of the task's classic pipeline, and at scale 0 that of the stock modular one."""
    kind, options, names = TASKS[task]
    parts = build_sdxl().components
    extra = controlnet_of(task, parts["unet"])
    classic = kind(**parts, **extra, add_watermarker=False)
    classic.set_progress_bar_config(disable=True)
    modular = build_modular(classic, **extra)
    base = draw_modular(modular, **options)
    adapter = perturb(make_adapter(modular, mode=mode)).attach(modular)
    picture = draw_modular(modular, **options)
    assert distance(picture, base) > 10 * ALIKE
    assert distance(draw_modular(modular, "blue", **options), picture) > 10 * ALIKE
    renamed = {names.get(name, name): option for name, option in options.items()}
    adapter.attach(classic)
    if task not in APART:
        assert distance(draw(classic, guidance_scale=GUIDANCE, **renamed), picture) < ALIKE
    if mode == "augment":
        adapter.scale = 0
        assert torch.equal(draw_modular(modular, **options), base)
        adapter.scale = 1
    adapter.detach()
    assert torch.equal(draw_modular(modular, **options), base)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in modular.unet.modules())
    assert not any(m._forward_pre_hooks for net in extra.values() for m in net.modules())


def test_what_diffusers_gets_wrong_it_still_gets_wrong():
    """Once this fails, what the tests leave out can go in."""
    parts = build_sdxl().components
    for task in APART:
        kind, options, _ = TASKS[task]
        extra = controlnet_of(task, parts["unet"])
        classic = kind(**parts, **extra, add_watermarker=False)
        classic.set_progress_bar_config(disable=True)
        modular = build_modular(classic, **extra)
        assert distance(draw_modular(modular, **options), draw(classic, guidance_scale=GUIDANCE, **options)) > ALIKE
    classic = build_sdxl()
    several = {"prompt": ["a", "a much longer prompt"], "num_images_per_prompt": 2}  # mixes up the pooled vectors
    mixed = draw_modular(build_modular(classic), **several)
    assert distance(mixed, draw(classic, guidance_scale=GUIDANCE, **several)) > ALIKE


def test_the_untrained_adapter_is_the_base_model(make_adapter):
    modular = build_modular(build_sdxl())
    base = draw_modular(modular)
    make_adapter(modular).attach(modular)
    assert torch.equal(draw_modular(modular), base)


def test_disabled_it_is_the_base_model(make_adapter, mode):
    modular = build_modular(build_sdxl())
    base = draw_modular(modular)
    adapter = perturb(make_adapter(modular, mode=mode)).attach(modular)
    with adapter.disable_adapter():
        assert torch.equal(draw_modular(modular), base)
    assert distance(draw_modular(modular), base) > 10 * ALIKE


def test_the_block_by_hand(make_adapter, mode):
    """In replace mode such a pipeline expects no text encoders."""
    _, attached, adapter = pair(make_adapter, mode)
    picture = draw_modular(attached)
    blocks = StableDiffusionXLAutoBlocks()
    blocks.sub_blocks["text_encoder"] = LLMDiffTextEncoderStep(adapter)
    parts = build_sdxl()
    parts.unet = attached.unet
    modular = build_modular(parts, blocks)
    expected = {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"} & set(modular.components)
    assert len(expected) == (4 if mode == "augment" else 0)
    assert torch.equal(draw_modular(modular), picture)
    workflow = build_modular(modular, modular.blocks.get_workflow("text2image"))
    assert torch.equal(draw_modular(workflow), picture)
    assert modular.blocks.sub_blocks["text_encoder"].adapter is adapter
    adapter.detach()
    with pytest.raises(LLMDiffError, match=r"not attached: call adapter.attach\(pipe\)"):
        draw_modular(modular)
    adapter.attach(modular)
    assert torch.equal(draw_modular(modular), picture)
    adapter.detach()
    assert isinstance(modular.blocks.sub_blocks["text_encoder"], LLMDiffTextEncoderStep)


def test_prompts_encoded_by_a_pipeline_of_their_own(make_adapter, mode):
    _, attached, adapter = pair(make_adapter, mode)
    picture = draw_modular(attached)
    adapter.detach()
    blocks = StableDiffusionXLAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")
    modular = build_modular(attached, blocks)
    with pytest.raises(LLMDiffError, match=r"no text encoder step .* call adapter.join\(ImageModel\(pipe\)\) instead"):
        adapter.attach(modular)
    adapter.join(ImageModel(modular))
    encoder = build_modular(build_sdxl(), LLMDiffTextEncoderStep(adapter))
    assert "unet" not in encoder.components
    text = encoder(prompt=PROMPT).get_by_kwargs("denoiser_input_fields")
    assert torch.equal(draw_modular(modular, None, **text), picture)
    second = build_modular(modular, blocks, controlnet=build_controlnet(modular))
    adapter.join(ImageModel(second))
    assert second.controlnet._forward_pre_hooks
    with pytest.raises(LLMDiffError, match="attached already"):
        adapter.join(ImageModel(build_sdxl()))
    if mode == "replace":  # nothing in that pipeline says where it runs
        modular.unet.to("meta")
        assert encoder(prompt=PROMPT, output="prompt_embeds").device.type == "meta"


def test_without_the_block_it_is_the_base_model_or_refused(make_adapter, mode):
    modular = build_modular(build_sdxl())
    base = draw_modular(modular)
    perturb(make_adapter(modular, mode=mode)).join(ImageModel(modular))
    if mode == "augment":
        assert torch.equal(draw_modular(modular), base)
    else:
        with pytest.raises(LLMDiffError, match="carries no encoding"):
            draw_modular(modular)


def test_pipelines_that_share_their_blocks(make_adapter):
    """A pipeline that is made of blocks does not copy them: the one that is not attached keeps its own."""
    first = build_modular(build_sdxl())
    second = StableDiffusionXLModularPipeline(blocks=first._blocks)
    second.update_components(unet=build_sdxl().unet, guider=first.guider)
    second.update_components(**{name: getattr(first, name) for name in (*TEXT, "vae", "scheduler")})
    base = draw_modular(second)
    perturb(make_adapter(first)).attach(first)
    assert distance(draw_modular(first), base) > 10 * ALIKE
    assert torch.equal(draw_modular(second), base)


def test_an_exchanged_denoiser_is_refused(make_adapter, mode):
    modular = build_modular(build_sdxl())
    perturb(make_adapter(modular, mode=mode)).attach(modular)
    modular.update_components(unet=build_sdxl().unet)
    with pytest.raises(LLMDiffError, match="unet, or a part of it, was exchanged after attach"):
        draw_modular(modular)


def test_another_adapters_step_is_refused(make_adapter):
    modular = build_modular(build_sdxl())
    first = make_adapter(modular).attach(modular)
    copied = build_modular(build_sdxl(), modular.blocks)
    with pytest.raises(LLMDiffError, match="another adapter's"):
        make_adapter(copied).attach(copied)
    assert not any(module._forward_pre_hooks for module in copied.unet.modules())
    first.detach()


def test_components_that_are_not_loaded_are_named(make_adapter):
    with pytest.raises(LLMDiffError, match=r"no unet or transformer.*components loaded"):
        make_adapter(StableDiffusionXLAutoBlocks().init_pipeline())


def test_a_controlnet_that_comes_after_attach(make_adapter, mode):
    """Under whatever name a pipeline's blocks hold it."""
    _, modular, _ = pair(make_adapter, mode)
    net = build_controlnet(modular)
    modular.update_components(controlnet=net)
    assert draw_modular(modular, control_image=PICTURE).isfinite().all()

    class DepthStep(ModularPipelineBlocks):
        @property
        def expected_components(self) -> list[ComponentSpec]:
            return [ComponentSpec("unet"), ComponentSpec("depth", ControlNetModel)]

    named = DepthStep().init_pipeline()
    named.update_components(unet=modular.unet, depth=net)
    assert ImageModel(named).controlnets == [net]


def test_copies_and_pickles(make_adapter, mode):
    """A whole copy has an adapter of its own."""
    for copied in (copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))):
        modular = build_modular(build_sdxl())
        adapter = perturb(make_adapter(modular, mode=mode)).attach(modular)
        other = copied(modular)
        picture = draw_modular(modular)
        assert torch.equal(draw_modular(other), picture)
        adapter.detach()
        assert torch.equal(draw_modular(other), picture)
        assert distance(draw_modular(modular), picture) > 10 * ALIKE


def test_what_is_saved_is_the_base_model(make_adapter, tmp_path):
    modular = build_modular(build_sdxl())
    base = draw_modular(modular)
    adapter = perturb(make_adapter(modular)).attach(modular)
    picture = draw_modular(modular)
    modular.save_pretrained(str(tmp_path), overwrite_modular_index=True)
    assert torch.equal(draw_modular(modular), picture)
    loaded = ModularPipeline.from_pretrained(tmp_path)
    loaded.load_components()
    loaded.update_components(guider=ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    assert isinstance(loaded.blocks.sub_blocks["text_encoder"], StableDiffusionXLTextEncoderStep)
    assert distance(draw_modular(loaded), base) < ALIKE
    adapter.detach()
    adapter.attach(loaded)
    assert distance(draw_modular(loaded), picture) < ALIKE


@pytest.mark.parametrize("before", [True, False])
def test_the_hooks_of_a_components_manager(make_adapter, mode, before):
    modular = build_modular(build_sdxl())
    adapter = perturb(make_adapter(modular, mode=mode)).attach(modular)
    picture = draw_modular(modular)
    if before:
        adapter.detach()
    custom_offload_with_hook("unet", modular.unet, torch.device("cpu"))
    adapter.attach(modular)
    assert torch.equal(draw_modular(modular), picture)


def test_a_modular_pipeline_is_not_trained_on():
    with pytest.raises(LLMDiffError, match="cannot be trained on yet"):
        ImageModel(build_modular(build_sdxl())).check_trainable()


def test_another_base_model_is_refused(make_adapter):
    adapter = make_adapter(build_sd())
    with pytest.raises(LLMDiffError, match="no branch for the cross-attention layer"):
        adapter.attach(build_modular(build_sdxl()))
