"""Shipping: the same models in half precision, in the places that the package looks in."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from embedded_base import ship
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import load_pipeline


def draw(base: Path, adapter: Path) -> np.ndarray:
    pipe = load_pipeline(base)
    LLMDiffAdapter.from_pretrained(adapter).attach(pipe)
    rng = torch.Generator().manual_seed(0)
    return pipe("a red box", num_inference_steps=2, generator=rng, output_type="np").images


def test_what_is_shipped_is_half_as_large_and_draws_nearly_the_same(places, tmp_path, monkeypatch):
    monkeypatch.setattr(ship, "_PACKAGE", tmp_path)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "README.md").write_text("a card by hand")
    ship.main(places.base, places.adapter)
    for source, name in ((places.base, "base"), (places.adapter, "adapter")):
        files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        files |= {Path("checksums.json")} if name == "base" else set()
        assert files == {p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*") if p.is_file()}
        for path in (tmp_path / name).rglob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                dtypes = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 - not a mapping
            assert torch.float32 not in dtypes
            assert torch.float16 in dtypes
    assert (tmp_path / "adapter" / "README.md").read_text() == "a card by hand"
    before, after = (draw(base, adapter) for base, adapter in (
        (places.base, places.adapter), (tmp_path / "base", tmp_path / "adapter"),
    ))  # fmt: skip
    assert np.abs(before - after).mean() < 0.01
    assert np.ptp(before) > 0.1


def test_one_of_the_two_may_be_shipped_alone(places, tmp_path, monkeypatch):
    monkeypatch.setattr(ship, "_PACKAGE", tmp_path)
    ship.main(adapter=places.adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
