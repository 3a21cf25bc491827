"""What the layout's truth says of a scene, and that its readout can learn it."""

import numpy as np
import pytest
import torch

from embedded_base import data
from embedded_base.layout import LayoutReadout, layout
from llmdiff.scenes.drawing import background, draw
from llmdiff.scenes.scene import Scene, Thing
from llmdiff.scenes.vocabulary import COLOURS, KINDS, SIZES


def test_the_cells_of_a_thing_name_it_and_say_where_in_it_they_are():
    thing = Thing("box", "blue", "large", x=20, y=40)
    truth = layout([Scene("day", (thing,))], 16)[0]
    numbers = [list(KINDS).index("box") + 1, list(COLOURS).index("blue") + 1, list(SIZES).index("large") + 1]
    assert truth[:3, 10, 5].tolist() == numbers  # of rows 40 to 43 and columns 20 to 23
    assert truth[3:, 10, 5].tolist() == pytest.approx([2 / thing.side, 2 / thing.side])
    assert not truth[:, :4].any()


@pytest.mark.parametrize("index", range(8))
def test_the_cells_that_hold_something_are_those_that_differ_from_the_empty_picture(index):
    scene = data.scene(5, index)
    differs = (draw(scene) != background(scene.background)).any(-1).reshape(16, 4, 16, 4).mean((1, 3))
    there = (layout([scene], 16)[0, 0] > 0).numpy()
    assert there[differs > 0.6].all()
    assert not there[differs == 0].any()


def test_the_readout_learns_a_layout():
    torch.manual_seed(0)
    truth = layout([data.scene(5, n) for n in range(2)], 8)
    features = torch.randn(2, 12, 8, 8)
    readout = LayoutReadout(12)
    optimizer = torch.optim.AdamW(readout.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = readout.loss(features, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.3 * losses[0]
