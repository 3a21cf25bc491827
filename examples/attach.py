"""Puts an adapter on a pipeline of diffusers, dials it, and takes it off again."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from llmdiff import LLMDiffAdapter
from llmdiff.models import shipped_adapter, shipped_base

PROMPT = "twin diminutive tangerine brollies"


def main(out: Path = Path("out")) -> None:
    """Write a picture for each scale of the adapter; the last one is of the base model alone."""
    out.mkdir(exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(shipped_base())  # or a folder or Hub id of your own
    adapter = LLMDiffAdapter.from_pretrained(shipped_adapter()).attach(pipe)
    for scale in (0.5, 1.0):
        adapter.scale = scale
        image = pipe(PROMPT, num_inference_steps=20, generator=torch.Generator().manual_seed(7)).images[0]
        image.save(out / f"scale-{scale}.png")
    adapter.detach()
    image = pipe(PROMPT, num_inference_steps=20, generator=torch.Generator().manual_seed(7)).images[0]
    image.save(out / "base.png")


if __name__ == "__main__":
    main()
