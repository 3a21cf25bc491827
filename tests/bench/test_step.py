"""The benchmark of denoising steps, on tiny shapes: every variant has its figures."""

import pytest

from llmdiff.bench import shapes
from llmdiff.bench.step import bench_step

TINY = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}


def test_a_step_with_an_adapter_is_measured_beside_the_base_and_ip_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.DENOISERS, "tiny", TINY)
    rows = bench_step("tiny", side=None, tokens=5, width=16, rounds=2, compiled=False)
    assert [row.time.variant for row in rows] == ["base", "ours, augment", "ours, replace", "IP-Adapter, 5 tokens"]
    base, *others = rows
    assert base.time.ratio == 1
    assert base.launches_per_layer == 0
    assert all(row.launches > base.launches for row in others)
    assert rows[1].launches_per_layer < rows[3].launches_per_layer


def test_a_transformer_is_measured_without_ip_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = {"sample_size": 8, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
    small = shapes.DENOISERS["pixart"] | smaller | {"cross_attention_dim": 16, "caption_channels": 12}
    monkeypatch.setitem(shapes.DENOISERS, "tiny", small)
    rows = bench_step("tiny", side=None, tokens=5, width=16, rounds=1, compiled=False)
    assert [row.time.variant for row in rows] == ["base", "ours, augment", "ours, replace"]
    assert rows[0].launches < rows[1].launches
