import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.study import Report, Study, sentence, study_report, write_report
from llmdiff.study.comparison import two_way_interval
from llmdiff.study.raters import chance_of_sides
from llmdiff.study.votes import Votes
from study.pictures import make_study
from study.raters import always_left, careless, prefers, rate


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("rated"), "red", "blue", count=60, questions=("follows",), trials=40)


def rated(study: Study, share: float, raters: int, seed: int, *others: tuple[str, object]) -> Report:
    (study.folder / "votes.sqlite").unlink(missing_ok=True)
    votes = Votes(study)
    for number in range(raters):
        rate(study, votes, f"{number:032x}", prefers("red", share), seed)
    for name, other in others:
        rate(study, votes, name, other, seed)
    votes.close()
    return study_report(study)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_preference_is_recovered_within_its_interval(study: Study, seed: int) -> None:
    (found,) = rated(study, 0.7, 20, seed).comparisons
    truth = 0.9 * 0.7 + 0.1 * 0.5
    assert found.low < truth < found.high
    assert found.verdict == "red"
    assert found.missing == 0
    assert found.wins + found.losses + found.equal + found.neither == found.votes == 20 * 40


def test_no_preference_is_undecided_and_says_what_is_missing(study: Study) -> None:
    found = [rated(study, 0.5, 8, seed).comparisons[0] for seed in range(4, 12)]
    undecided = [one for one in found if one.verdict == "undecided"]
    assert len(undecided) >= 7, "one of twenty may be decided by chance"
    for one in undecided:
        assert one.low < 0.5 < one.high
        assert one.missing is None or one.missing > 0
        assert one.missing_clear > 0
        assert "undecided" in sentence(one)


def test_the_interval_covers_as_often_as_it_says(study: Study) -> None:
    """Of 40 studies with people who differ, at least 33 hold the truth: below that, chance would be 1 in 500."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        people, prompts = rng.normal(0, 0.12, 12), rng.normal(0, 0.12, 30)
        shares = np.clip(0.6 + people[:, None] + prompts[None], 0, 1)
        values = (rng.random((12, 30)) < shares).astype(float).ravel()
        low, high = two_way_interval(values, [n // 30 for n in range(360)], [n % 30 for n in range(360)], seed)
        held += low < 0.6 < high
    assert held >= 33


def test_careless_raters_are_found_and_change_nothing(study: Study) -> None:
    alone = rated(study, 0.7, 10, 5)
    both = rated(study, 0.7, 10, 5, ("c" * 32, careless), ("d" * 32, always_left))
    reasons = {rater.name: rater.why_not for rater in both.raters}
    assert "checks" in reasons["c" * 32]
    assert reasons["d" * 32]
    assert [name for name, why_not in reasons.items() if why_not] == ["c" * 32, "d" * 32]
    assert both.comparisons[0].votes == alone.comparisons[0].votes
    assert both.position == alone.position


def test_sides_alone_betray_one_who_always_clicks_left(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=30, questions=("follows",), checks=0.0)
    found = rated(study, 0.7, 3, 6, ("d" * 32, always_left))
    assert [rater.name for rater in found.raters if rater.why_not] == ["d" * 32]
    assert "left" in next(rater.why_not for rater in found.raters if rater.why_not)


def test_one_who_knows_their_mind_agrees_with_themselves(study: Study) -> None:
    found = rated(study, 1.0, 2, 7)
    assert all(rater.agreement is not None and rater.agreement >= 0.5 for rater in found.raters)
    (study.folder / "votes.sqlite").unlink()
    votes = Votes(study)
    rate(study, votes, "e" * 32, prefers("red", 1.0, equal=0), 0)
    votes.close()
    (rater,) = study_report(study).raters
    assert rater.agreement == 1.0
    assert rater.checks[0] == rater.checks[1] > 0


def test_agreement_is_high_among_those_who_see_alike_and_none_among_those_who_guess(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=40, questions=("follows",), trials=40)

    def of_one_mind(study: Study, trial: object, rng: random.Random) -> str:
        shown = study.sides(trial)
        pair = study.pair(trial)
        wanted = "red" if int(pair.name) % 2 else "blue"
        return "left" if shown[0].system == wanted else "right"

    votes = Votes(study)
    for number in range(4):
        rate(study, votes, f"{number:032x}", of_one_mind, 0)
    votes.close()
    (rater, *_) = study_report(study).raters
    assert rater.why_not == "" or "checks" in rater.why_not
    alike = rated(study, 0.5, 6, 8)
    assert alike.agreement["follows"] is not None
    assert abs(alike.agreement["follows"]) < 0.15


def test_three_systems_are_ranked(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", "green", count=10, questions=("better",), trials=30)
    rank = {"red": 0, "blue": 1, "green": 2}

    def better(study: Study, trial: object, rng: random.Random) -> str:
        if trial.kind == "check":
            return "right" if trial.flipped else "left"
        left, right = study.sides(trial)
        return "left" if (rank[left.system] < rank[right.system]) == (rng.random() < 0.8) else "right"

    votes = Votes(study)
    for number in range(8):
        rate(study, votes, f"{number:032x}", better, 1)
    votes.close()
    found = study_report(study)
    assert {one.systems for one in found.comparisons} == {("red", "blue"), ("red", "green"), ("blue", "green")}
    strengths = found.strengths["better"]
    assert strengths["red"] > strengths["blue"] > strengths["green"]
    assert sum(strengths.values()) == pytest.approx(1)


def test_a_report_is_written_with_a_picture_and_nothing_of_a_prompt_in_it_is_markup(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", title="<script>alert(1)</script>", count=6)
    votes = Votes(study)
    rate(study, votes, "a" * 32, prefers("red", 0.9), 0)
    votes.close()
    paths = write_report(study_report(study), tmp_path / "out")
    assert [path.name for path in paths] == ["report.json", "report.png", "report.html"]
    assert json.loads(paths[0].read_text())["comparisons"][0]["verdict"] in ("red", "blue", "undecided")
    assert "<script>" not in paths[2].read_text()
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_a_study_without_votes_has_a_report(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=3)
    found = study_report(study)
    assert found.comparisons == ()
    assert all(path.is_file() for path in write_report(found, tmp_path / "out"))


@given(st.integers(0, 60), st.integers(1, 60))
@settings(max_examples=50)
def test_chance_of_sides_is_a_probability_and_symmetric(count: int, total: int) -> None:
    count = min(count, total)
    chance = chance_of_sides(count, total)
    assert 0 < chance <= 1
    assert chance == pytest.approx(chance_of_sides(total - count, total))


def test_chance_of_sides_is_the_exact_binomial() -> None:
    assert chance_of_sides(0, 10) == pytest.approx(2 / 1024)
    assert chance_of_sides(1, 10) == pytest.approx(22 / 1024)
    assert chance_of_sides(5, 10) == 1.0


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_an_interval_is_around_its_mean_and_within_bounds(values: list[float], raters: int) -> None:
    low, high = two_way_interval(np.array(values), [n % raters for n in range(len(values))], list(range(len(values))))
    assert -1e-9 <= low <= float(np.mean(values)) + 1e-9
    assert float(np.mean(values)) - 1e-9 <= high <= 1 + 1e-9
