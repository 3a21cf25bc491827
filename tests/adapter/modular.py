"""Tiny modular pipelines of SDXL, built of the parts of a classic one, and ways to draw with them."""

import inspect
from typing import Any

import torch
from diffusers import ClassifierFreeGuidance, ControlNetUnionModel, StableDiffusionXLAutoBlocks
from torch import Tensor, nn

from adapter.changes import TEXT
from adapter.tiny import PROMPT

GUIDANCE = 5.0
PARTS = (*TEXT, "unet", "vae", "scheduler", "controlnet")
PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
MASK = torch.cat([torch.zeros(1, 1, 16, 8), torch.ones(1, 1, 16, 8)], -1)


def build_modular(pipe: Any, blocks: Any = None, guider: Any = None, **parts: Any) -> Any:
    """A modular pipeline of a classic one's parts; all that SDXL can do if no blocks are given."""
    modular = (blocks or StableDiffusionXLAutoBlocks()).init_pipeline()
    known = {name: getattr(pipe, name, None) for name in PARTS} | parts
    used = {name: part for name, part in known.items() if part is not None and name in modular.components}
    modular.update_components(**used)
    modular.update_components(guider=guider or ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    silence(modular._blocks)  # of diffusers' own setting, only the outermost blocks hear
    return modular


def silence(block: Any) -> None:
    """Shows no bar."""
    if hasattr(block, "set_progress_bar_config"):
        block.set_progress_bar_config(disable=True)
    for sub_block in block.sub_blocks.values():
        silence(sub_block)


def draw_modular(pipe: Any, prompt: Any = PROMPT, seed: int = 7, **options: Any) -> Tensor:
    """The latents that a modular pipeline ends with: (B, 4, 8, 8)."""
    settings = {"num_inference_steps": 2, "height": 16, "width": 16, "output": "latents"}
    if prompt is not None:
        settings["prompt"] = prompt
    latents: Tensor = pipe(generator=torch.Generator().manual_seed(seed), **settings | options)
    return latents


def build_union_controlnet(unet: Any) -> nn.Module:
    """A ControlNet union that has learned something: its last layers start as zeros."""
    config = unet.config
    known = {name: config[name] for name in inspect.signature(ControlNetUnionModel).parameters if name in config}
    small = {"num_trans_channel": 8, "num_trans_head": 2, "num_proj_channel": 8}
    net = ControlNetUnionModel(**known | small, conditioning_embedding_out_channels=(4, 8))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.eval()
