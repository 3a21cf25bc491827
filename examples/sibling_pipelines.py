"""Image to image beside text to image: a second pipeline of the same U-Net is attached, too."""

from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

from llmdiff import LLMDiffAdapter
from llmdiff.models import shipped_adapter, shipped_base


def main(out: Path = Path("out")) -> None:
    """Write a picture, and the same scene as another prompt has it."""
    out.mkdir(exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(shipped_base())
    adapter = LLMDiffAdapter.from_pretrained(shipped_adapter()).attach(pipe)
    first = pipe("a crimson cottage by day", num_inference_steps=20, generator=torch.Generator().manual_seed(1)).images[
        0
    ]
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    adapter.attach(other)
    second = other(
        "an azure cottage by day", image=first, strength=0.8, num_inference_steps=25,
        generator=torch.Generator().manual_seed(1),
    ).images[0]  # fmt: skip
    first.save(out / "first.png")
    second.save(out / "second.png")


if __name__ == "__main__":
    main()
