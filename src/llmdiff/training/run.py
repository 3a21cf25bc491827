"""A training run from a recipe to a saved adapter."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.generation import SheetEntry, contact_sheet, save_png
from llmdiff.language import LanguageModel
from llmdiff.precompute import Answers
from llmdiff.progress import Progress, silent
from llmdiff.training import builders, precision, run_manifest
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.processes import accelerator
from llmdiff.training.recipe import Recipe, load_recipe
from llmdiff.training.run_lock import locked
from llmdiff.training.sharding import in_main_process, is_sharded
from llmdiff.training.trainer import Trainer
from llmdiff.training.validation import Validation

MOST_SKIPPED = 0.25
"""Share of a run's steps that may be skipped: in float16 the first few are, until the scale of the loss is found."""

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
        progress: Called with what is being done and the finished share of it, 0 … 1.

    Returns:
        folder, adapter (its folder), steps, skipped steps, and the number of trained parameters.

    Raises:
        LLMDiffError: The recipe, the data, the models or the disk do not allow it, another process trains in the
            recipe's folder, or too many steps were skipped; the sentence says which.
        Interrupted: After Ctrl-C, when a checkpoint is saved.

    Example:
        >>> train("fox.yaml", options=["loop.steps=2"])["adapter"]
        'runs/fox/adapter'
    """
    recipe = load_recipe(source, options)
    processes = accelerator(recipe.loop.trackers, recipe.folder)
    report = progress if progress and processes.is_main_process else silent
    with locked(recipe.folder) if processes.is_main_process else nullcontext():
        trainer = _run(recipe, resume, processes, report)
    if processes.is_main_process:
        _tell_skipped(trainer, recipe)
    return {
        "folder": str(recipe.folder),
        "adapter": str(recipe.folder / "adapter"),
        "steps": trainer.step,
        "skipped": trainer.skipped,
        "parameters": sum(p.numel() for _, p in trainer.trained()),
    }


def _run(recipe: Recipe, resume: bool, processes: Accelerator, report: Progress) -> Trainer:
    begun = run_manifest.check_folder(recipe, resume)
    identity = run_manifest.identity(recipe, begun)
    objective, validation = build(recipe, identity, begun, processes, report)
    scaler = precision.loss_scaler(objective.precision, processes.device.type)
    trainer = Trainer(objective, recipe.loop, recipe.folder, processes, scaler, identity)
    trainer.resume()
    with objective.prefetching(processes):
        trainer.run(_on_step(objective, report), validation.losses if validation else None)
    with trainer.averaged():
        if processes.is_main_process:
            objective.adapter.save_pretrained(recipe.folder / "adapter")
    processes.wait_for_everyone()
    return trainer


def _tell_skipped(trainer: Trainer, recipe: Recipe) -> None:
    """Says how many steps were skipped; too many are an error, though the adapter is saved.

    Raises:
        LLMDiffError: They are more than the share `MOST_SKIPPED` of all steps.
    """
    if not trainer.skipped:
        return
    counted = (
        f"{trainer.skipped:,} of {trainer.step:,} steps were skipped, because their loss or gradient was not finite"
    )
    if trainer.skipped > MOST_SKIPPED * trainer.step:
        raise LLMDiffError(
            f"{counted}: the adapter in {recipe.folder / 'adapter'} has learned from the others alone; train again in "
            "another folder, with a lower loop.learning_rate, or precision bfloat16 or float32."
        )
    warnings.warn(f"{counted}.", stacklevel=3)


def build(
    recipe: Recipe, identity: str, begun: bool, processes: Accelerator, report: Progress
) -> tuple[AdapterObjective, Validation | None]:
    """Loads everything and computes what the frozen models give for the data; writes nothing if it does not fit.

    Args:
        recipe: of the run.
        identity: of the run.
        begun: whether it goes on from a checkpoint.
        processes: that train together.
        report: called with the progress.
    """
    report("Loading the models", 0.0)
    base = builders.load_base(recipe.base, recipe.base_config, processes.device, recipe.needs_text_encoders)
    pictures = builders.load_data(recipe.data, base.resolution, recipe.heldout.share, recipe.loop.seed, report)
    live = recipe.cache.terms == "none"
    llm = builders.load_llm(recipe.llm, recipe.llm_dtype, recipe.llm_quantization, processes, live)
    facts = run_manifest.data_facts(*pictures) | run_manifest.model_facts(base, llm)
    if begun:
        run_manifest.check_facts(recipe, facts)
    adapter = LLMDiffAdapter.create(
        base.pipe,
        llm,
        mode=recipe.mode,
        reading=recipe.reading,
        refiner=recipe.refiner,
        lora=recipe.adapter_lora,
        seed=recipe.loop.seed,
    )
    kept = recipe.cache, recipe.cache_folder
    latents, held_latents = builders.load_latents(
        *kept, base.pipe.vae, pictures, report
    )  # it finds unreadable pictures
    if processes.is_main_process:
        run_manifest.claim(recipe, identity, facts)
    fitted_on = pictures.fitting_captions() if recipe.warm_start == "ridge" and not begun else []
    captions = [*pictures.captions(), *fitted_on]
    terms = builders.load_terms(*kept, captions, llm, adapter.config.reading, processes, report)
    _let_go(llm, recipe)
    if not begun:
        builders.initialise(adapter, base, terms, fitted_on, processes, report)
    adapter.attach(base.pipe)
    dtype = precision.product_dtype(recipe.precision, processes.mixed_precision, processes.device)
    answers = Answers(recipe.cache_folder, of=[facts["base model"], str(dtype)]) if recipe.cache.answers else None
    objective = AdapterObjective(adapter, base, latents, pictures.train, terms, recipe, dtype, answers)
    if precision.wants_compiler(recipe.compile, recipe.loop.steps):
        precision.compile_around_adapter(base.denoiser)
    if pictures.held_out is None:
        return objective, None
    return objective, Validation(objective, held_latents, pictures.held_out, recipe.heldout, processes)


def _let_go(llm: LanguageModel, recipe: Recipe) -> None:
    """Gives back the memory of an LLM that has read the captions, until the next sheet of samples."""
    if recipe.cache.terms != "none" and not is_sharded(llm):
        llm.offload()


def _on_step(objective: AdapterObjective, report: Progress) -> Callable[[Trainer, dict[str, float]], None]:
    every = objective.recipe.loop.sample_every if objective.recipe.samples else 0
    skipped = 0

    def on_step(trainer: Trainer, figures: dict[str, float]) -> None:
        nonlocal skipped
        objective.explains = trainer.skipped > skipped or objective.device.type == "cpu"
        skipped = trainer.skipped
        steps, speed = objective.recipe.loop.steps, figures["images_per_s"]
        title = f"Training, step {trainer.step:,} of {steps:,}, loss {figures['loss']:.4f}"
        title += f", {speed:,.0f} images/s" if speed >= 10 else f", {speed:.2g} images/s"
        title += f", {trainer.skipped} steps skipped" if trainer.skipped else ""
        report(title, trainer.step / steps)
        if every and trainer.step % every == 0:
            in_main_process(objective.adapter.llm, trainer.accelerator, lambda: draw(trainer))

    def draw(trainer: Trainer) -> None:
        with trainer.averaged():
            sample_sheet(objective, objective.recipe.folder / "samples" / f"{trainer.step:06d}.png")
        _let_go(objective.adapter.llm, objective.recipe)

    return on_step


@torch.no_grad()
def sample_sheet(objective: AdapterObjective, path: Path) -> None:
    """Draws the recipe's sample prompts with the adapter as it is now."""
    objective.adapter.eval()
    try:
        images = objective.base.pipe(
            objective.recipe.samples,
            num_inference_steps=_SAMPLE_STEPS,
            guidance_scale=_SAMPLE_GUIDANCE,
            generator=torch.Generator().manual_seed(0),
        ).images
    finally:
        objective.adapter.train()
    entries = [SheetEntry((image,), text) for image, text in zip(images, objective.recipe.samples, strict=True)]
    save_png(path, contact_sheet(entries, across=4))
