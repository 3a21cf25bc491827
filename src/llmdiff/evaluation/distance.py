"""The distance of a base model under the LLM from itself under the same facts in its own words, in one denoising step.

A picture that is wrong does not say where it went wrong. This does: one step of denoising, from scenes of one, two and
three things, each captioned in plain words, in natural ones, and in words that no training caption has. The squared
distance of the two predictions is given in units of that between the base model under plain words and under the empty
prompt: 0 where the LLM conveys all that the base model's own text encoder would, 1 where it conveys nothing.

Letters in shapes: B scenes, c latent channels, H and W height and width of the latents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data.cropping import normalised
from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.domains import DOMAINS, Domain, version_for
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import identity
from llmdiff.generation import Models, Renderer
from llmdiff.language import Encoding
from llmdiff.progress import Progress, silent
from llmdiff.scenes.facts import Fact

THINGS = (1, 2, 3)
TIMESTEPS = (900, 700, 500)
_SEED = 978  # of no training set
_WORDINGS: dict[str, Callable[[Domain, Sequence[Fact], np.random.Generator], str]] = {
    "plain": lambda domain, facts, rng: domain.plainly(facts),
    "natural": lambda domain, facts, rng: domain.naturally(facts, rng),
    "unseen words": lambda domain, facts, rng: domain.unfamiliarly(facts, rng),
}


Encode = Callable[[Sequence[str]], Encoding]
"""From prompts to their encodings, as the layers read them."""
Predict = Callable[[Tensor, Tensor, list[str]], Tensor]
"""The base model's own prediction (B, c, H, W) from noisy latents (B, c, H, W), timesteps (B,) and captions."""


