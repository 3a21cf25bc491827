"""Every family of base models trains from a recipe file, as the command line would have it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from adapter.families import FAMILIES
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import load_pipeline
from llmdiff.training import train
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.randomness import Streams
from tiny_base import Places

CAPTIONS = ["a red cup", "two", "a cat at noon", "blue"]


def write_recipe(folder: Path, places: Places, family: str, distil_layers: int) -> str:
    FAMILIES[family].build().save_pretrained(folder / "base")
    (folder / "data").mkdir()
    for i, caption in enumerate(CAPTIONS):
        Image.new("RGB", (20, 16), (60 * i, 200, 30)).save(folder / "data" / f"{i}.png")
        (folder / "data" / f"{i}.txt").write_text(caption)
    recipe = {
        "folder": str(folder / "run"),
        "base": str(folder / "base"),
        "llm": str(places.llm),
        "mode": "replace",
        "data": {"kind": "folder", "path": str(folder / "data")},
        "precision": "float32",
        "objective": {"distil_layers": distil_layers},
        "loop": {"steps": 20, "batch_size": 4, "learning_rate": 3e-2, "warmup": 0, "log_every": 1, "ema": 0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return str(folder / "recipe.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("distil_layers", [0, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_of_a_recipe_learn_a_batch(
    family: str, distil_layers: int, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = AdapterObjective.loss
    same = np.arange(4)

    def overfit(objective: AdapterObjective, *_: Any) -> Any:
        """The same batch, timesteps and noise in every step."""
        return loss(objective, same, 0, Streams(0, same))

    monkeypatch.setattr(AdapterObjective, "loss", overfit)
    summary = train(write_recipe(tmp_path, places, family, distil_layers))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(losses) == summary["steps"] == 20
    assert sum(losses[-5:]) < 0.99 * sum(losses[:5])
    assert losses[-1] < losses[0]
    LLMDiffAdapter.from_pretrained(summary["adapter"]).attach(load_pipeline(tmp_path / "base"))
