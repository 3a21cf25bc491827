"""`train`: from a recipe file to an adapter that draws, and what stands in the way of a run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from base.original_layout import save_checkpoint
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language.loading import Loading
from llmdiff.training import checkpoint, load_recipe, train
from llmdiff.training.costs import costs
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.trainer import Trainer
from tiny_base import Places

REFINER = {"blocks": 1, "width": 16}
REDRAW = """
import sys
import numpy as np, torch
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import load_pipeline
pipe = load_pipeline(sys.argv[1])
LLMDiffAdapter.from_pretrained(sys.argv[2]).attach(pipe)
for name in sys.argv[3:]:
    rng = torch.Generator().manual_seed(4)
    picture = pipe("two red cups", num_inference_steps=2, generator=rng, output_type="np").images
    np.save(name, picture)
"""


def write_recipe(folder: Path, places: Places, **changes: object) -> str:
    recipe = {
        "folder": str(folder / "run"),
        "base": str(places.base),
        "llm": str(places.llm),
        "mode": "replace",
        "data": {"kind": "scenes", "captions": 6, "pictures": 2},
        "samples": ["a red cup", "night"],
        "precision": "float32",
        "loop": {"steps": 4, "batch_size": 2, "log_every": 1, "save_every": 2, "sample_every": 2, "warmup": 1},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path, places: Places) -> str:
    return write_recipe(tmp_path, places)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run" / "adapter" / "adapter.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_a_run_leaves_an_adapter_logs_checkpoints_and_sheets(recipe, tmp_path):
    told: list[tuple[str, float]] = []
    summary = train(recipe, progress=lambda stage, share: told.append((stage, share)))
    run = tmp_path / "run"
    adapter = LLMDiffAdapter.from_pretrained(run / "adapter")
    assert summary == {
        "folder": str(run),
        "adapter": str(run / "adapter"),
        "steps": 4,
        "skipped": 0,
        "parameters": sum(p.numel() for p in adapter.parameters()),
    }
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["loss"] > 0 and row["norm"] > 0 for row in rows)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000002.safetensors", "step-00000004.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["000002.png", "000004.png"]
    with Image.open(run / "samples" / "000004.png") as sheet:
        assert sheet.width > 2 * 192
    assert list((run / "tensorboard").iterdir())
    assert {stage.split(",")[0] for stage, _ in told} == {
        "Loading the models", "Reading captions", "Encoding pictures", "Training",
    }  # fmt: skip
    assert told[-1][1] == 1


def test_the_saved_weights_are_the_averaged_ones(recipe, tmp_path):
    train(recipe)
    tensors, _ = checkpoint.load(checkpoint.newest(tmp_path / "run" / "checkpoints"))
    assert_same(weights(tmp_path), checkpoint.under("ema", tensors))


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(tmp_path, places):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(found))
        train(write_recipe(tmp_path / name, places), [f"loop.seed={seed}", "loop.steps=2"])
        found.append(weights(tmp_path / name))
    assert_same(found[0], found[1])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_sample_sheets_change_nothing(tmp_path, places):
    for name, every in (("with", 1), ("without", 0)):
        (tmp_path / name).mkdir()
        train(write_recipe(tmp_path / name, places), [f"loop.sample_every={every}", "loop.steps=3"])
    assert_same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    assert not (tmp_path / "without" / "run" / "samples").exists()


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in one step of the next run."""
    one_step = Trainer._one_step

    def stepping(trainer: Trainer) -> dict[str, float]:
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return one_step(trainer)

    monkeypatch.setattr(Trainer, "_one_step", stepping)


def interrupted(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(("kept", "loads"), [("all", 3), ("none", 1)])
def test_the_llm_is_in_memory_only_while_it_reads(tmp_path, places, monkeypatch, kept, loads):
    """Once for the captions and once for each of two sheets; all the time, if every step asks it."""
    loaded: list[Loading] = []
    model = Loading.model
    monkeypatch.setattr(Loading, "model", lambda self: loaded.append(self) or model(self))
    waiting: list[bool] = []
    loss = AdapterObjective.loss

    def watched(objective: AdapterObjective, *args: Any) -> torch.Tensor:
        waiting.append(objective.adapter.llm.is_offloaded)
        return loss(objective, *args)

    monkeypatch.setattr(AdapterObjective, "loss", watched)
    train(write_recipe(tmp_path, places, cache={"terms": kept}))
    assert waiting == [kept == "all"] * 4
    assert len(loaded) == loads


PLAIN_REPLACE = pytest.param("replace", None, marks=pytest.mark.slow)  # a refiner is one part more of the same


@pytest.mark.parametrize(("mode", "refiner"), [("augment", None), PLAIN_REPLACE, ("replace", REFINER)])
def test_an_interrupted_run_is_resumed_to_the_bit(tmp_path, places, monkeypatch, mode, refiner):
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    train(write_recipe(tmp_path / "whole", places, mode=mode, refiner=refiner))
    halves = write_recipe(tmp_path / "halves", places, mode=mode, refiner=refiner)
    interrupted(halves, monkeypatch)
    assert not (tmp_path / "halves" / "run" / "adapter").exists()
    assert train(halves, resume=True)["steps"] == 4
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))


