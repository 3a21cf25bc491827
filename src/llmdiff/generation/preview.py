"""Pictures of latents that are not done yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def can_preview(pipe: Any) -> bool:
    """Whether the latents of a pipeline can be decoded by `preview`: its VAE says how they are scaled."""
    config = getattr(getattr(pipe, "vae", None), "config", {})
    return config.get("scaling_factor") is not None and getattr(pipe, "image_processor", None) is not None


@torch.no_grad()
def preview(pipe: Any, latents: Tensor) -> list[Image.Image]:
    """What the latents of a step show, with the noise that is left in them.

    Args:
        pipe: a pipeline of which `can_preview` holds; nothing of it is changed.
        latents: (B, c, H, W), as the pipeline reports them after a step.

    Returns:
        B pictures. PixArt's and Sana's have the size at which they are drawn.

    Example:
        >>> len(preview(pipe, torch.randn(2, 4, 8, 8)))
        2
    """
    vae = pipe.vae
    with _in_its_precision(vae):
        pixels = vae.decode(_unscaled(vae.config, latents.to(vae.device, vae.dtype)), return_dict=False)[0]
    images: list[Image.Image] = pipe.image_processor.postprocess(pixels.float().nan_to_num(), output_type="pil")
    return images


def _unscaled(config: Any, latents: Tensor) -> Tensor:
    """Latents as the VAE takes them."""
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return latents / config["scaling_factor"] + (config.get("shift_factor") or 0)
    mean, std = (latents.new_tensor(one).view(1, -1, 1, 1) for one in (mean, std))
    return latents * std / config["scaling_factor"] + mean


@contextmanager
def _in_its_precision(vae: Any) -> Iterator[None]:
    """Within this context a VAE that overflows in float16 is in float32; there and back changes none of its weights."""
    if vae.dtype != torch.float16 or not vae.config.get("force_upcast"):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(torch.float16)
