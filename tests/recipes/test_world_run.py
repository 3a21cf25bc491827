"""The recipe of the world, whole, in a tiny setting: it starts, is killed, goes on and ends."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor

from llmdiff import folder_checksums
from llmdiff.errors import LLMDiffError
from llmdiff.scenes.facts import Count, Related
from world import evaluate, settings
from world.export import underway
from world.handover import START, averages_of, hand_over, read_start
from world.loop import Loop
from world.machine import Machine
from world.run import STREAMS, Run
from world.settings import STAGES

ROOT = Path(__file__).parents[2]
HERE = Machine(torch.device("cpu"), torch.float32)


class KilledError(Exception):
    """Where a process is killed, nothing more of it is run."""


def run(folder: Path, *options: str) -> Run:
    return Run(folder, settings.load("tiny", list(options)), HERE)


def killed_at(monkeypatch: pytest.MonkeyPatch, stage: str, step: int) -> None:
    """Has the next run that comes to a step of a stage killed there."""
    whole = Loop._one_step

    def one_step(self: Loop) -> Tensor:
        if self.folder.name == stage and self.step == step:
            monkeypatch.setattr(Loop, "_one_step", whole)
            raise KilledError
        return whole(self)

    monkeypatch.setattr(Loop, "_one_step", one_step)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder).go_on()
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    files = sorted((folder / "model").rglob("*.safetensors"))
    return {f"{path.parent.name} {name}": value for path in files for name, value in load_file(path).items()}


def test_a_run_that_was_killed_in_every_stage_ends_in_the_same_base(whole, tmp_path, monkeypatch):
    """To the bit: on one thread, and with checkpoints at the same steps."""
    for stage in STAGES:
        killed_at(monkeypatch, stage, 4)
        with pytest.raises(KilledError):
            run(tmp_path).go_on()
    assert run(tmp_path).go_on()
    expected, found = weights(whole), weights(tmp_path)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_stock_diffusers_loads_and_draws_what_was_exported(whole):
    pipe: Any = DiffusionPipeline.from_pretrained(whole / "model").to(torch.float32)
    assert type(pipe).__module__.startswith("diffusers.")
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe(["two dogs by day", "a cat"], num_inference_steps=2, output_type="np").images
    assert pictures.shape == (2, 128, 128, 3)
    assert np.ptp(pictures) > 0.05
    assert pipe.tokenizer.model_max_length == pipe.text_encoder.config.max_position_embeddings


def test_what_was_exported_is_half_precision_with_checksums_and_a_card(whole):
    model = whole / "model"
    assert folder_checksums.damaged(model, whole=True) is None
    assert (model / folder_checksums.NAME).is_file()
    assert {value.dtype for value in weights(whole).values()} == {torch.float16}
    card = (model / "README.md").read_text()
    assert "draws 3 things" in card
    assert "| relations | 6 | 12 |" in card
    assert "/tmp" not in (model / "unet" / "config.json").read_text()
    assert json.loads((model / "vae" / "config.json").read_text())["scaling_factor"] != 0.18215


def test_scores_and_sheets_are_kept_as_it_trains(whole):
    rows = evaluate.rows_of(whole / "curve.jsonl")
    ends = {row["stage"]: row for row in rows}
    assert {stage: (row["step"], row["pictures"]) for stage, row in ends.items()} == {
        "singles": (6, 12), "scenes": (6, 12), "relations": (6, 12),
    }  # fmt: skip
    assert all(0 <= row["facts"] <= 1 for row in rows)
    assert (whole / "sheets" / "relations-0000006.png").is_file()


def test_nothing_is_trained_after_the_deadline(tmp_path):
    slice_ = run(tmp_path)
    slice_.deadline = 0.0
    assert not slice_.go_on()
    assert [path.name for path in (tmp_path / "autoencoder" / "checkpoints").iterdir()] == ["step-00000000.safetensors"]


def test_a_small_copy_of_a_run_goes_on(whole, tmp_path, monkeypatch):
    killed_at(monkeypatch, "relations", 5)
    for part in ("autoencoder", "text", "singles", "scenes"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / part).symlink_to(whole / part)
    (tmp_path / "run" / "relations").mkdir()
    (tmp_path / "run" / "relations" / START).write_bytes((whole / "relations" / START).read_bytes())
    with pytest.raises(KilledError):
        run(tmp_path / "run").go_on()
    pipe = underway(tmp_path / "run", settings.load("tiny", []))
    found = averages_of(tmp_path / "run" / "relations")
    assert found is not None
    assert torch.equal(pipe.unet.conv_in.weight, found[0]["unet.conv_in.weight"])
    hand_over(tmp_path / "run", tmp_path / "small", bits=8)
    assert read_start(tmp_path / "small" / "relations" / START)[1] == 3
    assert not list((tmp_path / "small").rglob("step-*"))
    steps: list[int] = []
    whole_step = Loop._one_step
    monkeypatch.setattr(Loop, "_one_step", lambda self: (steps.append(self.step), whole_step(self))[1])
    assert run(tmp_path / "small").go_on()
    assert steps == [3, 4, 5]


def test_a_finished_run_is_handed_over_as_its_last_stage(whole, tmp_path):
    hand_over(whole, tmp_path)
    assert [path.parent.name for path in tmp_path.rglob(START)] == ["relations"]
    assert run(tmp_path).go_on()
    expected, found = weights(whole), weights(tmp_path)
    assert all(torch.allclose(expected[name], found[name], atol=1e-3) for name in expected)


def test_a_text_encoder_of_an_older_recipe_is_said_to_be_one(whole, tmp_path):
    hand_over(whole, tmp_path)
    (tmp_path / "text" / "model" / "readout.safetensors").unlink()
    with pytest.raises(LLMDiffError, match="it is of an older recipe"):
        run(tmp_path).go_on()


def test_the_stage_of_relations_tells_more_of_them_but_not_all():
    captions = {stage: [STREAMS[stage].caption(i, 0).facts for i in range(300)] for stage in ("scenes", "relations")}
    told = {
        stage: sum(isinstance(fact, Related) for facts in all_ for fact in facts) for stage, all_ in captions.items()
    }
    assert told["relations"] > 1.4 * told["scenes"] > 0
    counts = [
        [fact.n for fact in facts if isinstance(fact, Count)]
        for facts in captions["relations"]
        if not any(isinstance(fact, Related) for fact in facts)
    ]
    each_once = [max(one) == 1 for one in counts if len(one) > 1]
    assert 0.3 < sum(each_once) / len(each_once) < 0.7, "a caption without relations says nothing of how many there are"


def test_a_run_that_is_done_goes_on_if_more_steps_are_wanted(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    assert run(tmp_path / "run", "relations.steps=8").go_on()
    assert "| relations | 8 | 16 |" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_run_without_a_u_net_cannot_be_exported(tmp_path):
    with pytest.raises(LLMDiffError, match="no weights of a U-Net yet"):
        underway(tmp_path, settings.load("tiny", []))


def test_settings_that_cannot_be_are_refused():
    for source, options, sentence in (
        ("tiny", ["scenes.stepps=3"], "there is no key 'scenes.stepps'"),
        ("tiny", ["things=0"], "greater than or equal to 1"),
        ("tinier", [], "give full, tiny, or a YAML file"),
    ):
        with pytest.raises(LLMDiffError, match=sentence):
            settings.load(source, options)
    full = settings.load("full", ["scenes.steps=7"])
    assert (full.scenes.steps, full.scenes.batch_size) == (7, 64)


@pytest.mark.parametrize(
    ("arguments", "source", "sentence"),
    [
        (("run",), "", "give RUN OUT SECONDS"),
        (("run", "out", "soon"), "", "give RUN OUT SECONDS"),
        (("run", "out", "60"), "nothing", "there is no run in nothing"),
        (("run", "out", "60"), "empty", "there is no run in empty"),
        (("run", "out", "60"), "cut", "the parts in cut are not whole"),
    ],
)
def test_a_slice_that_cannot_begin_says_why_and_leaves_no_half_run(tmp_path, arguments, source, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    whole = subprocess.run(["tar", "c", "-C", ROOT / "recipes", "world"], capture_output=True, check=True).stdout
    (tmp_path / "cut" / "run.tar.00").write_bytes(whole[:50_000])
    done = subprocess.run(
        ["bash", ROOT / "recipes" / "world" / "slice.sh", *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false", "FROM": source}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert sentence in done.stdout + done.stderr
    assert list(tmp_path.glob("run*/*")) == []


@pytest.mark.slow
def test_a_slice_ends_in_time_and_leaves_small_files(tmp_path):
    """The script for a machine without a network, on this one; the second slice goes on from the first one's files."""
    for n, source in enumerate(("", str(tmp_path / "out 0"))):
        subprocess.run(
            ["bash", ROOT / "recipes" / "world" / "slice.sh", tmp_path / f"run {n}", tmp_path / f"out {n}", "150",
             "--settings", "tiny", "-o", "scenes.steps=1000000", "--threads", "1"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "FROM": source, "HOME": str(tmp_path)},
            check=True, timeout=400,
        )  # fmt: skip
        files = {path.name: path.stat().st_size for path in (tmp_path / f"out {n}").iterdir()}
        assert {"log.txt", "run.tar.00"} <= files.keys()
        assert max(files.values()) <= 15 * 2**20
    log = (tmp_path / "out 1" / "log.txt").read_text()
    assert "autoencoder" not in log
    assert "Out of time" in log
