"""Several sources as one: a recipe's list of them, each with its weight."""

import torch

from data.listed import Listed
from llmdiff.data import Batches, SceneData, captioned, is_at_hand
from llmdiff.data.config import MixedData
from llmdiff.data.mixed import Mixed
from llmdiff.training.recipe import Recipe


def test_a_recipe_lists_its_sources():
    few = {"kind": "scenes", "captions": 2, "pictures": 1}
    recipe = Recipe.model_validate({"data": {"sources": [few, few | {"seed": 5, "captions": 3, "weight": 2.5}]}})
    assert isinstance(recipe.data, MixedData)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    data = captioned(recipe.data, 64)
    parts = [captioned(source, 64) for source in recipe.data.sources]
    assert len(data) == 5
    assert data.captions == [*parts[0].captions, *parts[1].captions]
    assert data.teacher_captions == [*parts[0].teacher_captions, *parts[1].teacher_captions]
    assert data.weights == [1.0, 1.0, 2.5, 2.5, 2.5]
    for index, (part, own) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]):
        assert torch.equal(data.pixels(index), parts[part].pixels(own))
        assert data.identity(index) == parts[part].identity(own)
        assert data.size_conditioning(index) == parts[part].size_conditioning(own)


def test_sizes_and_weights_of_sources_decide_the_batches():
    mixed = Mixed([Listed([(8, 8)] * 5), Listed([(8, 16)] * 2, [3.0] * 2), Listed([(8, 8)], [4.0])])
    batches = Batches(mixed, 4, 0)
    shown = [batches.pictures(step).tolist() for step in range(150)]
    counts = [sum(step.count(i) for step in shown) for i in range(8)]
    assert all({mixed.size(i) for i in step} in ({(8, 8)}, {(8, 16)}) for step in shown)
    assert all(abs(counts[i] - 40) <= 4 for i in range(5))  # 600 samples, 15 an epoch
    assert all(abs(counts[i] - 120) <= 12 for i in (5, 6))
    assert abs(counts[7] - 160) <= 12


def test_scenes_have_a_weight_too():
    assert captioned(SceneData(kind="scenes", captions=2, weight=0.5), 64).weights == [0.5] * 8


def test_what_is_on_the_hub_is_not_at_hand(tmp_path):
    """So that a dry run fetches nothing."""
    here, there = ({"kind": "dataset", "path": str(path)} for path in (tmp_path, tmp_path / "somebody" / "cats"))
    scenes = {"kind": "scenes"}
    assert is_at_hand(MixedData.model_validate({"sources": [here, scenes]}))
    assert not is_at_hand(MixedData.model_validate({"sources": [scenes, there]}))
