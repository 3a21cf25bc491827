"""The benchmark on tiny real models: what it draws, what it counts, and how it sums up."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import SceneSettings, evaluate_scenes, outcomes, scene_prompts, scene_report, scenes
from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.kept import KeptScores
from llmdiff.evaluation.outcomes import System, draw_outcomes
from llmdiff.evaluation.prompts import GROUPS
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Count, scene_with
from tiny_base import Places

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def run(places: Places, **options: Any) -> list[dict[str, Any]]:
    settings = {"base": str(places.base), "adapter": str(places.adapter), "limit": 1, "seeds": 1, "steps": 1}
    return evaluate_scenes(**settings | options)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All pictures that the benchmark looks at, in order; what it sees in them is told by their bytes alone."""
    found: list[bytes] = []

    def watched(prompt: Any, image: Image.Image) -> outcomes.Outcome:
        found.append(image.tobytes())
        return outcomes.Outcome(prompt, tuple(byte % 2 == 0 for byte in found[-1][: len(prompt.facts)]))

    monkeypatch.setattr(outcomes, "_outcome", watched)
    return found


def test_rows(places):
    rows = run(places)
    assert [(row["group"], row["model"]) for row in rows] == [
        (group, model) for group in (*GROUPS, "all") for model in ("base", "adapted", "difference")
    ]
    for row in rows:
        assert row.keys() == {"group", "model", "prompts", "share", "low", "high", "facts"}
        assert row["prompts"] == (6 if row["group"] == "all" else 1)
        assert row["low"] <= row["share"] <= row["high"]


def test_the_base_can_be_evaluated_alone(places):
    rows = run(places, adapter="none", base=str(places.base))
    assert {row["model"] for row in rows} == {"base"}


def test_a_sweep_of_guidance_stands_beside_the_adapter(places, drawn):
    """Each scale draws other pictures; the adapted model is compared with the base at each, prompt by prompt."""
    report = scene_report(
        SceneSettings(
            str(places.base), str(places.adapter), seeds=1, limit=1, steps=2, guidance=4.0, guidance_sweep=(4.0, 20.0)
        )
    )
    rows = {row["model"]: row for row in report.rows if row["group"] == "all"}
    assert list(rows) == [
        "base", "base at 4", "base at 20", "adapted", "difference", "adapted - base at 4", "adapted - base at 20",
    ]  # fmt: skip
    assert drawn[:6] == drawn[6:12] != drawn[12:18]
    assert rows["adapted - base at 4"]["share"] == rows["difference"]["share"]
    expected = rows["adapted"]["facts"] - rows["base at 20"]["facts"]
    assert rows["adapted - base at 20"]["facts"] == pytest.approx(expected)


def test_a_report_has_shares_of_facts_and_prompts_and_what_was_drawn_instead(places):
    report = scene_report(SceneSettings(str(places.base), "none", seeds=2, limit=1, steps=1))
    assert {row["fact"] for row in report.facts} == {"count", "related", "backdrop"}
    assert len(report.prompts) == 6
    assert {row["pictures"] for row in report.prompts} == {2}
    own = [row["share"] for row in report.prompts]
    assert np.mean(own) == pytest.approx(report.rows[-1]["share"])
    kinds = [row for row in report.confusion if row["what"] == "kind" and row["stated"] != "nothing"]
    stated = sum(fact.n for prompt in scene_prompts(1) for fact in prompt.facts if isinstance(fact, Count))
    assert sum(row["count"] for row in kinds) == 2 * stated


def test_prompts_of_the_world_can_be_asked_for(places, drawn):
    rows = run(places, adapter="none", version=2)
    assert len(rows) == 12
    assert len(drawn) == rows[-1]["prompts"] == 11
    assert {row["group"] for row in rows} >= {"implied", "unseen languages"}


def test_the_base_can_be_told_the_facts_in_plain_words(places, drawn):
    rows = run(places, plainly=True, adapter="none")
    assert [row["model"] for row in rows[:2]] == ["base", "told plainly"]
    assert drawn[0] == drawn[6], "a plain prompt is in plain words already"
    assert all(own != plain for own, plain in zip(drawn[1:6], drawn[7:], strict=True))
    assert {row["prompts"] for row in rows if row["group"] == "all"} == {6}


def test_both_models_draw_from_the_same_noise(places, tmp_path, drawn):
    """An untrained adapter in augment mode is the base model, so its pictures are the base's."""
    llm = LanguageModel.load(str(places.llm))
    LLMDiffAdapter.create(load_pipeline(places.base), llm, mode="augment").save_pretrained(tmp_path)
    rows = run(places, adapter=str(tmp_path), seeds=2)
    assert len(drawn) == 24
    assert drawn[:12] == drawn[12:]
    assert drawn[0] != drawn[1]
    for row in rows:
        if row["model"] == "difference":
            assert (row["share"], row["low"], row["high"], row["facts"]) == (0, 0, 0, 0)


def test_an_adapter_that_does_something_is_at_work(places, drawn):
    run(places)
    assert len(drawn) == 12
    assert all(base != adapted for base, adapted in zip(drawn[:6], drawn[6:], strict=True))


def test_pictures_do_not_depend_on_how_many_are_drawn(places, drawn):
    run(places, limit=1)
    run(places, limit=1)
    assert drawn[:12] == drawn[12:]


def test_progress_goes_from_base_to_adapted(places, drawn):
    told: list[tuple[str, float]] = []
    run(places, seeds=3, progress=lambda stage, share: told.append((stage, share)))
    assert [stage for stage, _ in told] == ["base"] * 2 + ["adapted"] * 2
    assert [share for _, share in told] == [pytest.approx(12 / 18), 1.0] * 2


