"""Pictures of a base to look at, and to be labelled by eye, beside what the checker reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import scene_prompts
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.generation import Models
from llmdiff.scenes.facts import Backdrop, Count, Look, Related
from llmdiff.scenes.scene import Shown
from tiny_base import Places
from world.by_eye import COUNT, Label, compared, sample, write
from world.drawing import SYSTEMS, Job, draw
from world.sheets import PLANS, prompts_of, sheet

SNOW = [one for one in scene_prompts(version=2) if Backdrop("snow") in one.facts]
LABELLED = Path(__file__).parents[2] / "recipes" / "world" / "by_eye"


def as_drawn(job: Job, seed: int = 0) -> Image.Image:
    return Image.fromarray(DOMAINS[2].drawn(job.prompt.facts, np.random.default_rng(seed)))


def test_every_system_draws_what_it_reads(places: Places):
    prompts = [one for one in scene_prompts(version=2) if one.group == "implied"][:2]
    jobs = [Job(system, prompt) for prompt in prompts for system in SYSTEMS]
    drawn = draw(Models(base=str(places.base), adapter=str(places.adapter)), jobs, 1, 4.0, "pictures")
    assert drawn.keys() == set(jobs)
    for prompt in prompts:
        assert Job("told plainly", prompt).text == DOMAINS[2].plainly(prompt.facts) != prompt.prompt
        assert len({drawn[Job(system, prompt)].tobytes() for system in SYSTEMS}) == 3


def test_sheets_have_as_many_prompts_of_their_group_as_they_say():
    found = {name: prompts_of(plan) for name, plan in PLANS.items()}
    assert {name: len(set(prompts)) for name, prompts in found.items()} == {
        "single": 64, "pairs": 32, "counts": 16, "long": 16,
    }  # fmt: skip
    assert all(sum(isinstance(fact, Count) for fact in prompt.facts) == 2 for prompt in found["pairs"])


def test_a_bar_says_whether_a_picture_shows_its_prompt():
    plan, (prompt, other) = PLANS["pairs"], SNOW[:2]
    right, wrong = as_drawn(Job("base", prompt)), as_drawn(Job("base", other))
    whole = np.asarray(sheet(plan, [prompt], [[right, wrong]]))
    greens = (whole == (46, 157, 76)).all(-1)
    assert greens.any(0).sum() == 128


def test_pictures_to_be_labelled_are_by_lot_of_all_groups_and_both_systems():
    jobs = sample(COUNT, adapted=True)
    assert len(set(jobs)) == COUNT
    assert sum(job.system == "adapted" for job in jobs) in range(95, 106)
    groups = [job.prompt.group for job in jobs]
    assert all(groups.count(group) in range(18, 21) for group in set(groups))
    assert len(set(groups)) == 11
    assert jobs[:9] == sample(COUNT, adapted=True)[:9]


def written(scene: Shown) -> dict:
    things = [f"{thing.kind} {thing.colour} {thing.size} {thing.x} {thing.y}" for thing in scene.things]
    return {"background": scene.background, "things": things}


JOBS = [Job("base", prompt) for prompt in SNOW[::60]]


@pytest.fixture(scope="module")
def readings() -> list[Shown]:
    return [DOMAINS[2].read(as_drawn(job)) for job in JOBS]


@pytest.fixture
def folder(tmp_path: Path, readings: list[Shown]) -> Path:
    """A few drawn pictures with labels that say what the checker reads."""
    write(tmp_path, JOBS, [as_drawn(job) for job in JOBS])
    (tmp_path / "labels.json").write_text(json.dumps([written(scene) for scene in readings]))
    return tmp_path


def test_labels_that_say_the_same_agree_and_others_do_not(folder: Path):
    found = compared(folder)
    assert (found["facts"]["agreement"], found["pictures"]["agreement"], found["facts"]["open"]) == (1, 1, 0)
    assert found["pictures"]["compared"] == len(JOBS) >= 3
    (folder / "labels.json").write_text(json.dumps([{"background": "day", "things": []}] * (len(JOBS) - 1) + [None]))
    wrong = compared(folder)
    assert wrong["pictures"] == {
        "compared": len(JOBS) - 1, "open": 0, "agreement": 0, "missed": 0, "false_alarms": len(JOBS) - 1,
    }  # fmt: skip
    assert wrong["facts"]["agreement"] < 0.5
    assert wrong["facts"]["low"] <= wrong["facts"]["agreement"] <= wrong["facts"]["high"]


def test_what_the_eye_leaves_open_is_not_compared(folder: Path):
    label = Label.of({"background": "snow|day", "things": ["dog|cat red small 30 30", "teapot own large 90 90"]})
    facts = {
        Backdrop("snow"): None, Backdrop("night"): False, Count(Look("dog"), 1): None, Count(Look("owl"), 0): True,
        Count(Look("owl"), 1): False, Count(Look("teapot"), 1): True,
    }  # fmt: skip
    assert {fact: label.holds(fact) for fact in facts} == facts
    decided = Label.of({"background": "snow", "things": ["dog red small 30 64", "teapot own large 90 64"]})
    assert decided.holds(Related(Look("dog"), "left of", Look("teapot"))) is True


@pytest.mark.parametrize(
    "row",
    [
        {"background": "mars", "things": []},
        {"background": "day", "things": ["dog red"]},
        {"background": "day", "things": ["gnu red small 1 1"]},
        {"background": "day", "things": ["dog|cat|owl|bee red|own small 30 30"] * 6},
    ],
)
def test_labels_that_are_not_written_so_are_refused(row: dict):
    with pytest.raises(LLMDiffError):
        Label.of(row)


def test_labels_to_be_filled_in_are_not_written_over(folder: Path):
    before = (folder / "labels.json").read_text()
    write(folder, [Job("base", scene_prompts(version=2)[0])], [as_drawn(Job("base", scene_prompts(version=2)[0]))])
    assert (folder / "labels.json").read_text() == before


@pytest.mark.skipif(not (LABELLED / "labels.json").exists(), reason="no pictures of the world are labelled yet")
@pytest.mark.slow
def test_the_checker_agrees_with_the_eye():
    found = compared(LABELLED)
    assert found["pictures"]["compared"] >= 150
    assert found["facts"]["agreement"] >= 0.95
