"""ControlNets of classic pipelines: whatever rows a pipeline hands them, each reads its own prompt."""

import copy
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    MultiControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from torch import Tensor

from adapter.changes import distance, drop_text_encoders
from adapter.families import build_controlnet
from adapter.tiny import build_sd, build_sdxl, draw, perturb

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
FAMILIES = {
    "SD": (build_sd, StableDiffusionControlNetPipeline, {"requires_safety_checker": False}),
    "SDXL": (build_sdxl, StableDiffusionXLControlNetPipeline, {"add_watermarker": False}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "guess mode": {"guess_mode": True},
    "guess mode without guidance": {"guess_mode": True, "guidance_scale": 1.0},
    "the first half": {"control_guidance_end": 0.5},
}


def build(family: str, nets: int = 1) -> Any:
    """A pipeline with so many ControlNets."""
    make, kind, settings = FAMILIES[family]
    parts = make()
    net = build_controlnet(parts)
    controlnet = net if nets == 1 else MultiControlNetModel([copy.deepcopy(net) for _ in range(nets)])
    pipe = kind(**parts.components, controlnet=controlnet, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def control(pipe: Any, prompt: Any = "a red cup", **options: Any) -> Tensor:
    count = len(getattr(pipe.controlnet, "nets", [pipe.controlnet]))
    pictures = [PICTURE, 1 - PICTURE][:count]
    return draw(pipe, prompt, image=pictures[0] if count == 1 else pictures, **options)


@pytest.mark.parametrize(("name", "nets"), [*((name, 1) for name in OPTIONS), ("plain", 2), ("guess mode", 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_reads_its_own_prompt(make_adapter, mode, family, name, nets):
    options = OPTIONS[name]
    pipe = build(family, nets)
    base = control(pipe, **options)
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    if mode == "augment":
        adapter.scale = 0
        assert torch.equal(control(pipe, **options), base)
        adapter.scale = 1
    else:
        drop_text_encoders(pipe)
    prompts = ["a", "a much longer prompt"]
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    together = control(pipe, prompts, latents=noise, **options)
    for i, prompt in enumerate(prompts):
        assert distance(control(pipe, prompt, latents=noise[i : i + 1], **options)[0], together[i]) < 1e-3
    assert distance(control(pipe, "blue", latents=noise[:1], **options)[0], together[0]) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_in_guess_mode_a_controlnet_reads_the_prompt_alone(make_adapter, mode, family):
    """Its features are the same whatever the negative prompt is."""
    pipe = build(family)
    perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    features: list[Tensor] = []
    pipe.controlnet.register_forward_hook(lambda module, args, output: features.append(output[1]))
    for prompt, negative in (("a red cup", "blue"), ("a red cup", "a table"), ("blue", "a table")):
        control(pipe, prompt, negative_prompt=negative, guess_mode=True, num_inference_steps=1)
    same, other = features[1], features[2]
    assert len(features) == 3
    assert torch.equal(features[0], same)
    assert distance(same, other) > 0


@pytest.mark.parametrize("nets", [1, 2])
def test_controlnets_that_are_exchanged_after_attach(make_adapter, mode, nets):
    pipe, expected = build("SD", 1), build("SD", nets)
    perturb(make_adapter(expected, mode=mode)).attach(expected)
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    net: Any = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8))
    net.load_state_dict(build_controlnet(build_sd()).state_dict())
    pipe.controlnet = net if nets == 1 else MultiControlNetModel([net, copy.deepcopy(net)])
    assert distance(control(pipe), control(expected)) < 1e-3
    adapter.detach()
    assert not any(module._forward_pre_hooks for module in pipe.controlnet.modules())
