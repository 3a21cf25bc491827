"""Distances of sets of features, beside slow references in double precision and what is known of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmdiff.evaluation import set_distances
from llmdiff.evaluation.set_distances import cmmd, estimated, estimated_difference, frechet


def sample(count: int, seed: int, shift: float = 0.0, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def slow_cmmd(x: Tensor, y: Tensor) -> float:
    """Term by term, in Python's own numbers."""

    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(sum(v * v for v in row))
        return [v / length for v in row]

    def k(a: list[float], b: list[float]) -> float:
        return math.exp(-sum((u - v) ** 2 for u, v in zip(a, b, strict=True)) / 200)

    xs, ys = ([unit(row) for row in rows.tolist()] for rows in (x, y))
    own = [
        sum(k(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j) / (len(rows) * (len(rows) - 1))
        for rows in (xs, ys)
    ]
    return 1000 * (own[0] + own[1] - 2 * sum(k(a, b) for a in xs for b in ys) / (len(xs) * len(ys)))


def slow_frechet(x: Tensor, y: Tensor) -> float:
    """By the eigenvalues of the product of the covariances, which are those of a matrix that is not symmetric."""
    a, b = x.double().numpy(), y.double().numpy()
    first, second = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000), st.floats(0, 3))
@settings(max_examples=25, deadline=None)
def test_cmmd_is_that_of_the_slow_reference(m: int, n: int, seed: int, shift: float) -> None:
    x, y = sample(m, seed), sample(n, seed + 1, shift)
    assert cmmd(x, y) == pytest.approx(slow_cmmd(x, y), abs=1e-7)


@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 1000), st.floats(0, 3))
@settings(max_examples=25, deadline=None)
def test_frechet_is_that_of_the_slow_reference(m: int, n: int, seed: int, shift: float) -> None:
    x, y = sample(m, seed), sample(n, seed + 1, shift)
    assert frechet(x, y) == pytest.approx(slow_frechet(x, y), rel=1e-6, abs=1e-6)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-6, abs=1e-6)


def test_frechet_of_known_normal_distributions() -> None:
    """Of N(0, 1) and N(2, 9) in each of two directions: 2 · (4 + (3 - 1)²)."""
    x, y = sample(200_000, 0, width=2), 3 * sample(200_000, 1, width=2) + 2
    assert frechet(x, y) == pytest.approx(16, rel=0.02)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x[:3], x[:3]) == pytest.approx(0, abs=1e-6), "fewer pictures than features"


def test_cmmd_has_no_bias() -> None:
    """Of samples of one distribution the mean is 0 to its error; with the diagonal it would be 20 errors above."""
    values = np.array([cmmd(sample(8, 2 * seed, 1), sample(8, 2 * seed + 1, 1)) for seed in range(300)])
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error
    with_diagonal = values + [
        1000 * (2 - sum(float(torch.exp(-(torch.cdist(u, u) ** 2) / 200).mean()) for u in pair)) / 8
        for pair in (
            tuple(torch.nn.functional.normalize(sample(8, 2 * seed + k, 1), dim=-1) for k in range(2))
            for seed in range(300)
        )
    ]
    assert with_diagonal.mean() > 10 * error


@pytest.mark.parametrize("distance", [cmmd, frechet])
def test_farther_sets_are_farther(distance: set_distances.Distance) -> None:
    near, far = (distance(sample(60, 0), sample(60, 1, shift)) for shift in (0.5, 2.0))
    assert near < far


def test_kernels_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sample(300, 0), sample(500, 1, 1)
    whole = cmmd(x, y)
    monkeypatch.setattr(set_distances, "_AT_ONCE", 64)
    assert cmmd(x, y) == pytest.approx(whole, abs=1e-7)


def test_memory_does_not_grow_with_the_square_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that the kernel is computed of is one part."""
    seen: list[int] = []
    exp = torch.exp
    monkeypatch.setattr(set_distances.torch, "exp", lambda x: seen.append(x.numel()) or exp(x))
    cmmd(sample(2500, 0), sample(2100, 1))
    assert max(seen) <= set_distances._AT_ONCE**2
    assert sum(seen) == 2500**2 + 2100**2 + 2500 * 2100


@pytest.mark.parametrize("distance", [cmmd, frechet])
def test_intervals_hold_what_more_pictures_say(distance: set_distances.Distance) -> None:
    truth = distance(sample(2500, 7), sample(2500, 8, 1.0))
    found = [estimated(distance, sample(200, 2 * s), sample(200, 2 * s + 1, 1.0)) for s in range(20)]
    assert sum(one.low <= truth <= one.high for one in found) >= 17
    assert all(one.low < one.value < one.high for one in found)


def test_the_difference_of_a_set_and_itself_is_nothing() -> None:
    x, y = sample(50, 0), sample(60, 1, 1.0)
    assert estimated_difference(cmmd, x, x, y) == (0, 0, 0)
    nearer = estimated_difference(frechet, sample(50, 2, 0.9), x, y)
    assert nearer.high < 0
