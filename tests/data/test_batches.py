"""Which picture is sample n: against a slow reference that walks through the epochs, and by what must never change."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.listed import Listed
from llmdiff.data import Batches, SceneData

SIZES = [(64, 64), (48, 80), (80, 48)]


def walked(data: Listed, batch_size: int, seed: int, steps: int) -> list[list[int]]:
    """Batches by walking through shuffled epochs and filling one line per size; every weight is 1."""
    lines: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    shown: list[list[int]] = []
    by_size = sorted(range(len(data)), key=lambda i: list(dict.fromkeys(data.sizes)).index(data.sizes[i]))
    epoch = 0
    while len(shown) < steps:
        for place in np.random.default_rng((seed, 2, epoch)).permutation(len(data)):
            line = lines[data.sizes[by_size[place]]]
            line.append(by_size[place])
            if len(line) == batch_size:
                shown.append(list(line))
                line.clear()
        epoch += 1
    return shown[:steps]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(SIZES), min_size=1, max_size=30),
    st.integers(1, 9),
    st.integers(0, 3),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_batches_are_those_of_a_walk_through_the_epochs(sizes, batch_size, seed, asked):
    data = Listed(sizes)
    wanted = walked(data, batch_size, seed, 61)
    batches = Batches(data, batch_size, seed)
    for step in [*asked, *range(0, 61, 7)]:  # in any order
        assert batches.pictures(step).tolist() == wanted[step]
        assert len({data.sizes[i] for i in wanted[step]}) == 1


def test_pictures_of_one_size_come_in_the_order_of_plain_epochs():
    """As runs of earlier versions had it: they can be resumed."""
    batches = Batches(Listed([(64, 64)] * 10), 4, 7)
    orders = [np.random.default_rng((7, 2, epoch)).permutation(10) for epoch in range(10)]
    assert [batches.sample(n).picture for n in range(100)] == np.concatenate(orders).tolist()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from([0.25, 0.3, 1, 2, 2.5])), min_size=1, max_size=12))
def test_every_picture_is_shown_as_often_as_its_weight_says(rows):
    sizes, weights = zip(*rows, strict=True)
    batches = Batches(Listed(sizes, weights), 3, 0)
    total, steps = sum(weights), 60
    shown = Counter(i for step in range(steps) for i in batches.pictures(step).tolist())
    epochs = 3 * steps / total
    for picture, weight in enumerate(weights):
        assert shown[picture] == pytest.approx(epochs * weight, abs=2 * weight + 12)


def test_a_weight_below_one_takes_turns():
    """Half of the pictures in one epoch, the others in the next; which ones, is drawn anew."""
    batches = Batches(Listed([(8, 8)] * 6, [0.5] * 6), 3, 0)
    epochs = [frozenset(batches.pictures(step).tolist()) for step in range(40)]
    assert all(first | second == set(range(6)) for first, second in zip(epochs[::2], epochs[1::2], strict=True))
    assert len(set(epochs)) > 8


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_captions_are_dropped_and_chosen_by_lot(share):
    data = Listed([(8, 8)] * 4, captions=3)
    batches = Batches(data, 8, 5, share)
    samples = [batches.sample(n) for n in range(1500)]
    dropped = sum(sample.caption is None for sample in samples) / 1500
    assert dropped == pytest.approx(share, abs=0.04 if share else 0)
    chosen = Counter(sample.caption for sample in samples if sample.caption is not None)
    assert all(chosen[k] == pytest.approx(1500 * (1 - share) / 3, rel=0.2) for k in range(3))
    for sample in samples:
        assert sample.text(data.captions) == ("" if sample.caption is None else f"{sample.picture} {sample.caption}")


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_samples_has_the_longest_caption(share):
    data = Listed([(8, 8)] * 3)
    data.captions = [("short", "a very long one", "mid-size"), ("only",), ("as long", "as late", "no")]
    chosen: defaultdict[int, Counter[int]] = defaultdict(Counter)
    batches = Batches(data, 8, 5, longest=share)
    for n in range(3000):
        sample = batches.sample(n)
        chosen[sample.picture][sample.caption] += 1
    assert chosen[1] == {0: 1000}
    for picture, longest in ((0, 1), (2, 0)):
        assert chosen[picture][longest] == pytest.approx(1000 * share, abs=50 if 0 < share < 1 else 0)
        others = {caption: count for caption, count in chosen[picture].items() if caption != longest}
        assert all(count == pytest.approx(500 * (1 - share), abs=60) for count in others.values())


def test_another_seed_shows_something_else():
    shown = [[Batches(Listed([(8, 8)] * 9), 4, seed).sample(n).picture for n in range(9)] for seed in (0, 0, 1)]
    assert shown[0] == shown[1] != shown[2]


@pytest.mark.fault("tiny weights")
@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ([(8, 8)] * 10, [1e-6] * 10),
        ([(8, 8)] * 500 + [(8, 16)] * 500, [1.0] * 500 + [1e-6] * 500),
        ([(8, 8)] * 50 + [(8, 16)], [1e-6] * 50 + [1000.0]),
    ],
)
def test_tiny_weights_cost_no_walk_through_epochs_that_have_nothing(sizes, weights):
    """Where an epoch has a hundred-thousandth of a picture; the last step is one of the longest runs."""
    batches = Batches(Listed(sizes, weights), batch_size=128, seed=0)
    for step in (0, 1, 2, 50_000, 10**9):
        assert len({sizes[picture] for picture in batches.pictures(step)}) == 1


@pytest.mark.fault("tiny weights")
@pytest.mark.parametrize("weight", [0, -1, 1e-7, 1e-300, 5e-324, 1e4, math.inf, math.nan])
def test_a_weight_out_of_bounds_is_told(weight):
    with pytest.raises(ValidationError, match="weight"):
        SceneData(kind="scenes", weight=weight)
