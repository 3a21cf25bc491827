"""One scene in several wordings: the same picture or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmdiff.evaluation import consistency, evaluate_consistency, outcomes
from llmdiff.evaluation.confusion import Reading
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.outcomes import Outcome
from tiny_base import Places


def run(places: Places, **options: Any) -> list[dict[str, Any]]:
    settings = {"base": str(places.base), "adapter": str(places.adapter), "scenes": 1, "wordings": 3, "steps": 1}
    return evaluate_consistency(**settings | options)


def test_rows(places: Places) -> None:
    rows = run(places, wordings=2)
    assert [row["model"] for row in rows] == ["base", "adapted", "difference"]
    assert {(row["scenes"], row["wordings"]) for row in rows} == {(6, 2)}
    assert all(row["low"] <= row["same"] <= row["high"] for row in rows)


def test_who_draws_the_facts_whatever_the_words_is_consistent_and_right(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def painted(prompt: Any, image: Image.Image) -> Outcome:
        picture = DOMAINS[1].drawn(prompt.facts, np.random.default_rng(0))
        return outcome(prompt, Image.fromarray(picture))

    outcome = outcomes._outcome
    monkeypatch.setattr(outcomes, "_outcome", painted)
    base = run(places, adapter="none")[0]
    assert base["same"] == base["right"] == base["always_right"] == 1


def test_pairs_that_show_another_thing_count_as_different(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three wordings the first is drawn as nothing: one pair of three is the same."""
    outcome, seen = outcomes._outcome, []

    def painted(prompt: Any, image: Image.Image) -> Outcome:
        seen.append(prompt)
        picture = DOMAINS[1].drawn(prompt.facts, np.random.default_rng(0))
        return outcome(prompt, Image.fromarray(picture if len(seen) % 3 != 1 else 0 * picture))

    monkeypatch.setattr(outcomes, "_outcome", painted)
    base = run(places, adapter="none")[0]
    assert base["same"] == pytest.approx(1 / 3)
    assert base["right"] == pytest.approx(2 / 3)
    assert base["always_right"] == 0


def test_wordings_are_several_of_the_same_facts() -> None:
    from llmdiff.evaluation.prompts import scene_prompts

    for version in DOMAINS:
        prompt = scene_prompts(1, version)[1]
        worded = consistency._worded(prompt, 0, 4)
        assert len({one.prompt for one in worded}) == 4
        assert {one.facts for one in worded} == {prompt.facts}
        assert worded == consistency._worded(prompt, 0, 4)


@pytest.mark.fault("lost work")
def test_an_interrupted_one_goes_on(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second model's second batch is cut off: the first model's 18 pictures and 12 more are not drawn again."""
    count = [0]

    def seen(prompt: Any, image: Image.Image) -> Outcome:
        count[0] += 1
        if count[0] == 36 + 31:
            raise KeyboardInterrupt
        return Outcome(
            prompt, (sum(image.tobytes()) % 2 == 0,), (Reading("size", "small", str(image.getpixel((0, 0)))),)
        )

    monkeypatch.setattr(outcomes, "_outcome", seen)
    expected = run(places, keep_in=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(places, keep_in=tmp_path)
    with pytest.warns(UserWarning, match="has scored"):
        assert run(places, keep_in=tmp_path) == expected
    assert count[0] == 36 + 31 + 6
    assert list(tmp_path.iterdir()) == []
