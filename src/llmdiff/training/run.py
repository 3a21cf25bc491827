"""A training run from a recipe to a saved adapter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.generation import SheetEntry, contact_sheet, load_pipeline, save_png
from llmdiff.language import LanguageModel
from llmdiff.progress import Progress, silent
from llmdiff.training import checkpoint, precision, precompute
from llmdiff.training.base import check_trainable, resolution
from llmdiff.training.data import captioned, captions_of
from llmdiff.training.loop import Trainer
from llmdiff.training.recipe import Recipe, load_recipe
from llmdiff.training.task import AdapterTask

_SAMPLE_STEPS = 20
_SAMPLE_GUIDANCE = 4.0


def train(
    source: str, options: list[str] | None = None, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains an adapter by a recipe and saves it.

    Args:
        source: A recipe file or a preset's name.
        options: `key.sub=value` settings over those of the recipe.
        resume: Go on from the newest checkpoint of an interrupted run.
        progress: Told what is being done and the finished share of it, 0 … 1.

    Returns:
        folder, adapter (its folder), steps, skipped steps, and the number of trained parameters.

    Raises:
        LLMDiffError: The recipe, the data, the models or the disk do not allow it; the sentence says which.
        Interrupted: After Ctrl-C, when a checkpoint is saved.
    """
    recipe = load_recipe(source, options)
    _check_folder(recipe, resume)
    report = progress or silent
    task = _prepare(recipe, report)
    trainer = Trainer(task, recipe.loop, recipe.folder)
    trainer.resume()
    trainer.run(_on_step(task, report))
    with trainer.averaged():
        task.adapter.save_pretrained(recipe.folder / "adapter")
    count = sum(p.numel() for p in task.adapter.parameters())
    return {
        "folder": str(recipe.folder),
        "adapter": str(recipe.folder / "adapter"),
        "steps": trainer.step,
        "skipped": trainer.skipped,
        "parameters": count,
    }


def _note(recipe: Recipe) -> Path:
    return recipe.folder / "recipe.json"


def _check_folder(recipe: Recipe, resume: bool) -> None:
    """Raises LLMDiffError unless the recipe's folder is free, or holds an interrupted run of this recipe to resume."""
    if resume and not _note(recipe).is_file():
        raise LLMDiffError(f"There is no run in {recipe.folder} to resume; start one without --resume.")
    begun = checkpoint.newest(recipe.folder / "checkpoints") is not None
    if begun and not resume:
        raise LLMDiffError(f"{recipe.folder} already holds a run; add --resume, or set folder to another path.")
    if begun:
        _check_same(_note(recipe), json.loads(recipe.model_dump_json()))


def _claim(recipe: Recipe) -> None:
    """Notes the recipe in its folder, by which a run there can be resumed."""
    try:
        with written_whole(_note(recipe)) as draft:
            draft.write_text(recipe.model_dump_json(indent=2))
    except OSError as error:
        raise LLMDiffError(f"The folder {recipe.folder} cannot be written ({error}).") from error


def _check_same(note: Path, mine: dict[str, Any]) -> None:
    """Raises LLMDiffError unless the noted recipe is this one; the folder may have been moved."""
    try:
        theirs = json.loads(note.read_text())
    except (OSError, ValueError) as error:
        raise LLMDiffError(f"{note} is damaged ({error}); set folder to another path and train anew.") from error
    changed = [key for key in mine if key != "folder" and mine[key] != theirs.get(key)]
    if changed:
        raise LLMDiffError(f"The run in {note.parent} has another {changed[0]!r}; resume it with its own recipe.")


def _prepare(recipe: Recipe, report: Progress) -> AdapterTask:
    """Loads everything and has the frozen models say what they say of the data; writes nothing if it does not fit."""
    report("Loading the models", 0.0)
    pipe = load_pipeline(recipe.base)
    check_trainable(pipe)
    data = captioned(recipe.data, resolution(pipe), report)
    llm = LanguageModel.load(recipe.llm)
    adapter = LLMDiffAdapter.create(pipe, llm, mode=recipe.mode, reading=recipe.reading, seed=recipe.loop.seed)
    latents = precompute.latents(pipe.vae.eval(), data, report)  # first: it finds the pictures that cannot be read
    _claim(recipe)
    terms = precompute.BlockTerms.of([*captions_of(data), ""], llm, adapter.config.reading, recipe.folder, report)
    adapter.attach(pipe)
    bf16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and precision.HAS_BF16)
    return AdapterTask(adapter, pipe, latents, data, terms, recipe, bf16)


def _on_step(task: AdapterTask, report: Progress) -> Callable[[Trainer, dict[str, float]], None]:
    every = task.recipe.loop.sample_every if task.recipe.samples else 0

    def on_step(trainer: Trainer, figures: dict[str, float]) -> None:
        title = f"Training, loss {figures['loss']:.4f}, {figures['images_per_s']:.0f} images/s"
        report(title, trainer.step / task.recipe.loop.steps)
        if every and trainer.step % every == 0:
            with trainer.averaged():
                sample_sheet(task, task.recipe.folder / "samples" / f"{trainer.step:06d}.png")

    return on_step


@torch.no_grad()
def sample_sheet(task: AdapterTask, path: Path) -> None:
    """Draws the recipe's sample prompts with the adapter as it is now."""
    task.adapter.eval()
    try:
        images = task.pipe(
            task.recipe.samples,
            num_inference_steps=_SAMPLE_STEPS,
            guidance_scale=_SAMPLE_GUIDANCE,
            generator=torch.Generator().manual_seed(0),
        ).images
    finally:
        task.adapter.train()
        task.adapter.release()
    entries = [SheetEntry((image,), text) for image, text in zip(images, task.recipe.samples, strict=True)]
    save_png(path, contact_sheet(entries, across=4))