def complaint(recipe: str, *options: str, resume: bool = False) -> str:
    with pytest.raises(LLMDiffError) as caught:
        train(recipe, list(options), resume=resume)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_run_is_not_overwritten_nor_continued_unasked(recipe, tmp_path, monkeypatch):
    interrupted(recipe, monkeypatch)
    run = tmp_path / "run"
    assert complaint(recipe) == f"{run} already holds a run; add --resume, or set folder to another path."
    (run / "recipe.json").unlink()
    assert "already holds a run" in complaint(recipe)


def test_a_run_is_resumed_by_its_own_recipe_only(recipe, monkeypatch):
    interrupted(recipe, monkeypatch)
    for option in ("loop.seed=9", "data.captions=7", "mode=augment"):
        assert f"has another '{option.split('=')[0]}'" in complaint(recipe, option, resume=True)
    assert train(recipe, resume=True)["steps"] == 4


def test_a_run_that_was_moved_is_resumed(recipe, tmp_path, monkeypatch):
    interrupted(recipe, monkeypatch)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert train(recipe, [f"folder={tmp_path / 'moved'}"], resume=True)["steps"] == 4


def test_there_must_be_a_run_to_resume(recipe):
    assert "There is no run in" in complaint(recipe, resume=True)


def test_a_run_that_stopped_before_its_first_checkpoint_starts_again(recipe, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", lambda trainer: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe)
    assert train(recipe)["steps"] == 4


def test_a_folder_that_cannot_be_made_is_told(recipe, tmp_path):
    (tmp_path / "run").write_text("in the way")
    assert "cannot be written" in complaint(recipe)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("base=./missing", "./missing"),
        ("llm=./missing", "./missing"),
        ("data={kind: folder, path: ./missing}", "missing is not there"),
        ("reading.extraction=layer:9", "layer:9 needs block 9, but the LLM has 4 blocks"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_written(recipe, tmp_path, option, said):
    assert said in complaint(recipe, option)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_pictures_trains_too(tmp_path, places):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = []
    for n in range(3):
        Image.new("RGB", (40, 30), (80 * n, 10, 200)).save(pictures / f"{n}.jpg")
        rows.append(json.dumps({"file_name": f"{n}.jpg", "text": f"picture {n}"}))
    (pictures / "metadata.jsonl").write_text("\n".join(rows))
    source = write_recipe(tmp_path, places, data={"kind": "folder", "path": str(pictures)}, samples=[])
    assert train(source)["steps"] == 4


def test_an_unreadable_picture_is_told_before_anything_is_written(tmp_path, places):
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "1.png", "text": "a"}))
    source = write_recipe(tmp_path, places, data={"kind": "folder", "path": str(tmp_path)})
    assert f"The picture {tmp_path / '1.png'} cannot be read" in complaint(source)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_adapter_draws_the_same_twice_and_in_another_process(recipe, tmp_path, places):
    train(recipe)
    names = [str(tmp_path / f"{name}.npy") for name in "ab"]
    command = [sys.executable, "-c", REDRAW, str(places.base), str(tmp_path / "run" / "adapter"), *names]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    first, second = (Path(name).read_bytes() for name in names)
    assert first == second
    pipe = load_pipeline(places.base)
    rng = torch.Generator().manual_seed(4)
    base = pipe("two red cups", num_inference_steps=2, generator=rng, output_type="np").images
    assert base.tobytes() not in first


@pytest.mark.slow
def test_a_single_file_checkpoint_is_trained_on_as_its_folder_is(tmp_path: Path, places: Places) -> None:
    """Also without its text encoder in replace mode, which nothing asks then; and it is priced before."""
    file = save_checkpoint(load_pipeline(places.base), tmp_path / "base.safetensors")
    of_folder = train(write_recipe(tmp_path, places))
    expected = load_file(Path(of_folder["adapter"]) / "adapter.safetensors")
    (tmp_path / "single").mkdir()
    single = write_recipe(tmp_path / "single", places, base=str(file), base_config=str(places.base))
    assert costs(load_recipe(single)).parameters == of_folder["parameters"]
    found = load_file(Path(train(single)["adapter"]) / "adapter.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_replace_mode_trains_without_text_encoders_where_nothing_asks_them(tmp_path: Path, places: Places) -> None:
    base = tmp_path / "base"
    shutil.copytree(places.base, base)
    shutil.rmtree(base / "text_encoder")
    train(write_recipe(tmp_path, places, base=str(base)))
    for name, changes in {"augment": {"mode": "augment"}, "distil": {"distil": 2}}.items():
        (tmp_path / name).mkdir()
        with pytest.raises(LLMDiffError, match="text_encoder"):
            train(write_recipe(tmp_path / name, places, base=str(base), **changes))
