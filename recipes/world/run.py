"""A run of the recipe: its stages in order, each from its last checkpoint."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from llmdiff.world.description import Detail
from llmdiff.world.scene import Lot
from llmdiff.world.things import NAMES
from world import autoencoder, evaluate, modules, text
from world.data import SINGLE, SIZE, Stream
from world.denoising import DenoisingObjective
from world.export import export
from world.handover import START, write_start
from world.loop import Loop, Objective
from world.machine import Machine
from world.pool import Pool, scene_pool
from world.settings import UNET_STAGES, Settings, StageSettings

_FRESH, _TEXT = 12, 20  # seeds of scenes for measures, and for the text encoder
_READOUT = "readout.safetensors"
STREAMS = {
    "singles": Stream(21, SINGLE),
    "scenes": Stream(22, SIZE),
    "relations": Stream(24, SIZE, lot=Lot(counts=(0.1, 0.4, 0.3, 0.2)), detail=Detail(links=0.6)),
}
"""What the U-Net's stages learn from. Relations come last, in more captions than elsewhere, where they were not learned
in 1.6 million pictures; not in all, because those of several like things are never told: where all others are, a
caption without one comes to mean that something is there twice."""
_LOG_SECONDS = 15.0


class OutOfTimeError(Exception):
    """The deadline came before a stage was done; what it has is on disk."""


class Run:
    """All that a run is.

    Args:
        folder: of the run.
        settings: of all stages.
        machine: that runs this slice.
        deadline: of `time.monotonic`.
    """

    def __init__(self, folder: Path, settings: Settings, machine: Machine, deadline: float = float("inf")) -> None:
        self.folder, self.settings, self.machine, self.deadline = folder, settings, machine, deadline
        self._told = time.monotonic()
        self._curve = evaluate.Curve(folder, settings.evaluate_minutes)
        self._evaluation = 0.0  # seconds that the next one may take
        self._pipe: Any = None

    def go_on(self) -> bool:
        """Trains until the base is done, True, or until the deadline, False.

        Raises:
            LLMDiffError: A loss is not finite, or a checkpoint cannot be written or used.
            KeyboardInterrupt: It was asked for; a checkpoint is saved.
        """
        if self._is_done():
            return True
        try:
            vae = self._autoencoder()
            self._unet(vae, *self._text_encoder())
        except OutOfTimeError:
            return False
        export(self._pipe, self.folder, self.settings, self.machine.described())
        return True

    def _is_done(self) -> bool:
        """True if there is a base, and no more steps are wanted than it has seen."""
        last = UNET_STAGES[-1]
        newest = checkpoint.newest(self.folder / last / "checkpoints")
        wanted = getattr(self.settings, last).steps
        steps = int(newest.stem.removeprefix("step-")) if newest else wanted
        return (self.folder / "model").exists() and steps >= wanted

    def _autoencoder(self) -> Any:
        place = self.folder / "autoencoder"
        if not (place / "model" / "config.json").exists():
            self._train_autoencoder(place)
        vae: Any = AutoencoderKL.from_pretrained(place / "model").float()
        return vae.eval().requires_grad_(False).to(self.machine.device, memory_format=torch.channels_last)

    def _train_autoencoder(self, place: Path) -> None:
        settings, device = self.settings.autoencoder, self.machine.device
        torch.manual_seed(settings.seed)
        vae = modules.autoencoder(self.settings.vae_channels)
        pictures = autoencoder.pictures(settings.pictures, self.settings.things).to(device)
        objective = autoencoder.AutoencoderObjective(vae, pictures, self.machine)
        loop = self._trained("autoencoder", objective, settings)
        assign(objective.module, loop.averages())
        few = min(128, settings.pictures)
        fresh = torch.from_numpy(Stream(_FRESH, things=self.settings.things).pictures(range(few))).to(device)
        vae.register_to_config(scaling_factor=autoencoder.latent_scale(vae.eval(), fresh))
        typer.echo(f"autoencoder: {autoencoder.decibels(vae, fresh):.2f} dB on scenes that it was not trained on")
        vae.save_pretrained(place / "model")

    def _text_encoder(self) -> tuple[CLIPTextModel, text.FactReadout]:
        place, settings = self.folder / "text" / "model", self.settings.text
        if not (place / "config.json").exists():
            torch.manual_seed(settings.seed)
            text_encoder = modules.text_encoder(self.settings.text_layers)
            pool = text.captions(settings.pictures, Stream(_TEXT, SIZE, len(NAMES)))
            pool = text.Captions(*(part.to(self.machine.device) for part in pool))
            objective = text.TextObjective(text_encoder, pool, self.machine)
            assign(objective.module, self._trained("text", objective, settings).averages())
            place.mkdir(exist_ok=True)
            save_file(objective.readout.state_dict(), place / _READOUT)
            text_encoder.save_pretrained(place)
        found: CLIPTextModel = CLIPTextModel.from_pretrained(place).float()
        readout = text.FactReadout(found.config.hidden_size)
        if not (place / _READOUT).is_file():
            raise LLMDiffError(f"{place} has no {_READOUT}, it is of an older recipe: delete it to train it again.")
        readout.load_state_dict(load_file(place / _READOUT))
        return found, readout

    def _unet(self, vae: Any, text_encoder: CLIPTextModel, facts: text.FactReadout) -> None:
        """Trains the U-Net, and the text encoder with it, through all of their stages."""
        torch.manual_seed(self.settings.singles.seed)
        unet = modules.unet(self.settings.unet_channels, self.settings.unet_layers)
        objective = DenoisingObjective(unet, text_encoder, facts, self.machine)
        self._pipe = modules.pipeline(vae, text_encoder, unet)
        starts = [self.folder / stage / START for stage in UNET_STAGES]
        begun = max((n for n, start in enumerate(starts) if start.exists()), default=0)
        for n, stage in list(enumerate(UNET_STAGES))[begun:]:
            objective.settings = getattr(self.settings, stage)
            objective.pool = self._pool(stage, vae, objective.settings)
            loop = self._trained(stage, objective, objective.settings)
            if n + 1 < len(starts):
                write_start(starts[n + 1], loop.averages(), step=0, seconds=0.0)
        assign(objective.module, loop.averages())

    def _pool(self, stage: str, vae: Any, settings: StageSettings) -> Pool:
        stream = replace(STREAMS[stage], things=self.settings.things)

        def tell(share: float) -> None:
            typer.echo(f"{stage}: {share:.0%} of {settings.pictures:,} pictures are made ready")

        pool = scene_pool(stream, settings.pictures, vae, self.folder / "pools", self.machine, self.deadline, tell)
        if pool is None:
            raise OutOfTimeError
        return pool

    def _trained(self, stage: str, objective: Objective, settings: StageSettings) -> Loop:
        """A stage trained to its end, from its last checkpoint, or else from weights that it is to begin with."""
        if self.machine.compiled and settings.compiled:
            objective.compile()
        loop = Loop(objective, settings, self.folder / stage, self.machine)
        start = self.folder / stage / START
        if not loop.resume() and start.exists():
            loop.begin(start)
        loop.run(self.deadline, lambda loop, figures: self._observe(stage, loop, figures))
        if not loop.is_done:
            raise OutOfTimeError
        return loop

    def _observe(self, stage: str, loop: Loop, figures: dict[str, float]) -> None:
        self._tell(stage, loop, figures)
        minutes = loop.seconds / 60
        if stage in STREAMS and (loop.is_done or self._curve.is_due(stage, minutes)):
            started = time.monotonic()
            if started + self._evaluation < self.deadline:
                self._evaluate(stage, loop, minutes)
                self._evaluation = 1.5 * (time.monotonic() - started)

    def _evaluate(self, stage: str, loop: Loop, minutes: float) -> None:
        canvas, settings = STREAMS[stage].canvas, self.settings
        captions = evaluate.prompts(settings.prompts, canvas, settings.things)
        with loop.averaged():
            pictures = evaluate.drawn(
                self._pipe, [caption.text for caption in captions], canvas, settings.draw_steps, settings.guidance,
                self.machine,
            )  # fmt: skip
        found = evaluate.scores(captions, pictures, settings.things)
        pictures_seen = loop.step * loop.settings.batch_size
        row = {"stage": stage, "step": loop.step, "pictures": pictures_seen, "minutes": round(minutes, 2), **found}
        self._curve.add(row, pictures)
        typer.echo(f"{stage} scores: " + ", ".join(f"{name} {value:.1%}" for name, value in found.items()))

    def _tell(self, stage: str, loop: Loop, figures: dict[str, float]) -> None:
        if time.monotonic() - self._told < _LOG_SECONDS and not loop.is_done:
            return
        self._told = time.monotonic()
        told = ", ".join(f"{name} {figures[name]:.4f}" for name in loop.objective.figures)
        speed = figures["pictures_per_s"]
        share = loop.step / loop.settings.steps
        left = (loop.settings.steps - loop.step) * loop.settings.batch_size / speed / 60
        typer.echo(f"{stage} {share:.1%} (step {loop.step:,}; {left:.0f} min left): {told}; {speed:.1f} pictures/s")


def assign(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Gives a module's parameters these values."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name in weights:
                p.copy_(weights[name])
