"""A denoising loop of one's own: encode, condition, predict, step; no pipeline is called."""

from pathlib import Path

import torch

from llmdiff import LLMDiffAdapter
from llmdiff.generation import load_pipeline
from llmdiff.models import shipped_adapter, shipped_base

PROMPT, GUIDANCE, STEPS = "a scarlet boat at night", 5.0, 20


@torch.no_grad()
def main(out: Path = Path("out")) -> None:
    """Write out/loop.png."""
    out.mkdir(exist_ok=True)
    pipe = load_pipeline(str(shipped_base()))
    adapter = LLMDiffAdapter.from_pretrained(shipped_adapter()).attach(pipe)
    text, negative = (
        adapter.condition(adapter.encode([one])) for one in (PROMPT, "")
    )  # augment mode: and its features
    latents = torch.randn(1, pipe.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(7))
    pipe.scheduler.set_timesteps(STEPS)
    latents = latents * pipe.scheduler.init_noise_sigma
    for t in pipe.scheduler.timesteps:
        given = pipe.scheduler.scale_model_input(latents, t)
        with_prompt = pipe.unet(given, t, encoder_hidden_states=text).sample
        without = pipe.unet(given, t, encoder_hidden_states=negative).sample
        latents = pipe.scheduler.step(without + GUIDANCE * (with_prompt - without), t, latents).prev_sample
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    pipe.image_processor.postprocess(decoded)[0].save(out / "loop.png")


if __name__ == "__main__":
    main()
