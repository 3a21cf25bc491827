"""The benchmark's prompts: six groups, each testing what it is named for, with facts that a picture can show."""

import json
import re
from collections import Counter
from dataclasses import asdict
from importlib.resources import files

import numpy as np
import pytest

from llmdiff.evaluation import check, demo_prompts, scene_prompts
from llmdiff.evaluation.prompts import GROUPS, VERSION
from llmdiff.scenes import lexicon
from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Backdrop, Count, Related, all_hold, scene_with
from llmdiff.scenes.phrasing import contains_held_out, held_out_words, natural_caption
from llmdiff.scenes.scene import sample_scene
from make_prompts import main as make_prompts
from scenes.grammar import facts_of

PROMPTS = scene_prompts()
FILE = files("llmdiff.evaluation") / f"scene_prompts_v{VERSION}.json"


def of(group: str) -> list:
    return [prompt for prompt in PROMPTS if prompt.group == group]


def counts(prompt) -> list[Count]:
    return [fact for fact in prompt.facts if isinstance(fact, Count)]


def test_there_are_sixty_different_prompts_in_each_of_six_groups():
    assert Counter(prompt.group for prompt in PROMPTS) == dict.fromkeys(GROUPS, 60)
    assert len(GROUPS) == 6
    assert len({prompt.prompt for prompt in PROMPTS}) == 360
    assert all(counts(prompt) for prompt in PROMPTS)


def test_the_facts_are_those_of_the_file():
    for row, prompt in zip(json.loads(FILE.read_text()), PROMPTS, strict=True):
        facts = [{"fact": type(fact).__name__.lower(), **asdict(fact)} for fact in prompt.facts]
        assert json.loads(json.dumps(facts)) == row["facts"]
        assert (row["group"], row["prompt"]) == (prompt.group, prompt.prompt)


def test_only_unseen_words_are_unseen():
    assert [p.prompt for p in PROMPTS if contains_held_out(p.prompt) != (p.group == "unseen words")] == []


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w'-]+", text.lower()))


@pytest.mark.slow
def test_the_other_groups_say_nothing_that_training_captions_do_not_say():
    strange = {word for prompt in PROMPTS if prompt.group != "unseen words" for word in words(prompt.prompt)}
    for seed in range(16000):
        rng = np.random.default_rng(seed)
        strange -= words(natural_caption(sample_scene(rng), rng).text)
        if not strange:
            break
    assert strange == set()


def test_plain_prompts_are_plain():
    assert all(facts_of(prompt.prompt) == set(prompt.facts) for prompt in of("plain"))
    assert all(len(counts(prompt)) <= 2 for prompt in of("plain"))


def test_groups_test_what_they_are_named_for():
    for prompt in of("binding"):
        colours = [fact.look.colour for fact in counts(prompt)]
        assert len(colours) == len(set(colours)) >= 2
        assert {fact.n for fact in counts(prompt)} == {1}
    assert all(any(isinstance(fact, Related) for fact in prompt.facts) for prompt in of("relations"))
    assert all(max(fact.n for fact in counts(prompt)) >= 2 for prompt in of("counting"))
    assert all(len(prompt.prompt.split()) >= 22 for prompt in of("long"))


def test_unseen_words_are_many():
    text = " ".join(prompt.prompt.lower() for prompt in of("unseen words"))
    assert sum(phrase.lower() in text for phrase in held_out_words()) > 60


def test_every_look_is_of_the_domain():
    for prompt in PROMPTS:
        for fact in prompt.facts:
            if isinstance(fact, Count):
                assert fact.look.kind in lexicon.KIND_WORDS
                assert fact.look.colour in (None, *lexicon.COLOUR_WORDS)
                assert fact.look.size in (None, *lexicon.SIZE_WORDS)
                assert 1 <= fact.n <= 4
            if isinstance(fact, Backdrop):
                assert fact.name in lexicon.BACKGROUND_WORDS


def test_a_picture_can_show_all_that_a_prompt_states():
    """Drawn from the facts alone, it passes; the drawing of another prompt does not, unless its facts allow it."""
    rng = np.random.default_rng(0)
    scenes = [scene_with(prompt.facts, rng) for prompt in PROMPTS]
    assert all(all_hold(prompt.facts, scene) for prompt, scene in zip(PROMPTS, scenes, strict=True))
    wrong = sum(all_hold(prompt.facts, scene) for prompt, scene in zip(PROMPTS, scenes[1:] + scenes[:1], strict=True))
    assert wrong <= 2
    for prompt, scene, other in list(zip(PROMPTS, scenes, scenes[1:], strict=False))[::30]:
        assert check(draw(scene), prompt.facts)
        assert check(draw(other), prompt.facts) == all_hold(prompt.facts, other)


def test_limits_and_the_demo_take_from_every_group():
    assert scene_prompts(2) == [prompt for group in GROUPS for prompt in of(group)[:2]]
    demo = demo_prompts(3)
    assert demo == [prompt for group in GROUPS for prompt in of(group)[-3:]]
    assert len(demo_prompts()) >= 16


def test_making_prompts_is_a_function_of_the_seed(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_prompts(tmp_path / name, seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    assert len(json.loads((tmp_path / "a").read_text())) == 360


@pytest.mark.parametrize("seed", range(3))
def test_check_is_about_the_picture(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    facts = plain_caption(scene, rng).facts
    assert check(draw(scene), facts)
    assert not check(np.flip(draw(scene)[::-1], 2).copy(), facts)
    assert not check(draw(sample_scene(rng)), facts)
