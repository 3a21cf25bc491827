"""Predictions of one model in both forms, on the same latents, at the same time, under the same prompts."""

from typing import Any

import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter

STEP = 300


def latents(rows: int = 1, size: int = 8) -> Tensor:
    return torch.randn(rows, 4, size, size, generator=torch.Generator().manual_seed(7))


def comfyui_noise(model: Any, x: Tensor, positive: Any, negative: Any, cfg: float = 3.0, steps: int = 1) -> Tensor:
    """The noise that ComfyUI's own sampling predicts in latents (B, 4, h, w) at `STEP`, the last of some times."""
    import comfy.samplers

    sigma = model.get_model_object("model_sampling").sigmas[STEP]
    scaled = x * (sigma**2 + 1) ** 0.5  # the model divides by it again
    kept: list[Tensor] = []

    def sample(wrapped: Any, noise: Tensor, sigmas: Tensor, extra_args: Any = None, **_: Any) -> Tensor:
        kept.extend(wrapped(scaled, sigmas[0].expand(len(x)), **extra_args) for _ in range(steps))
        return kept[-1]

    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        empty, sigmas = torch.zeros_like(x), torch.stack([sigma, torch.zeros(())])
        guider.sample(empty, empty, comfy.samplers.KSAMPLER(sample), sigmas, seed=0)
    return ((scaled - kept[-1]) / sigma).clone()


@torch.no_grad()
def diffusers_noise(
    pipe: Any, adapter: LLMDiffAdapter | None, x: Tensor, prompt: str, negative: str, cfg: float = 3.0
) -> Tensor:
    """The noise that diffusers' U-Net predicts in latents (B, 4, h, w) at `STEP`, under guidance."""
    if adapter is not None:
        adapter.attach(pipe)
    try:
        made = pipe.encode_prompt(
            prompt,
            device="cpu",
            num_images_per_prompt=len(x),
            do_classifier_free_guidance=True,
            negative_prompt=negative,
        )
        added = {}
        if len(made) > 2:  # SDXL
            side = 8.0 * x.shape[-1]
            ids = torch.tensor([[side, side, 0.0, 0.0, side, side]]).repeat(2 * len(x), 1)
            added = {"added_cond_kwargs": {"text_embeds": torch.cat([made[3], made[2]]), "time_ids": ids}}
        text = torch.cat([made[1], made[0]])
        both = pipe.unet(torch.cat([x, x]), STEP, encoder_hidden_states=text, **added).sample
    finally:
        if adapter is not None:
            adapter.detach()
    without, with_prompt = both.chunk(2)
    return without + cfg * (with_prompt - without)