@dataclass(frozen=True)
class Distances:
    """The distances of scenes of as many things, in one wording and at one timestep.

    Attributes:
        things: in each scene.
        wording: of the prompts.
        timestep: of 1000.
        of_scenes: (B,), in units of the mean distance, over these scenes, of the base model under the empty prompt: so
            their mean is the ratio of the means.
    """

    things: int
    wording: str
    timestep: int
    of_scenes: np.ndarray


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
        base: Base model that draws scenes: the domain is that of which the pictures are as large as its own.
        adapter: Adapter on it.
        count: Scenes of each number of things.
        timesteps: Of 1000, at which their latents are noised.
        progress: Shows how far it is.
        keep_in: A folder for distances while it runs: one that was interrupted goes on where it was.

    Returns:
        Rows of things, wording, timestep, distance, and its interval over the scenes (low, high); after them one of
        each wording over all scenes, where things and timestep are "all".

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> rows = evaluate_distance("my-sd", "my-adapter", count=2, timesteps=(700,))
        >>> rows[0]["things"], rows[0]["wording"], rows[0]["timestep"]
        (1, 'plain', 700)
    """
    renderer = Renderer.load(Models(base=base, adapter=adapter))
    assert renderer.adapter is not None
    kept = KeptScores(keep_in, identity(renderer, [], "distances", count, *timesteps) if keep_in else {})
    found: list[Any] = kept.of_model("distance")
    model = ImageModel(renderer.pipe)
    for ones in scene_distances(model, renderer.adapter, count, timesteps, progress=progress, after=len(found)):
        of_scenes = [one.of_scenes.tolist() for one in ones]
        kept.add("distance", len(found), [of_scenes])
        found.append(of_scenes)
    kept.forget()
    values = np.array(found).reshape(len(THINGS), len(timesteps), len(_WORDINGS), count)
    rows = [
        _row(things, wording, timestep, values[i, j, k])
        for i, things in enumerate(THINGS)
        for j, timestep in enumerate(timesteps)
        for k, wording in enumerate(_WORDINGS)
    ]
    over_timesteps = values.mean(1)
    return rows + [_row("all", wording, "all", over_timesteps[:, k].flatten()) for k, wording in enumerate(_WORDINGS)]


def _row(things: int | str, wording: str, timestep: int | str, of_scenes: np.ndarray) -> dict[str, Any]:
    low, high = interval(of_scenes)
    mean = float(of_scenes.mean())
    return {"things": things, "wording": wording, "timestep": timestep, "distance": mean, "low": low, "high": high}


@torch.no_grad()
def scene_distances(
    model: ImageModel,
    adapter: LLMDiffAdapter,
    count: int,
    timesteps: Sequence[int] = TIMESTEPS,
    *,
    encode: Encode | None = None,
    predict: Predict | None = None,
    progress: Progress = silent,
    after: int = 0,
) -> Iterator[list[Distances]]:
    """The distances of every scene, of all wordings, for each number of things and each timestep.

    Args:
        model: draws scenes of a domain, that of which the pictures are as large as its own.
        adapter: attached to it.
        count: B, scenes of each number of things.
        timesteps: at which their latents are noised.
        encode: of the prompts; the adapter's own if None.
        predict: the base model's own prediction; that of `base_prediction` if None.
        progress: shows how far it is.
        after: how many of the lists are known, and left out.
    """
    encode, predict = encode or adapter.encode, predict or base_prediction(model, adapter)
    domain = _domain(model)
    for row, things in enumerate(THINGS):
        due = list(timesteps)[max(0, after - row * len(timesteps)) :]
        if not due:
            continue
        said = [_scene(domain, things, i) for i in range(count)]
        described = [one for one, _ in said]
        latents = _latents(model.pipe, [picture for _, picture in said])
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(_SEED))
        for number, timestep in enumerate(due, (row + 1) * len(timesteps) - len(due)):
            progress(f"{things} things at {timestep}", number / (len(THINGS) * len(timesteps)))
            t = torch.full((count,), timestep)
            noisy = model.schedule.add_noise(latents, noise, t)
            teacher = predict(noisy, t, [domain.plainly(facts) for facts in described])
            unit = _squares(predict(noisy, t, [""] * count) - teacher).mean()
            ones = []
            for wording in _WORDINGS:
                prompts = _prompts(domain, wording, described)
                text = model.encode(prompts) if adapter.config.mode == "augment" else None
                student = model.predict(noisy, t, adapter.denoiser_inputs(encode(prompts), text))
                ones.append(Distances(things, wording, timestep, (_squares(student - teacher) / unit).numpy()))
            yield ones


def base_prediction(model: ImageModel, adapter: LLMDiffAdapter) -> Predict:
    """The predictions of the base model as it is without the adapter."""

    def predict(noisy: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        with adapter.disable_adapter():
            return model.predict(noisy, t, model.encode(captions))

    return predict


def distance_prompts(model: ImageModel, count: int) -> list[str]:
    """All prompts that `scene_distances` has encoded."""
    domain = _domain(model)
    said = [_scene(domain, things, i)[0] for things in THINGS for i in range(count)]
    parts = [said[first : first + count] for first in range(0, len(said), count)]
    return [prompt for part, wording in product(parts, _WORDINGS) for prompt in _prompts(domain, wording, part)]


def _domain(model: ImageModel) -> Domain:
    return DOMAINS[version_for(model.resolution)]


def _prompts(domain: Domain, wording: str, said: Sequence[Sequence[Fact]]) -> list[str]:
    put = _WORDINGS[wording]
    return [put(domain, facts, np.random.default_rng((_SEED, i))) for i, facts in enumerate(said)]


def _squares(difference: Tensor) -> Tensor:
    """The mean square of each sample, (B, ...) to (B,)."""
    return difference.square().flatten(1).mean(1)


def _scene(domain: Domain, things: int, index: int) -> tuple[Sequence[Fact], Tensor]:
    """All that is said of a scene, and its picture, (3, height, width)."""
    facts, picture = domain.sampled(things, np.random.default_rng((_SEED, things, index)))
    return facts, normalised(picture)


def _latents(pipe: Any, pictures: list[Tensor]) -> Tensor:
    """(B, c, H, W)."""
    means: Tensor = pipe.vae.encode(torch.stack(pictures)).latent_dist.mean
    return means * pipe.vae.config.scaling_factor
