"""The scores of one cell: its distance to the teacher, and the pictures that it draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.comparison.cells import Cell
from llmdiff.comparison.config import PictureSettings, ScreenSettings
from llmdiff.evaluation.distance import base_prediction, distance_prompts, scene_distances
from llmdiff.evaluation.domains import version_for
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import Outcome, System, draw_outcomes
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.generation import Models, Renderer, save_png
from llmdiff.hashing import json_hash, weights_hash
from llmdiff.language import Encoding
from llmdiff.precompute import Answers, open_terms
from llmdiff.progress import Progress, silent


def load(cell: Cell) -> Renderer:
    """The base model of a cell with its adapter attached.

    Raises:
        LLMDiffError: One of them cannot be read.
    """
    recipe = cell.recipe
    return Renderer.load(Models(base=recipe.base, base_config=recipe.base_config, adapter=str(cell.adapter)))


@torch.no_grad()
def screen(cell: Cell, renderer: Renderer, settings: ScreenSettings, progress: Progress = silent) -> dict[str, Any]:
    """The distance of a trained cell, scene by scene.

    What the LLM and the base model say comes from the caches that all cells share, as in training.

    Args:
        cell: trained.
        renderer: as `load` gives it.
        settings: which scenes and timesteps.
        progress: shows how far it is.

    Returns:
        Rows of things, wording, timestep and distances (of each scene), and the number of trained parameters.
    """
    adapter = renderer.adapter
    assert adapter is not None
    model = ImageModel(renderer.pipe)
    places = scene_distances(
        model,
        adapter,
        settings.scenes,
        settings.timesteps,
        encode=_kept_encodings(cell, model, adapter, settings, progress),
        predict=_kept_answers(cell, model, adapter),
        progress=progress,
    )
    return {
        "distances": [
            {
                "things": row.things,
                "wording": row.wording,
                "timestep": row.timestep,
                "distances": row.of_scenes.tolist(),
            }
            for rows in places
            for row in rows
        ],
        "parameters": sum(weight.numel() for weight in adapter.parameters()),
    }


def _kept_encodings(
    cell: Cell, model: ImageModel, adapter: LLMDiffAdapter, settings: ScreenSettings, progress: Progress
) -> Any:
    """From prompts to encodings, by the LLM's terms in the cache."""
    cache = cell.recipe.cache
    prompts = distance_prompts(model, settings.scenes)
    terms = open_terms(cache, cell.recipe.cache_folder, prompts, adapter.llm, adapter.config.reading, progress)

    def encode(prompts: Sequence[str]) -> Encoding:
        start, stack, mask = terms.batch(prompts)
        return adapter.refine(Encoding(adapter.text_encoding(start, stack, mask), mask))

    return encode


def _kept_answers(cell: Cell, model: ImageModel, adapter: LLMDiffAdapter) -> Any:
    """The base model's own predictions, by those in the cache."""
    ask = base_prediction(model, adapter)
    with adapter.disable_adapter():
        answers = Answers(cell.recipe.cache_folder, of=[base_content(model), "evaluation"])

    def predict(noisy: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        return answers.get(noisy, t, captions, lambda: ask(noisy, t, captions))

    return predict


def base_content(model: ImageModel) -> str:
    """A hash of all weights of a base model, without those of an adapter on it."""
    parts = {name: part for name, part in model.pipe.components.items() if isinstance(part, nn.Module)}
    return json_hash({name: weights_hash(part) for name, part in parts.items() if name != "safety_checker"})


def draw(
    folder: Path, renderer: Renderer, settings: PictureSettings, *, adapted: bool, progress: Progress = silent
) -> dict[str, Any]:
    """The scene benchmark with pictures of a sheet, which are saved as ``sheet-0.png`` and so on.

    Args:
        folder: of the pictures.
        renderer: the models.
        settings: which prompts, and how they are drawn.
        adapted: False for the base model alone.
        progress: shows how far it is.

    Returns:
        Rows of group, prompt, right (share of its pictures that are) and facts (share of facts that are).
    """
    prompts = scene_prompts(settings.limit, version_for(renderer.default_size()[0]))

    def tell(share: float) -> None:
        progress("Drawing", share)

    def run() -> list[Outcome]:
        for number, prompt in enumerate(settings.sheet):
            image = renderer.pipe(
                prompt,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(0),
            ).images[0]
            save_png(folder / f"sheet-{number}.png", image)
        system = System("cell", settings.guidance)
        return draw_outcomes(renderer.pipe, system, prompts, settings.seeds, settings.steps, KeptScores(None, {}), tell)

    if adapted:
        outcomes = run()
    else:
        with renderer.base_alone():
            outcomes = run()
    return {"prompts": [_row(prompt, outcomes, i, settings.seeds) for i, prompt in enumerate(prompts)]}


def _row(prompt: ScenePrompt, outcomes: Sequence[Outcome], number: int, seeds: int) -> dict[str, Any]:
    own = outcomes[number * seeds : (number + 1) * seeds]
    return {
        "group": prompt.group,
        "prompt": prompt.prompt,
        "right": sum(one.right for one in own) / seeds,
        "facts": sum(one.facts_right for one in own) / seeds,
    }
