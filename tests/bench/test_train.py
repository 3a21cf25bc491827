"""The benchmark of training, two steps long: it gives every figure of every case."""

import dataclasses
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmdiff.bench import shapes, train
from llmdiff.bench.measure import DoesNotFitError, in_fresh_process
from llmdiff.bench.train import CASES, Setting, measure
from tiny_base import Places


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_measured_beside_the_floor(case: str, places: Places) -> None:
    figures = measure(Setting(str(places.base), str(places.llm), batch_size=2, steps=2, captions=4), case)
    assert (figures.case, figures.base) == (case, str(places.base))
    assert figures.images_per_s > 0
    assert 0 < figures.share < 1.5
    assert figures.peak_memory > 10**7


@pytest.mark.parametrize("shape", ["sd15", "sdxl", "pixart"])
def test_random_models_of_a_shape_are_trained(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Any] = (
        {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
        if shape == "pixart"
        else {"block_out_channels": (32,) * (3 if shape == "sdxl" else 4), "attention_head_dim": 2}
    )
    if shape == "sdxl":
        small["transformer_layers_per_block"] = 1
    monkeypatch.setitem(shapes.DENOISERS, shape, shapes.DENOISERS[shape] | small)
    monkeypatch.setattr(shapes, "AutoencoderKL", partial(_small_vae, shapes.AutoencoderKL))
    monkeypatch.setitem(shapes.LLMS, "1b", shapes.LLMS["1b"] | {"hidden_size": 64, "intermediate_size": 32})
    setting = Setting(shape, "1b", side=8, batch_size=2, steps=1, captions=4)
    figures = measure(setting, "latents and terms cached")
    assert figures.base == shape
    assert figures.floor_of_base > 0


def _small_vae(kind: Any, **settings: Any) -> Any:
    return kind(**settings | {"block_out_channels": (32,) * 4})


def test_a_killed_measurement_is_told() -> None:
    with pytest.raises(DoesNotFitError, match="was killed"):
        in_fresh_process(signal.raise_signal, signal.SIGKILL)


def test_nothing_of_a_measurement_stays(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.tempfile, "tempdir", str(tmp_path))
    setting = Setting(str(places.base), str(places.llm), batch_size=2, steps=1, captions=4)
    assert dataclasses.asdict(measure(setting, "latents and terms cached"))["share"] > 0
    assert list(tmp_path.iterdir()) == []
