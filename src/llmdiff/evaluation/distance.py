"""The distance of a base model under the LLM from itself under the same facts in its own words, in one denoising step.

A picture that is wrong does not say where it went wrong. This does: one step of denoising, from scenes of one, two and
three things, each captioned in plain words, in natural ones, and in words that no training caption has. The squared
distance of the two predictions is given in units of that between the base model under plain words and under the empty
prompt: 0 where the LLM conveys all that the base model's own text encoder would, 1 where it conveys nothing.

Letters in shapes: B scenes, c latent channels, H and W height and width of the latents.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmdiff.base import ImageModel
from llmdiff.data.cropping import normalised
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import identity
from llmdiff.generation import Models, Renderer
from llmdiff.progress import Progress, silent
from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Description, Detail, describe
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.phrasing import Style, natural_text
from llmdiff.scenes.scene import sample_scene

THINGS = (1, 2, 3)
TIMESTEPS = (900, 700, 500)
_SEED = 978  # of no training set
_DETAIL = Detail(colour=1.0, size=1.0, relation=0.0, background=1.0)
_WORDINGS: dict[str, Callable[[Description, np.random.Generator], str]] = {
    "plain": lambda said, rng: plain_text(said),
    "natural": natural_text,
    "unseen words": lambda said, rng: natural_text(said, rng, Style(held_out=0.9)),
}


def evaluate_distance(
    base: str = "embedded",
    adapter: str = "embedded",
    count: int = 64,
    timesteps: tuple[int, ...] = TIMESTEPS,
    progress: Progress = silent,
    keep_in: Path | None = None,
) -> list[dict[str, Any]]:
    """Compares predictions on scenes that were drawn for this alone.

    Args:
        base: Base model that draws picture-book scenes.
        adapter: Adapter on it.
        count: Scenes of each number of things.
        timesteps: Of 1000, at which their latents are noised.
        progress: Shows how far it is.
        keep_in: A folder for distances while it runs: one that was interrupted goes on where it was.

    Returns:
        Rows of things, wording, timestep and distance.

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> rows = evaluate_distance("my-sd", "my-adapter", count=2, timesteps=(700,))
        >>> rows[0]["things"], rows[0]["wording"], rows[0]["timestep"]
        (1, 'plain', 700)
    """
    renderer = Renderer.load(Models(base=base, adapter=adapter))
    kept = KeptScores(keep_in, identity(renderer, [], "distance", count, *timesteps) if keep_in else {})
    found: list[Any] = kept.of_model("distance")
    for number, things in enumerate(THINGS):
        after = (number + 1) * len(timesteps)
        if len(found) < after:
            due = list(timesteps)[len(found) - after :]
            for distances in _measured(renderer, things, count, due):
                kept.add("distance", len(found), [distances])
                found.append(distances)
                progress(f"{things} things", len(found) / (len(THINGS) * len(timesteps)))
    kept.forget()
    places = [(things, timestep) for things in THINGS for timestep in timesteps]
    return [
        {"things": things, "wording": wording, "timestep": timestep, "distance": distance}
        for (things, timestep), distances in zip(places, found, strict=True)
        for wording, distance in zip(_WORDINGS, distances, strict=True)
    ]


@torch.no_grad()
def _measured(renderer: Renderer, things: int, count: int, timesteps: Sequence[int]) -> Iterator[list[float]]:
    """The distances of all wordings, of scenes of that many things, at one timestep after the other."""
    assert renderer.adapter is not None
    model = ImageModel(renderer.pipe)
    said = [_scene(things, i) for i in range(count)]
    latents = _latents(renderer.pipe, [picture for _, picture in said])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(_SEED))
    for timestep in timesteps:
        t = torch.full((count,), timestep)
        noisy = model.schedule.add_noise(latents, noise, t)
        with renderer.adapter.disable_adapter():
            teacher = model.predict(noisy, t, model.encode([plain_text(one) for one, _ in said]))
            unconditional = model.predict(noisy, t, model.encode([""] * count))
        distances = []
        for put in _WORDINGS.values():
            prompts = [put(one, np.random.default_rng((_SEED, i))) for i, (one, _) in enumerate(said)]
            encoding = renderer.adapter.encode(prompts)
            student = model.predict(noisy, t, renderer.adapter.denoiser_inputs(encoding, model.encode(prompts)))
            distances.append(float((student - teacher).square().mean() / (unconditional - teacher).square().mean()))
        yield distances


def _scene(things: int, index: int) -> tuple[Description, Tensor]:
    """A scene's full description and its picture, (3, height, width)."""
    rng = np.random.default_rng((_SEED, things, index))
    scene = sample_scene(rng, things)
    return describe(scene, rng, _DETAIL), normalised(draw(scene))


def _latents(pipe: Any, pictures: list[Tensor]) -> Tensor:
    """(B, c, H, W)."""
    means: Tensor = pipe.vae.encode(torch.stack(pictures)).latent_dist.mean
    return means * pipe.vae.config.scaling_factor
