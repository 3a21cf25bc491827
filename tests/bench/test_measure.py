"""Variants in turn, and what is counted of them."""

import time
from functools import partial

import pytest
import torch

from llmdiff.bench.measure import call_memory, count_launches, in_fresh_process, interleaved, machine, peak_memory


def test_variants_take_turns_and_are_compared_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only they move: in each round they take so many seconds."""
    seconds = {"slow": [9, 4, 6, 5], "fast": [9, 2, 2, 1]}  # the first round warms up
    order: list[str] = []
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def run(name: str) -> None:
        nonlocal now
        now += seconds[name][order.count(name)]
        order.append(name)

    slow, fast = interleaved({name: partial(run, name) for name in seconds}, 3, "fast")
    assert order == ["slow", "fast"] * 4
    assert (fast.ratio, fast.low, fast.high) == (1, 1, 1)
    assert (slow.low, slow.ratio, slow.high) == (2, 3, 5)
    assert (slow.seconds, fast.seconds) == (5, 2)


def test_launches_are_operators_that_compute() -> None:
    x = torch.ones(2, 3)
    assert count_launches(lambda: (x + 1).T.reshape(3, 2)[0]) == 1
    assert count_launches(lambda: torch.relu(x @ x.T)) == 2
    assert count_launches(lambda: torch.empty(3)) == 0


def _peak_with(size: int) -> int:
    torch.ones(size)
    return peak_memory()


@pytest.mark.slow
def test_peak_memory_is_of_a_process_of_its_own() -> None:
    small, large = (in_fresh_process(_peak_with, size) for size in (1, 10**8))
    assert 3e8 < large - small < 6e8


def test_the_memory_of_a_call_is_the_most_that_it_has_at_one_time() -> None:
    x = torch.ones(100_000)
    one = x.numel() * x.element_size()
    assert call_memory(x.relu) == one
    assert call_memory(lambda: x.relu() + x.sigmoid()) == 3 * one
    assert call_memory(lambda: [x.relu().sum() for _ in range(5)]) < 1.1 * one
    assert call_memory(lambda: x.view(10, -1)) == 0


def test_the_machine_has_a_name() -> None:
    assert machine()
