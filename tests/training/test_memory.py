"""Micro-batches change the rounding alone, and a lack of memory makes them smaller."""

import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.training.trainer import Trainer
from training.outcomes import assert_near, losses, weights
from training.regression import Regression, settings


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 9])
def test_micro_batches_change_the_rounding_alone(tmp_path, micro_batch):
    whole = Trainer(Regression(), settings(10), tmp_path / "whole")
    parts = Trainer(Regression(), settings(10, micro_batch=micro_batch), tmp_path / "parts")
    whole.run()
    parts.run()
    assert parts.objective.seen == whole.objective.seen
    assert_near(weights(whole), weights(parts))
    assert losses(tmp_path / "parts") == [
        (step, pytest.approx(loss, abs=2e-6)) for step, loss in losses(tmp_path / "whole")
    ]


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to."),
    MemoryError(),
]


@pytest.mark.parametrize("shortage", SHORTAGES, ids=["CUDA", "CPU", "Windows", "Python"])
def test_a_lack_of_memory_halves_the_micro_batch_and_keeps_the_batch(tmp_path, shortage):
    objective = Regression()
    objective.room, objective.full = 1, shortage
    short = Trainer(objective, settings(8), tmp_path / "short")
    with pytest.warns(UserWarning, match="Out of memory in step 1: going on with micro-batches of") as warned:
        short.run()
    assert ["micro-batches of 2" in str(w.message) or "micro-batches of 1" in str(w.message) for w in warned] == [
        True
    ] * 2
    assert objective.seen == list(range(32)), "no sample twice, none left out"
    whole = Trainer(Regression(), settings(8), tmp_path / "whole")
    whole.run()
    assert_near(weights(whole), weights(short))
    again = Trainer(Regression(), settings(8), tmp_path / "short")
    again.resume()
    assert again.micro_batch == 1, "a resumed run does not try again what did not fit"


def test_a_sample_that_does_not_fit_says_which_knob_to_turn(tmp_path):
    objective = Regression()
    objective.room = 0
    trainer = Trainer(objective, settings(8, micro_batch=1), tmp_path)
    with pytest.raises(LLMDiffError, match=r"gradient_checkpointing .* precision .* data\.resolution"):
        trainer.run()


def test_other_faults_are_not_taken_for_a_lack_of_memory(tmp_path):
    objective = Regression()
    objective.room, objective.full = 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        Trainer(objective, settings(8), tmp_path).run()


def test_an_optimizer_that_does_not_fit_says_which_knob_to_turn(tmp_path, monkeypatch):
    trainer = Trainer(Regression(), settings(4), tmp_path)

    def fill(*_: object) -> None:
        raise SHORTAGES[0]

    monkeypatch.setattr(trainer.optimizer, "step", fill)
    with pytest.raises(LLMDiffError, match=r"optimizer's state.* set loop\.ema to 0, or loop\.micro_batch"):
        trainer.run()
