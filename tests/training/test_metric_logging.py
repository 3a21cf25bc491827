"""What a run tells on its way: JSON lines, held-out losses, and accelerate's trackers."""

import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from llmdiff.errors import LLMDiffError
from llmdiff.training.processes import accelerator
from llmdiff.training.trainer import Trainer
from training.outcomes import losses
from training.regression import Regression, settings


def test_what_was_logged_after_the_checkpoint_is_logged_anew(tmp_path):
    Trainer(Regression(), settings(6), tmp_path).run()
    log = tmp_path / "log.jsonl"
    once = log.read_text()
    log.write_text(once + '{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    again = Trainer(Regression(), settings(8), tmp_path)
    again.resume()
    again.run()
    assert log.read_text().startswith(once)
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 9))


def test_what_is_held_out_is_looked_at_now_and_then_with_the_averaged_weights(tmp_path):
    trainer = Trainer(Regression(), settings(7, heldout_every=3, log_every=2), tmp_path)
    seen: list[tuple[int, bool]] = []

    def evaluate(trainer: Trainer) -> dict[str, float]:
        name, ema = next(iter(trainer.ema.items()))
        seen.append((trainer.step, torch.equal(dict(trainer.objective.module.named_parameters())[name], ema)))
        return {"heldout/σ0.5/adapter": float(trainer.step)}

    trainer.run(evaluate=evaluate)
    assert seen == [(3, True), (6, True), (7, True)]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["step"], row.get("heldout/σ0.5/adapter")) for row in rows] == [
        (2, None),
        (3, 3),
        (4, None),
        (6, 6),
        (7, 7),
    ]


class Recorder(GeneralTracker):
    """A tracker of one's own, as accelerate takes it."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__(_blank=True)
        self.rows: list[tuple[int, set[str]]] = []
        self.config: dict[str, object] = {}
        self.finished = False

    @property
    def tracker(self) -> "Recorder":
        return self

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int, **_: object) -> None:
        self.rows.append((step, set(values)))

    def finish(self) -> None:
        self.finished = True


def test_trackers_of_accelerate_are_told(tmp_path):
    recorder = Recorder()
    Trainer(Regression(), settings(4, log_every=2), tmp_path, Accelerator(cpu=True, log_with=[recorder])).run()
    assert recorder.rows == [(step, {"loss", "norm", "rate", "images_per_s"}) for step in (2, 4)]
    assert recorder.config["steps"] == 4
    assert recorder.finished


def test_a_tracker_that_is_not_there_is_told():
    with pytest.raises(
        LLMDiffError, match="'wander' cannot be used: accelerate knows no such tracker, or choose one of"
    ):
        accelerator(["wander"])
