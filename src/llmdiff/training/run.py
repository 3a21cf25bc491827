"""A training run from a recipe to a saved adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data import Captioned, captioned, captions_of
from llmdiff.errors import LLMDiffError
from llmdiff.generation import SheetEntry, contact_sheet, load_pipeline, save_png
from llmdiff.language import LanguageModel
from llmdiff.precompute import open_latents, open_terms
from llmdiff.progress import Progress, silent
from llmdiff.training import precision, run_manifest
from llmdiff.training.lora import add_lora, check_lora, save_lora
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.processes import accelerator, broadcast_from_main
from llmdiff.training.recipe import Recipe, load_recipe
from llmdiff.training.ridge_init import fit, fitting_captions
from llmdiff.training.sharding import in_main_process, is_sharded, is_sharding_asked_for, shard
from llmdiff.training.trainer import Trainer
from llmdiff.training.validation import Validation, split

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

    Example:
        >>> train("fox.yaml", options=["loop.steps=2"])["adapter"]
        'runs/fox/adapter'
    """
    recipe = load_recipe(source, options)
    processes = accelerator(recipe.loop.trackers, recipe.folder)
    run_manifest.check_folder(recipe, resume)
    report = progress if progress and processes.is_main_process else silent
    objective, heldout = _prepare(recipe, report, processes)
    trainer = Trainer(objective, recipe.loop, recipe.folder, processes, precision.LossScale.of(objective.precision))
    trainer.resume()
    with objective.reading_ahead(processes):
        trainer.run(_on_step(objective, report), heldout.losses if heldout else None)
    with trainer.averaged():
        if processes.is_main_process:
            _save(objective, recipe)
    processes.wait_for_everyone()
    return {
        "folder": str(recipe.folder),
        "adapter": str(recipe.folder / "adapter"),
        "steps": trainer.step,
        "skipped": trainer.skipped,
        "parameters": sum(p.numel() for p in objective.module.parameters() if p.requires_grad),
    }


def _save(objective: AdapterObjective, recipe: Recipe) -> None:
    """Writes the adapter, and the LoRA beside it."""
    objective.adapter.save_pretrained(recipe.folder / "adapter")
    if recipe.lora:
        save_lora(objective.pipe, recipe.folder / "adapter")


def _prepare(recipe: Recipe, report: Progress, processes: Accelerator) -> tuple[AdapterObjective, Validation | None]:
    """Loads everything and has the frozen models say what they say of the data; writes nothing if it does not fit."""
    report("Loading the models", 0.0)
    pipe = load_pipeline(recipe.base, device=processes.device)
    base = ImageModel(pipe)
    base.check_trainable()
    pipe.vae.eval()
    if recipe.lora:
        check_lora(pipe)
    data, held = split(captioned(recipe.data, base.resolution, report), recipe.heldout.share, recipe.loop.seed)
    facts = run_manifest.facts_of(data, held)
    run_manifest.check_data(recipe, facts)
    sharded = is_sharding_asked_for(processes)
    if sharded and recipe.cache.terms == "none":
        raise LLMDiffError("An LLM under --use_fsdp cannot be asked in every step: set cache.terms to all or grouped.")
    if sharded and recipe.llm_quantization:
        raise LLMDiffError("A quantised LLM cannot be divided by --use_fsdp: leave out llm_quantization or the option.")
    home = torch.device("cpu") if sharded else processes.device
    llm = LanguageModel.load(
        recipe.llm, dtype=getattr(torch, recipe.llm_dtype), device=home, quantization=recipe.llm_quantization
    )
    adapter = LLMDiffAdapter.create(
        pipe, llm, mode=recipe.mode, reading=recipe.reading, refiner=recipe.refiner, seed=recipe.loop.seed
    )
    kept = recipe.cache, recipe.cache_folder
    latents = open_latents(*kept, pipe.vae, data, report)  # first: it finds the pictures that cannot be read
    held_latents = open_latents(*kept, pipe.vae, held, report) if held else None
    if processes.is_main_process:
        run_manifest.claim(recipe, facts)
    own = _own_captions(recipe, data)
    captions = [*captions_of(data), *(captions_of(held) if held else ()), *own, ""]
    if sharded:
        shard(llm, processes)
        in_main_process(llm, processes, lambda: open_terms(*kept, captions, llm, adapter.config.reading, report))
    terms = open_terms(*kept, captions, llm, adapter.config.reading, report)
    _let_go(llm, recipe)
    if not run_manifest.has_begun(recipe):
        if own:  # what has a closed form before the first step
            fit(adapter, base, terms, own, report)
        broadcast_from_main(processes, [p.data for p in adapter.parameters()])
    adapter.attach(pipe)
    if recipe.lora:
        add_lora(pipe, recipe.lora, recipe.loop.seed)
    dtype = precision.product_dtype(recipe.precision, processes.mixed_precision, processes.device)
    objective = AdapterObjective(adapter, pipe, latents, data, terms, recipe, dtype)
    if precision.wants_compiler(recipe.compile, recipe.loop.steps):
        precision.compile_around_adapter(objective.base.denoiser)
    return objective, Validation(objective, held_latents, held, recipe.heldout, processes) if held else None


def _let_go(llm: LanguageModel, recipe: Recipe) -> None:
    """Gives back the memory of an LLM that has said what it has to say, until the next sheet of samples."""
    if recipe.cache.terms != "none" and not is_sharded(llm):
        llm.offload()


def _own_captions(recipe: Recipe, data: Captioned) -> list[str]:
    """What φ is fitted on before the first step of a run, if it is."""
    if recipe.warm_start == "none" or run_manifest.has_begun(recipe):
        return []
    return fitting_captions(captions_of(data), (text for texts in data.teacher_captions for text in texts))


def _on_step(objective: AdapterObjective, report: Progress) -> Callable[[Trainer, dict[str, float]], None]:
    every = objective.recipe.loop.sample_every if objective.recipe.samples else 0

    def on_step(trainer: Trainer, figures: dict[str, float]) -> None:
        title = f"Training, loss {figures['loss']:.4f}, {figures['images_per_s']:.0f} images/s"
        report(title, trainer.step / objective.recipe.loop.steps)
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
        images = objective.pipe(
            objective.recipe.samples,
            num_inference_steps=_SAMPLE_STEPS,
            guidance_scale=_SAMPLE_GUIDANCE,
            generator=torch.Generator().manual_seed(0),
        ).images
    finally:
        objective.adapter.train()
    entries = [SheetEntry((image,), text) for image, text in zip(images, objective.recipe.samples, strict=True)]
    save_png(path, contact_sheet(entries, across=4))
