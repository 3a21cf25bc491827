"""Bootstrap intervals cover, shrink and repeat."""

import numpy as np
import pytest

from llmdiff.evaluation.bootstrap import crossed_interval, interval


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for level in (0.8, 0.95):
        samples = (rng.random((300, 60)) < 0.6).astype(float)
        ends = [interval(sample, level, draws=800) for sample in samples]
        covered = np.mean([low <= 0.6 <= high for low, high in ends])
        assert covered == pytest.approx(level, abs=0.05)


def test_it_agrees_with_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(1).normal(3, 2, 4000)
    low, high = interval(values, draws=2000)
    half = 1.96 * values.std() / 4000**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)


@pytest.mark.parametrize("values", [np.ones(40), np.zeros(7), np.array([0.5])])
def test_what_does_not_vary_has_no_width(values):
    assert interval(values) == (values[0], values[0])


def test_more_prompts_give_a_narrower_one():
    few, many = (np.tile([0.0, 1.0], n) for n in (10, 1000))
    assert np.diff(interval(few)) > 5 * np.diff(interval(many))


def test_it_is_a_function_of_values_and_seed():
    values = np.random.default_rng(2).random(50)
    assert interval(values) == interval(values)
    assert interval(values, draws=100, seed=1) != interval(values, draws=100, seed=2)


def test_it_lies_within_the_values():
    low, high = interval(np.array([0.0, 0.0, 1.0]))
    assert 0 <= low <= 1 / 3 <= high <= 1


def crossed(rng: np.random.Generator, trainings: int, prompts: int) -> np.ndarray:
    """Numbers about 0 that vary by training, by prompt and by both."""
    return rng.normal(0, 1, (trainings, 1)) + rng.normal(0, 2, (1, prompts)) + rng.normal(0, 1, (trainings, prompts))


@pytest.mark.parametrize(("trainings", "least"), [(3, 0.8), (8, 0.88)])
def test_crossed_intervals_cover_about_as_often_as_they_say(trainings, least):
    """Of three trainings less often than they say, which the report tells; without their correction, much less."""
    rng = np.random.default_rng(3)
    ends = [crossed_interval(crossed(rng, trainings, 30), draws=500, seed=i) for i in range(200)]
    assert np.mean([low <= 0 <= high for low, high in ends]) >= least


def test_crossed_intervals_know_that_trainings_vary():
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.01, (1, 500))
    low, high = crossed_interval(values, draws=2000)
    assert high - low > 20 * np.diff(interval(values.mean(0), draws=2000))[0]


def test_of_one_training_prompts_alone_are_resampled():
    values = np.random.default_rng(5).normal(0, 1, (1, 400))
    assert crossed_interval(values) == pytest.approx(interval(values[0]), abs=0.01)


def test_crossed_intervals_repeat():
    values = np.random.default_rng(6).random((3, 20))
    assert crossed_interval(values) == crossed_interval(values)
    assert crossed_interval(np.ones((3, 4))) == (1, 1)
