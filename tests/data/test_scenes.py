"""Drawn scenes as training data: what is seen is what is said."""

import numpy as np
import pytest
import torch

from llmdiff.data import SceneData, captions_of
from llmdiff.data.scenes import Scenes
from llmdiff.scenes.checker import read
from llmdiff.scenes.facts import all_hold
from llmdiff.scenes.phrasing import contains_held_out
from scenes.grammar import facts_of


def as_image(pixels: torch.Tensor) -> np.ndarray:
    """(3, H, W) in -1..1 to uint8 (H, W, 3)."""
    return ((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_scenes_are_a_function_of_seed_and_number():
    few, many = Scenes(SceneData(kind="scenes", captions=4)), Scenes(SceneData(kind="scenes", captions=8))
    other = Scenes(SceneData(kind="scenes", captions=4, seed=5))
    assert few.captions[:4] == many.captions[:4] != other.captions[:4]
    again = Scenes(SceneData(kind="scenes", captions=4))
    assert all(torch.equal(few.pixels(n), again.pixels(n)) for n in (3, 0, 9))


def test_pictures_show_what_their_captions_say():
    data = Scenes(SceneData(kind="scenes", captions=6, pictures=3, plain=1.0))
    assert len(data) == len(data.captions) == 18
    assert data.captions[:6] == data.captions[6:12] == data.captions[12:]
    assert captions_of(data) == {texts[0] for texts in data.captions[:6]}
    for n in range(len(data)):
        scene = read(as_image(data.pixels(n))).scene
        assert all_hold(facts_of(data.captions[n][0]), scene), (data.captions[n], scene)


def test_the_base_model_is_told_the_same_in_its_own_words():
    data = Scenes(SceneData(kind="scenes", captions=12, pictures=2, plain=0.0))
    assert data.captions != data.teacher_captions
    for n in range(len(data)):
        assert all_hold(facts_of(data.teacher_captions[n][0]), read(as_image(data.pixels(n))).scene)
    plain = Scenes(SceneData(kind="scenes", captions=12, pictures=2, plain=1.0))
    assert plain.captions == plain.teacher_captions


def test_pictures_of_one_caption_differ():
    data = Scenes(SceneData(kind="scenes", captions=5, pictures=2))
    assert all(not torch.equal(data.pixels(n), data.pixels(n + 5)) for n in range(5))


@pytest.mark.parametrize(("plain", "low", "high"), [(0.0, 0, 0.2), (0.5, 0.35, 0.75), (1.0, 1, 1)])
def test_the_share_of_plain_captions(plain, low, high):
    captions = Scenes(SceneData(kind="scenes", captions=150, pictures=1, plain=plain)).captions
    assert not any(contains_held_out(text) for (text,) in captions)

    def is_plain(text: str) -> bool:
        try:
            return bool(facts_of(text))
        except (AssertionError, KeyError, IndexError):
            return False

    assert low <= sum(is_plain(text) for (text,) in captions) / 150 <= high


def test_other_scenes_have_another_identity():
    scenes = [Scenes(SceneData(kind="scenes", captions=3, pictures=2, seed=seed)) for seed in (1, 1, 2)]
    names = [[one.identity(i) for i in range(6)] for one in scenes]
    assert names[0] == names[1]
    assert len({*names[0], *names[2]}) == 12
    assert scenes[0].pixels(1).shape == (3, *scenes[0].size(1)) == (3, *scenes[0].size_conditioning(1).target_size)


def test_captions_are_short_or_long_and_say_what_they_are_of() -> None:
    data = {
        detail: Scenes(SceneData(kind="scenes", captions=60, detail=detail)) for detail in ("short", "usual", "long")
    }
    length = {detail: np.mean([len(texts[0].split()) for texts in one.captions]) for detail, one in data.items()}
    assert length["short"] < 0.8 * length["usual"] < 0.8 * length["long"]
    facts = {detail: sum(len(one._facts[i]) for i in range(60)) for detail, one in data.items()}
    assert facts["short"] < facts["usual"] <= facts["long"]
