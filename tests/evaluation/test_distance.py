"""The distance from what the base model was told: 0 where nothing is changed, about 1 where nothing is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.evaluation import distance, evaluate_distance
from llmdiff.evaluation.distance import THINGS, distance_prompts, scene_distances
from llmdiff.generation import Models, Renderer, load_pipeline
from llmdiff.language import LanguageModel
from tiny_base import Places


def test_an_adapter_that_changes_nothing_is_where_its_words_are_the_bases_own(places, tmp_path):
    adapter = LLMDiffAdapter.create(load_pipeline(places.base), LanguageModel.load(str(places.llm)))
    adapter.save_pretrained(tmp_path)
    rows = evaluate_distance(str(places.base), str(tmp_path), 2, (700,))
    found = {(row["things"], row["wording"]): row["distance"] for row in rows}
    for things in THINGS:
        assert found[things, "plain"] == 0
        assert found[things, "natural"] > 0
        assert found[things, "unseen words"] > 0


@pytest.mark.fault("lost work")
def test_an_interrupted_one_goes_on(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, count, expected = (str(places.base), str(places.adapter)), [0], None
    measured = distance.scene_distances

    def interrupted(*arguments: Any, **options: Any) -> Iterator[list[distance.Distances]]:
        for one in measured(*arguments, **options):
            count[0] += 1
            if count[0] == 4 and expected is None:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(distance, "scene_distances", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_distance(*models, 1, (700, 500), keep_in=tmp_path)
    rows = evaluate_distance(*models, 1, (700, 500), keep_in=tmp_path)
    assert count[0] == 4 + 3
    assert list(tmp_path.iterdir()) == []
    expected = evaluate_distance(*models, 1, (700, 500))
    assert rows == expected


@pytest.mark.slow
def test_the_shipped_adapter_hears_more_than_nothing_and_unseen_words_worst():
    rows = evaluate_distance(count=6, timesteps=(700,))
    found = {(row["things"], row["wording"]): row["distance"] for row in rows}
    assert len(found) == len(rows) == 12
    for things in THINGS:
        assert found[things, "plain"] < 0.2
        assert found[things, "plain"] < found[things, "unseen words"]


def test_distances_of_scenes_are_those_of_the_rows_and_all_prompts_are_known_beforehand(places):
    renderer = Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)))
    asked: list[str] = []

    def encode(prompts):
        asked.extend(prompts)
        return renderer.adapter.encode(prompts)

    lists = scene_distances(ImageModel(renderer.pipe), renderer.adapter, 3, (700, 300), encode=encode)
    found = [one for ones in lists for one in ones]
    rows = evaluate_distance(str(places.base), str(places.adapter), 3, (700, 300))
    assert all(row["low"] < row["distance"] < row["high"] for row in rows)
    apart, together = rows[:-3], rows[-3:]
    assert [float(one.of_scenes.mean()) for one in found] == pytest.approx([row["distance"] for row in apart])
    for row in together:
        own = [one for one in found if one.wording == row["wording"]]
        assert row["distance"] == pytest.approx(np.mean([one.of_scenes for one in own]))
    assert {one.of_scenes.shape for one in found} == {(3,)}
    assert set(asked) == set(distance_prompts(ImageModel(renderer.pipe), 3))


def test_scenes_of_real_things_are_compared_in_their_own_words(places, monkeypatch):
    renderer = Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)))
    model = ImageModel(renderer.pipe)
    of_shapes = distance_prompts(model, 4)
    monkeypatch.setattr(distance, "version_for", lambda side: {model.resolution: 2}[side])
    found = list(scene_distances(model, renderer.adapter, 1, (700,)))
    assert [ones[0].things for ones in found] == list(THINGS)
    assert all(one.of_scenes.shape == (1,) and (one.of_scenes > 0).all() for ones in found for one in ones)
    prompts = distance_prompts(model, 4)
    assert len(prompts) == 36
    assert not set(prompts) & set(of_shapes)
    assert any(word in prompt for prompt in prompts for word in ("pony", "brass horns"))
