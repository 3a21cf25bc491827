"""Version 2 of the benchmark's prompts: eleven groups, each testing what it is named for, of facts to be drawn."""

import json
import re
from collections import Counter
from dataclasses import asdict
from importlib.resources import files

import numpy as np
import pytest

from llmdiff.evaluation import scene_prompts
from llmdiff.evaluation.domains import DOMAINS, version_for
from llmdiff.evaluation.prompts import groups
from llmdiff.scenes.facts import Count, Related, all_hold
from llmdiff.world.description import Description
from llmdiff.world.drawing import draw
from llmdiff.world.lexicon import NAMED_ONLY, THING_WORDS
from llmdiff.world.mixture import mixed_caption
from llmdiff.world.scene import sample
from llmdiff.world.staging import scene_with
from llmdiff.world.things import FIRST, NAMES, THING
from world import make_prompts

PROMPTS = scene_prompts(version=2)
FILE = files("llmdiff.evaluation") / "scene_prompts_v2.json"
GROUPS = [
    "plain", "binding", "relations", "counting", "long", "unseen synonyms", "implied", "languages", "unseen languages",
    "negation", "mixtures",
]  # fmt: skip


def of(group: str) -> list:
    return [prompt for prompt in PROMPTS if prompt.group == group]


def counts(prompt) -> list[Count]:
    return [fact for fact in prompt.facts if isinstance(fact, Count)]


def test_there_are_eleven_groups_of_different_prompts():
    assert groups(PROMPTS) == GROUPS
    assert Counter(p.group for p in PROMPTS) == {group: 120 if group == "plain" else 100 for group in GROUPS}
    assert len({prompt.prompt for prompt in PROMPTS}) == 1120
    assert {prompt.version for prompt in PROMPTS} == {2}
    assert len(scene_prompts(3, version=2)) == 33


def test_the_facts_are_those_of_the_file():
    for row, prompt in zip(json.loads(FILE.read_text("utf-8")), PROMPTS, strict=True):
        facts = [{"fact": type(fact).__name__.lower(), **asdict(fact)} for fact in prompt.facts]
        assert json.loads(json.dumps(facts)) == row["facts"]


def test_the_recipe_makes_the_committed_prompts():
    made = make_prompts.make(2002)
    assert [(p.group, p.prompt, p.facts) for p in made] == [(p.group, p.prompt, p.facts) for p in PROMPTS]


def test_prompts_are_of_the_first_things_and_plain_ones_of_each():
    assert {fact.look.kind for prompt in PROMPTS for fact in counts(prompt)} <= set(NAMES[:FIRST])
    assert sorted(fact.look.kind for prompt in of("plain") for fact in counts(prompt)) == sorted(NAMES[:FIRST])


def test_plain_prompts_are_in_the_base_s_own_words():
    assert [p.prompt for p in of("plain")] == [DOMAINS[2].plainly(p.facts) for p in of("plain")]


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_things_that_training_only_names(group):
    named_only = [p for p in of(group) if any(fact.look.kind in NAMED_ONLY for fact in counts(p))]
    assert len(named_only) >= 20
    if group in ("unseen synonyms", "implied"):
        assert len(named_only) == 100


def test_unseen_synonyms_are_said_and_names_are_not():
    for prompt in of("unseen synonyms"):
        for fact in counts(prompt):
            synonyms = THING_WORDS[fact.look.kind].synonyms
            assert any(synonym.lower() in prompt.prompt.lower() for synonym in synonyms), prompt.prompt
            assert not re.search(rf"\b{THING[fact.look.kind].noun}\b", prompt.prompt), prompt.prompt


def test_implied_prompts_give_no_names():
    for prompt in of("implied"):
        for fact in counts(prompt):
            assert not re.search(rf"\b{THING[fact.look.kind].noun}\b", prompt.prompt, re.IGNORECASE), prompt.prompt


def test_groups_test_what_they_are_named_for():
    assert all(any(fact.n >= 2 for fact in counts(p)) for p in of("counting"))
    assert all(any(isinstance(fact, Related) for fact in p.facts) for p in of("relations"))
    assert all(any(fact.n == 0 for fact in counts(p)) for p in of("negation"))
    assert all(60 <= len(p.prompt.split()) <= 200 and len(counts(p)) >= 2 for p in of("long"))
    assert all(len({fact.look.colour for fact in counts(p)} - {None}) == len(counts(p)) for p in of("binding"))


def test_no_prompt_in_words_for_tests_is_a_training_caption():
    rng = np.random.default_rng(0)
    captions = {mixed_caption(sample(rng, NAMES[:FIRST]), rng).text for _ in range(2000)}
    tested = {p.prompt for p in PROMPTS if p.group in ("unseen synonyms", "implied", "unseen languages", "mixtures")}
    assert not captions & tested


@pytest.mark.parametrize("group", GROUPS)
def test_a_picture_can_show_every_fact(group):
    for i, prompt in enumerate(of(group)):
        scene = scene_with(prompt.facts, np.random.default_rng(i))
        assert Description.of(prompt.facts).facts() == prompt.facts
        if i % 25 == 0:
            assert all_hold(prompt.facts, DOMAINS[2].read(draw(scene)))


def test_a_base_is_asked_for_what_it_draws():
    assert [version_for(side) for side in (64, 128, 512)] == [1, 2, 1]
