"""Adapters beside what else is in ComfyUI: ControlNets, weights in fewer bits, compiled models."""

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from torch import Tensor

from base.original_layout import original_unet
from comfyui import installation
from comfyui.sampling import STEP, comfyui_noise, diffusers_noise, latents
from comfyui.test_equal import MODES, NEGATIVE, PROMPT, assert_equal, encode, noise
from comfyui.tiny import HEADS, Forms, build_adapter, build_model, build_pipe, joint_of
from llmdiff.adapter.config import Mode
from llmdiff.comfyui import join_model, set_scale
from llmdiff.language import LanguageModel
from tiny_parts import silenced

pytestmark = installation.needed
HINT = {"conv_in": 0, "conv_out": 14} | {f"blocks.{i}": 2 * i + 2 for i in range(6)}


def build_controlnet(pipe: Any) -> ControlNetModel:
    """A random ControlNet of a pipeline's U-Net that says something."""
    net = ControlNetModel.from_unet(pipe.unet, load_weights_from_unet=True).eval()
    generator = torch.Generator().manual_seed(3)
    for weight in net.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return net


def controlnet_of(net: ControlNetModel) -> Any:
    """The same as ComfyUI's."""
    import comfy.controlnet
    from comfy.cldm.cldm import ControlNet
    from comfy.model_detection import detect_unet_config

    weights: dict[str, Tensor] = {}
    for name, weight in net.state_dict().items():
        if name.startswith("controlnet_cond_embedding."):
            part, _, kind = name.removeprefix("controlnet_cond_embedding.").rpartition(".")
            weights[f"input_hint_block.{HINT[part]}.{kind}"] = weight
        elif name.startswith("controlnet_down_blocks."):
            number, kind = name.removeprefix("controlnet_down_blocks.").split(".")
            weights[f"zero_convs.{number}.0.{kind}"] = weight
        elif name.startswith("controlnet_mid_block."):
            weights[f"middle_block_out.0.{name.rpartition('.')[2]}"] = weight
    prefix = "model.diffusion_model."
    weights |= {
        name.removeprefix(prefix): weight for name, weight in original_unet(net).items() if "controlnet" not in name
    }
    whole = {prefix + name: weight for name, weight in weights.items()} | {
        f"{prefix}out.2.weight": torch.zeros(4, 32, 3, 3)
    }
    config = detect_unet_config(whole, prefix)
    heads = {"num_heads": HEADS, "num_head_channels": -1, "hint_channels": 3}
    del config["out_channels"]
    model = ControlNet(**config | heads, dtype=torch.float32)
    model.load_state_dict({name: weight.clone() for name, weight in weights.items()})
    return comfy.controlnet.ControlNet(model.eval(), load_device=torch.device("cpu"))


@pytest.mark.parametrize("mode", MODES)
def test_controlnets_see_what_they_see_in_diffusers(sd: Forms, llm: LanguageModel, mode: Mode) -> None:
    import nodes

    adapter = build_adapter(sd.pipe, llm, mode)
    net = build_controlnet(sd.pipe)
    x, image = latents(), torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    prompts = encode(sd.pipe, adapter, PROMPT), encode(sd.pipe, adapter, NEGATIVE)
    controlled = nodes.ControlNetApplyAdvanced().apply_controlnet(*prompts, controlnet_of(net), image, 1.0, 0.0, 1.0)
    ours = comfyui_noise(join_model(sd.model, joint_of(adapter)), x, *controlled)

    parts = sd.pipe.components | {"controlnet": net, "safety_checker": None, "feature_extractor": None}
    pipe = silenced(StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False))
    adapter.attach(pipe)
    with torch.no_grad():
        made = pipe.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt=NEGATIVE)
        two, text = torch.cat([x, x]), torch.cat([made[1], made[0]])
        hint = image.movedim(-1, 1).repeat(2, 1, 1, 1)
        down, mid = net(two, STEP, encoder_hidden_states=text, controlnet_cond=hint, return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        without, prompt = pipe.unet(two, STEP, encoder_hidden_states=text, **residuals).sample.chunk(2)
    adapter.detach()
    assert_equal(ours, without + 3.0 * (prompt - without))
    assert (ours - diffusers_noise(sd.pipe, adapter, x, PROMPT, NEGATIVE)).abs().max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_float16_that_compute_in_float32(llm: LanguageModel, mode: Mode) -> None:
    pipe = build_pipe("sd")
    pipe.unet.half().float()
    adapter, x = build_adapter(pipe, llm, mode), latents()
    model = build_model(pipe, dtype=torch.float16, computes=torch.float32)
    forms = Forms(pipe, join_model(model, joint_of(adapter)))
    assert_equal(noise(forms.model, x, forms, adapter), diffusers_noise(pipe, adapter, x, PROMPT, NEGATIVE))


@pytest.mark.parametrize("mode", MODES)
def test_branches_compute_in_the_dtype_of_the_model(llm: LanguageModel, mode: Mode) -> None:
    pipe = build_pipe("sd")
    adapter, x = build_adapter(pipe, llm, mode), latents()
    theirs = diffusers_noise(pipe, adapter, x, PROMPT, NEGATIVE)
    joint = joint_of(adapter)
    forms = Forms(pipe, join_model(build_model(pipe, dtype=torch.bfloat16), joint))
    ours = noise(forms.model, x, forms, adapter)
    assert {branch.key.weight.dtype for branch in joint.branches.values()} == {torch.bfloat16}
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


@pytest.mark.slow
def test_a_compiled_model_does_the_same_at_any_scale(sd: Forms, llm: LanguageModel) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    adapter, x = build_adapter(sd.pipe, llm, "augment"), latents()
    model = join_model(sd.model, joint_of(adapter))
    set_torch_compile_wrapper(model=model, backend="eager")
    for scale in (1.0, 0.0):
        adapter.scale = scale
        ours = noise(set_scale(model, scale), x, sd, adapter)
        assert_equal(ours, diffusers_noise(sd.pipe, adapter, x, PROMPT, NEGATIVE))
