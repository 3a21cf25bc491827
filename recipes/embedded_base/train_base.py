"""Trains the embedded base's U-Net, and its text encoder further: `python -m embedded_base.train_base` in recipes.

Picture-book scenes with plain captions; velocity target, zero terminal SNR, high-noise timesteps favoured. What is left
or right of what is learned in a course of its own: few captions say it, and it shows only where the noise is nearly all
there is, while colours are learned where there is less.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from embedded_base import data, modules
from embedded_base.layout import LayoutReadout, layout
from embedded_base.progress import Progress
from llmdiff.files import written_whole
from llmdiff.hashing import values_hash
from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.description import Detail
from llmdiff.scenes.scene import Scene
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.noise import draw_timesteps, target
from llmdiff.training.precision import HAS_BF16, HAS_COMPILER, attention_kernels, autocast, compile_blocks
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer

_SEED = 21
_DROP = 0.1  # share of captions dropped, for classifier-free guidance
_LAYOUT, _LAYOUT_IN_COURSE = 0.2, 0.6  # weight of the layout's loss beside the velocity's
_COURSE = range(12500, 21000)  # the steps in which relations are learned; captions have them from then on


class BaseObjective:
    """Denoising of scene latents under plain captions; captions are worded anew each time a scene comes round."""

    def __init__(
        self, latents: Tensor, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, precision: torch.dtype
    ) -> None:
        self.latents, self.tokenizer, self.precision = latents, tokenizer, precision
        self.unet = modules.unet().to(memory_format=torch.channels_last)
        self.text_encoder = text_encoder
        self.scheduler = modules.scheduler()
        self.readout = LayoutReadout(self.unet.config.block_out_channels[-1])
        self.module: nn.Module = nn.ModuleDict(
            {"unet": self.unet, "text_encoder": self.text_encoder, "readout": self.readout}
        )

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters())}]

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        course = step in _COURSE
        detail = Detail(relation=1.0) if step >= _COURSE.start else None
        captions = [self._caption(int(i), detail) for i in indices]
        z = self.latents[indices % len(self.latents)].float()
        noise = rng.normal(*z.shape[1:])
        t = draw_timesteps(
            "high", self.scheduler.config.num_train_timesteps, rng, high_noise_share=0.75 if course else 0.0
        )
        noisy = self.scheduler.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        with autocast(self.precision), attention_kernels(z, self.unet):
            context = self.text_encoder(modules.token_ids(self.tokenizer, captions)).last_hidden_state
            with self._features() as features:
                velocity = self.unet(noisy, t, context).sample
            truth = layout([self._scene(int(i)) for i in indices], features[0].shape[-1])
            placed = self.readout.loss(features[0], truth)
        weight = _LAYOUT_IN_COURSE if course else _LAYOUT
        return F.mse_loss(velocity.float(), target(self.scheduler, z, noise, t)) + weight * placed

    @contextmanager
    def _features(self) -> Iterator[list[Tensor]]:
        """Within it, the U-Net's features after its last block with cross-attention are gathered: (B, C, 16, 16)."""
        features: list[Tensor] = []
        hook = self.unet.up_blocks[0].register_forward_hook(lambda _module, _inputs, output: features.append(output))
        try:
            yield features
        finally:
            hook.remove()

    def _scene(self, index: int) -> Scene:
        return data.scene(_SEED, index % len(self.latents))

    def _caption(self, index: int, detail: Detail | None = None) -> str:
        rng = np.random.default_rng((_SEED, 1, index))
        if rng.random() < _DROP:
            return ""
        return plain_caption(self._scene(index), rng, detail).text


@torch.no_grad()
def scene_latents(vae: Any, count: int, folder: Path) -> Tensor:
    """Scaled latents of the first `count` training scenes, float16 (count, 8, 16, 16); kept in `folder`, per VAE."""
    cache = folder / f"latents-{count}-{values_hash(vae.state_dict().items())[:12]}.npy"
    if cache.exists():
        return torch.from_numpy(np.load(cache))
    batches = []
    for start in track(range(0, count, 100), "latents"):
        x = data.pixels([data.scene(_SEED, i) for i in range(start, min(start + 100, count))])
        batches.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).half())
    latents = torch.cat(batches)
    with written_whole(cache) as draft, draft.open("wb") as file:
        np.save(file, latents.numpy())
    return latents


def pipeline(objective: BaseObjective, vae: Any) -> Any:
    """The trained parts as a stock pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=objective.text_encoder,
        tokenizer=objective.tokenizer,
        unet=objective.unet,
        scheduler=objective.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


SAMPLE_PROMPTS = (
    "a red ball by day", "a yellow sun and a green tree", "two blue cars in the desert", "a white moon at night",
    "a pink house left of a purple star", "a large brown boat above a small red fish at sunset",
    "three orange flowers in the snow", "a small white cloud and a large blue umbrella by day",
)  # fmt: skip


@torch.no_grad()
def sample(pipe: Any, path: Path) -> None:
    """One row of pictures of `SAMPLE_PROMPTS`."""
    pipe.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(0)
    pictures = pipe(list(SAMPLE_PROMPTS), num_inference_steps=20, guidance_scale=4.0, generator=rng).images
    sheet = Image.new("RGB", (64 * len(pictures), 64))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (64 * i, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main(
    out: Path = Path("runs/base/unet"),
    vae_folder: Path = Path("runs/base/vae/model"),
    text_folder: Path = Path("runs/base/text/model"),
    steps: int = 24000,
    batch_size: int = 32,
    scenes: int = 60000,
    learning_rate: float = 1e-3,
    bf16: bool = HAS_BF16,
    compiled: bool = HAS_COMPILER,
    seed: int = 0,
) -> None:
    """Trains (or goes on training) the base model and saves it to OUT/model."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(vae_folder).eval()
    latents = scene_latents(vae, scenes, out)
    text_encoder = CLIPTextModel.from_pretrained(text_folder)
    objective = BaseObjective(
        latents, modules.plain_tokenizer(), text_encoder, torch.bfloat16 if bf16 else torch.float32
    )
    if compiled:
        compile_blocks(objective.unet)
    settings = LoopSettings(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, warmup=300, decay=0.2, ema=0.998, seed=seed
    )
    trainer = Trainer(objective, settings, out)
    trainer.resume()

    def on_step(trainer: Trainer, figures: dict[str, float]) -> None:
        progress(trainer, figures)
        if trainer.step % settings.sample_every == 0:
            with trainer.averaged():
                sample(pipeline(objective, vae), out / "samples" / f"{trainer.step:06d}.png")

    with Progress("base", steps) as progress:
        trainer.run(on_step)
    with trainer.averaged():
        pipeline(objective, vae).save_pretrained(out / "model")


if __name__ == "__main__":
    typer.run(main)
