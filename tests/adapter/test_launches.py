"""How many operators an adapter adds to a denoising step: each is a launch on a GPU, which is what a step waits for."""

import pytest
import torch

from adapter.tiny import build_pixart, build_sana, build_sd, build_sdxl, perturb
from llmdiff.base import ImageModel
from llmdiff.bench.measure import count_launches

LIMIT = 6  # per cross-attention layer


@torch.no_grad()
@pytest.mark.parametrize("build", [build_sd, build_sdxl, build_pixart, build_sana])
def test_a_layer_costs_few_launches(make_adapter, mode, build):
    pipe = build()
    model = ImageModel(pipe).freeze()
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([5, 5])
    text = model.encode(["a cup", "blue"])
    base = count_launches(lambda: model.predict(noisy, t, text))
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    inputs = adapter.denoiser_inputs(adapter.encode(["a cup", "a longer prompt"]), text)
    more = count_launches(lambda: model.predict(noisy, t, inputs)) - base
    assert 0 < more / len(model.layers) <= LIMIT
