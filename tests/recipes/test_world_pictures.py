"""Pictures of a base to look at, and to be labelled by eye, beside what the checker reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import scene_prompts
from llmdiff.evaluation.by_eye import evaluate_by_eye
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.labels import Label, labelled_pictures
from llmdiff.generation import Models
from llmdiff.scenes.facts import Backdrop, Count, Look, Related
from llmdiff.scenes.scene import Shown
from llmdiff.world.atlas import own_tints
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import COLOURS
from tiny_base import Places
from world.by_eye import COUNT, sample, write
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
    assert {job.system for job in sample(COUNT, adapted=False)} == {"base", "told plainly"}
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
def folder(tmp_path: Path) -> Path:
    """A few drawn pictures to be labelled."""
    write(tmp_path, JOBS, [as_drawn(job) for job in JOBS])
    return tmp_path


def labelled(folder: Path, rows: list[dict | None]) -> dict[str, dict]:
    """What is compared of all pictures, with these labels."""
    (folder / "labels.json").write_text(json.dumps({"pictures": rows}))
    return {row["what"]: row for row in evaluate_by_eye(labelled_pictures(folder)) if row["system"] == "all"}


def test_labels_that_say_the_same_agree_and_others_do_not(folder: Path, readings: list[Shown]):
    found = labelled(folder, [written(scene) for scene in readings])
    assert all(row["agreement"] == 1 for row in found.values() if row["compared"])
    assert found["facts"]["compared"] > found["facts"]["undecided"] == 0
    assert found["pictures"]["compared"] == len(JOBS) >= 3
    wrong = labelled(folder, [{"background": "day", "things": []}] * (len(JOBS) - 1) + [None])
    assert (wrong["pictures"]["compared"], wrong["pictures"]["agreement"]) == (len(JOBS) - 1, 0)
    assert wrong["pictures"]["false_alarms"] == len(JOBS) - 1
    assert wrong["facts"]["agreement"] < 0.5
    assert wrong["facts"]["low"] <= wrong["facts"]["agreement"] <= wrong["facts"]["high"]


def test_what_the_eye_leaves_open_is_not_compared():
    row = {"background": "snow|day", "things": ["dog|cat red small 30 30", "teapot own large 90 90"]}
    label = Label.of(row, DOMAINS[2])
    facts = {
        Backdrop("snow"): None, Backdrop("night"): False, Count(Look("dog"), 1): None, Count(Look("owl"), 0): True,
        Count(Look("owl"), 1): False, Count(Look("teapot"), 1): True,
    }  # fmt: skip
    assert {fact: label.holds(fact) for fact in facts} == facts
    row = {"background": "snow", "things": ["dog red small 30 64", "teapot own large 90 64"]}
    assert Label.of(row, DOMAINS[2]).holds(Related(Look("dog"), "left of", Look("teapot"))) is True


def test_a_things_own_colour_is_also_the_tint_that_it_is_like():
    kind, tint = next((kind, tints[0]) for kind in NAMES if (tints := sorted(own_tints(kind))))
    label = Label.of({"background": "day", "things": [f"{kind} own small 30 30"]}, DOMAINS[2])
    other = next(colour for colour in COLOURS if colour not in own_tints(kind))
    assert label.holds(Count(Look(kind, tint), 1)) is True
    assert label.holds(Count(Look(kind, other), 1)) is False


@pytest.mark.parametrize(
    "row",
    [
        {"background": "mars", "things": []},
        {"background": "day", "things": ["dog red"]},
        {"background": "day", "things": ["gnu red small 1 1"]},
        {"background": "day", "things": ["dog red|gold small 1 1"]},
    ],
)
def test_labels_that_are_not_written_so_are_refused(folder: Path, row: dict):
    with pytest.raises(LLMDiffError, match="picture 0 of"):
        labelled(folder, [row] + [None] * (len(JOBS) - 1))


def test_labels_to_be_filled_in_are_not_written_over(folder: Path):
    before = (folder / "labels.json").read_text()
    write(folder, [Job("base", scene_prompts(version=2)[0])], [as_drawn(Job("base", scene_prompts(version=2)[0]))])
    assert (folder / "labels.json").read_text() == before


@pytest.mark.skipif(not (LABELLED / "labels.json").exists(), reason="no pictures of the world are labelled yet")
@pytest.mark.slow
def test_the_checker_agrees_with_the_eye():
    found = {row["what"]: row for row in evaluate_by_eye(labelled_pictures(LABELLED)) if row["system"] == "all"}
    assert found["pictures"]["compared"] >= 150
    assert found["facts"]["agreement"] >= 0.95