@pytest.mark.fault("lost work")
def test_an_interrupted_evaluation_goes_on_where_it_was(places, tmp_path, monkeypatch, drawn):
    """In whole batches, and after what is damaged of the scores that are kept."""
    options = {"seeds": 3, "plainly": True, "keep_in": tmp_path / "kept"}
    expected = run(places, **options)
    whole = list(drawn)
    assert len(whole) == 3 * 18
    assert list((tmp_path / "kept").iterdir()) == []
    outcome = outcomes._outcome

    def interrupted(prompt: Any, image: Image.Image) -> Any:
        if len(drawn) == len(whole) + 18 + 12 + 3:
            raise KeyboardInterrupt
        return outcome(prompt, image)

    monkeypatch.setattr(outcomes, "_outcome", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(places, **options)
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_bytes()
    for damaged, kept in ((content, 18 + 12), (content[:-20], 18), (b"\xff\0" * 99, 0)):
        drawn.clear()
        file.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert run(places, **options) == expected
        assert drawn == whole[kept:]
        assert any("has scored" in str(one.message) for one in caught) == (kept > 0)
        assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.fault("identity")
def test_scores_of_other_models_or_arguments_are_not_gone_on_from(places, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(scenes.KeptScores, "forget", lambda _: None)
    run(places, keep_in=tmp_path)
    drawn.clear()
    with pytest.warns(UserWarning, match="has scored 6 of 6 pictures"):
        run(places, keep_in=tmp_path)
    assert not drawn
    base = shutil.copytree(places.base, tmp_path / "base")
    file = base / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.bias"][0] += 1
    save_file(weights, file)
    for change in ({"steps": 2}, {"guidance": 2.0}, {"base": str(base)}):
        run(places, keep_in=tmp_path, **change)
        assert len(drawn) == 12
        drawn.clear()


@pytest.mark.fault("lost work")
def test_where_nothing_can_be_kept_it_goes_on_all_the_same(places, tmp_path, drawn):
    (tmp_path / "taken").touch()
    assert run(places, keep_in=tmp_path / "taken") == run(places)


class Painter:
    """In place of a pipeline: draws what a prompt states, but fails those of `wrong`, and one seed of `half`."""

    def __init__(self, wrong: set[str], half: set[str]) -> None:
        self.facts = {prompt.prompt: prompt.facts for prompt in scene_prompts()}
        self.wrong, self.half = wrong, half

    def __call__(self, texts: list[str], generator: list[Any], **_: Any) -> Any:
        pairs = zip(texts, generator, strict=True)
        return type("Output", (), {"images": [self.paint(text, rng.initial_seed()) for text, rng in pairs]})

    def paint(self, text: str, seed: int) -> Image.Image:
        if text in self.wrong or (text in self.half and seed == 1):
            return Image.new("RGB", (64, 64), "black")
        return Image.fromarray(draw(scene_with(self.facts[text], np.random.default_rng(0))))


def test_shares_are_of_pictures_right_in_every_fact(monkeypatch):
    """Painters paint a prompt the same for every seed, which is looked at once."""
    outcome, seen = outcomes._outcome, {}

    def once(prompt: Any, image: Image.Image) -> Any:
        key = prompt.prompt, image.tobytes()
        return seen[key] if key in seen else seen.setdefault(key, outcome(prompt, image))

    monkeypatch.setattr(outcomes, "_outcome", once)
    prompts = scene_prompts(4)
    names = [prompt.prompt for prompt in prompts]
    painter = Painter(wrong={names[0], names[5]}, half={names[1]})
    worse, better = (
        draw_outcomes(one, System("base", 1.0), prompts, 2, 1, KeptScores(None, {}), lambda share: None)
        for one in (painter, Painter(set(), set()))
    )
    rows = {
        (row["group"], row["model"]): row
        for group in (*GROUPS, "all")
        for row in scenes._rows(group, {"base": worse, "adapted": better})
    }
    assert rows["plain", "base"]["share"] == pytest.approx((0 + 0.5 + 1 + 1) / 4)
    assert rows["binding", "base"]["share"] == pytest.approx(0.75)
    assert rows["long", "base"]["share"] == 1
    assert rows["all", "base"]["share"] == pytest.approx((24 - 2.5) / 24)
    assert rows["all", "adapted"]["share"] == rows["all", "adapted"]["facts"] == 1
    assert rows["plain", "difference"]["share"] == pytest.approx(1.5 / 4)
    expected = interval(np.array([1, 0.5, 0, 0]))
    assert (rows["plain", "difference"]["low"], rows["plain", "difference"]["high"]) == pytest.approx(expected)
    assert rows["plain", "base"]["facts"] < 1
    assert rows["plain", "base"]["prompts"] == 4


def test_a_black_picture_gets_what_it_deserves():
    prompt = scene_prompts(1)[0]
    outcome = outcomes._outcome(prompt, Image.new("RGB", (64, 64), "black"))
    assert not outcome.right
    assert outcome.facts_right < 1


def test_a_missing_model_is_told(places, tmp_path):
    from llmdiff.errors import LLMDiffError

    with pytest.raises(LLMDiffError, match="missing"):
        run(places, base=str(Path(tmp_path) / "missing"))


@pytest.mark.fault("not finite")
def test_a_model_that_draws_what_is_not_finite_gets_no_score(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    load = scenes.Renderer.load

    def broken(*arguments: Any) -> Any:
        renderer = load(*arguments)
        with torch.no_grad():
            renderer.pipe.vae.decoder.conv_out.bias[0] = float("nan")
        return renderer

    monkeypatch.setattr(scenes.Renderer, "load", broken)
    with pytest.raises(LLMDiffError, match="A picture is not finite"):
        run(places)
