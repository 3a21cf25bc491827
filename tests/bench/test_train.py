"""The benchmark of training, two steps long: it gives every figure of every case."""

import dataclasses
from pathlib import Path

import pytest

from llmdiff.bench import train
from llmdiff.bench.train import CASES, Setting, measure
from tiny_base import Places


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_measured_beside_the_floor(case: str, places: Places) -> None:
    figures = measure(Setting(str(places.base), str(places.llm), batch_size=2, steps=2, captions=4), case)
    assert (figures.case, figures.base) == (case, str(places.base))
    assert figures.images_per_s > 0
    assert 0 < figures.share < 1.5
    assert figures.peak_memory > 10**7


def test_a_random_model_of_the_shape_of_sd15_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"block_out_channels": (32, 32, 32, 32)}
    unet, vae = train.UNet2DConditionModel, train.AutoencoderKL
    monkeypatch.setattr(train, "UNet2DConditionModel", lambda **kw: unet(**kw | small))
    monkeypatch.setattr(train, "AutoencoderKL", lambda **kw: vae(**kw | small))
    pipe = train._pipeline("sd15")
    assert pipe.unet.config.cross_attention_dim == 768
    assert 8 * pipe.unet.config.sample_size == 256


def test_nothing_of_a_measurement_stays(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.tempfile, "tempdir", str(tmp_path))
    setting = Setting(str(places.base), str(places.llm), batch_size=2, steps=1, captions=4)
    assert dataclasses.asdict(measure(setting, "latents and terms cached"))["share"] > 0
    assert list(tmp_path.iterdir()) == []
