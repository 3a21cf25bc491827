"""Runs on data as people have it: several sources, several captions, sizes of all kinds, and a bad picture."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from llmdiff.errors import LLMDiffError
from llmdiff.training import Interrupted, train
from llmdiff.training.noise import draw_noise
from llmdiff.training.trainer import Trainer
from tiny_base import Places


def write(folder: Path, name: str, places: Places, **settings: Any) -> str:
    """A recipe for a folder with text files beside its pictures, in buckets, and drawn scenes."""
    pictures = {"kind": "folder", "path": str(folder / "pictures"), "crop": "buckets", "resolution": 32} | settings
    scenes = {"kind": "scenes", "captions": 3, "pictures": 1, "weight": 0.5}
    recipe = {
        "folder": str(folder / name),
        "base": str(places.base),
        "llm": str(places.llm),
        "data": {"sources": [pictures, scenes]},
        "precision": "float32",
        "loop": {"steps": 6, "batch_size": 2, "save_every": 3, "warmup": 1},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return str(folder / f"{name}.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of three shapes, each with two captions, and a file that is none."""
    (tmp_path / "pictures").mkdir()
    for n, size in enumerate([(40, 24), (24, 40), (32, 32)] * 2):
        Image.new("RGB", size, (40 * n, 200, 30)).save(tmp_path / "pictures" / f"{n}.png")
        (tmp_path / "pictures" / f"{n}.txt").write_text(f"picture {n}\nnumber {n}\n")
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "pictures" / "bad.txt").write_text("bad")
    return tmp_path


def test_a_run_stops_at_a_bad_picture(folder: Path, places: Places) -> None:
    with pytest.raises(LLMDiffError, match=r"bad\.png cannot be read \(not a picture\)"):
        train(write(folder, "run", places))
    assert not (folder / "run").exists()


@pytest.mark.filterwarnings("ignore:Left out", "ignore:1 of 7 pictures")
def test_an_interrupted_run_on_mixed_data_is_resumed_to_the_bit(
    folder: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halves = (write(folder, name, places, skip_bad=1) for name in ("whole", "halves"))
    seen: list[torch.Size] = []

    def drawn(shape: torch.Size, *rest: Any) -> torch.Tensor:
        seen.append(shape)
        return draw_noise(shape, *rest)

    monkeypatch.setattr("llmdiff.training.objective.draw_noise", drawn)
    train(whole)
    assert len(seen) == 6
    assert len(set(seen)) > 1
    one_step = Trainer._one_step

    def interrupted(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return one_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", interrupted)
        with pytest.raises(Interrupted):
            train(halves)
    train(halves, resume=True)
    first, second = (load_file(folder / name / "adapter" / "adapter.safetensors") for name in ("whole", "halves"))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
