"""What a run ends with, and how two runs compare, for tests."""

import json
from pathlib import Path

import torch

from llmdiff.training import checkpoint
from llmdiff.training.trainer import Trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that a run ends with."""
    names = {p: name for name, p in trainer.objective.module.named_parameters()}
    return {
        **trainer.objective.module.state_dict(),
        **checkpoint.prefixed("ema", trainer.ema),
        **checkpoint.optimizer_tensors(trainer.optimizer, names),
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def assert_near(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6)] == []
