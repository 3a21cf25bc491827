"""Checks of the matrix: what is saved, copied and pickled while an adapter is attached, and two adapters at once."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch

from adapter.case import Case
from adapter.changes import TEXT, distance
from llmdiff.base.layers import find_denoiser


def check_two_adapters(case: Case) -> None:
    (first, one), (second, two) = case.attached(seed=0), case.attached(seed=1)
    pictures = [case.draw(first), case.draw(second)]
    assert distance(*pictures) > 1e-3
    assert torch.equal(case.draw(first), pictures[0])
    one.detach()
    assert torch.equal(case.draw(second), pictures[1])
    two.detach()


def check_saving(case: Case) -> None:
    """What is saved while an adapter is attached is the base model, and the adapter stays attached."""
    stock = case.family.build()
    pipe, _ = case.attached()
    before, dropped = case.draw(pipe), [name for name, part in pipe.components.items() if part is None]
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder)
        again = type(pipe).from_pretrained(folder, **{name: None for name in TEXT if name in dropped})
    again.set_progress_bar_config(disable=True)
    expected, found = find_denoiser(stock).state_dict(), find_denoiser(again).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert torch.equal(case.draw(pipe), before)
    if case.mode == "augment":
        assert torch.equal(case.draw(again), case.draw(stock))


def check_copies(copies: Callable[[Any], Any]) -> Callable[[Case], None]:
    """A copy draws the same picture, and goes on doing so when the original is changed."""

    def check(case: Case) -> None:
        pipe, adapter = case.attached()
        other = copies(pipe)  # before it draws: then transformers hangs a local function on SDXL's text encoders
        picture = case.draw(pipe)
        adapter.scale = 0
        adapter.detach()
        other.set_progress_bar_config(disable=True)
        assert torch.equal(case.draw(other), picture)
        assert distance(case.draw(other, "blue"), picture) > 1e-3

    return check
