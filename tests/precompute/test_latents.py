"""Latents: the VAE's scaled means, kept by the content of what they depend on, in every shape that the data has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.precompute import CachedLatents, LiveLatents, latents
from llmdiff.progress import silent
from tiny_base import build_base


class Tones:
    """Pictures of one tone each, of two sizes in turn."""

    def __init__(self, count: int = 20, side: int = 16) -> None:
        self.count, self.side = count, side
        self.seen: list[int] = []

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> tuple[int, int]:
        return (self.side, self.side) if index % 2 else (8, self.side)

    def identity(self, index: int) -> str:
        return f"tone {index} {self.size(index)}"

    def pixels(self, index: int) -> Tensor:
        self.seen.append(index)
        return torch.full((3, *self.size(index)), index / 10 - 1)


def build_vae(**settings: float) -> Any:
    vae = build_base().vae.eval()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25, **settings)
    return vae


@pytest.mark.parametrize("live", [False, True])
def test_latents_are_the_scaled_means_of_every_picture(tmp_path, live):
    data, vae = Tones(), build_vae()
    found = LiveLatents(vae, data) if live else CachedLatents.of(vae, data, tmp_path, silent)
    assert len(found) == 20
    assert found[[1, 7, 19]].shape == (3, 4, 8, 8)
    assert found[[4]].shape == (1, 4, 4, 8)
    for n in (0, 7, 19):
        with torch.no_grad():
            mean = vae.encode(data.pixels(n)[None]).latent_dist.mean
        assert torch.allclose(found[[n]].float(), (mean - 0.25) * 0.5, atol=2e-3)


def test_a_picture_is_encoded_once_and_more_data_encodes_what_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "_CHUNK", 4)
    first, more = Tones(), Tones(23)
    before = CachedLatents.of(build_vae(), first, tmp_path, silent)[[3, 5]]
    assert sorted(first.seen) == list(range(20))
    again = CachedLatents.of(build_vae(), more, tmp_path, silent)
    assert sorted(more.seen) == [20, 21, 22]
    assert torch.equal(again[[3, 5]], before)


def _one_bit(vae: Any) -> Any:
    """Changes the last bit of a single weight."""
    vae.decoder.conv_in.weight.data.view(-1)[17].view(1).view(torch.int32).bitwise_xor_(1)
    return vae


def _configured(**settings: Any) -> Any:
    """A VAE of the same weights in another configuration."""
    vae = build_vae()
    other = type(vae).from_config({**vae.config, **settings}).eval()
    other.load_state_dict(vae.state_dict())
    return other


def _tiled() -> Any:
    vae = build_vae()
    vae.enable_tiling()
    return vae


@pytest.mark.fault("identity")
@pytest.mark.parametrize(
    "change", ["one bit", "dtype", "scale", "resolution", "activation", "norm groups", "shift", "tiles"]
)
def test_another_vae_or_resolution_never_gets_what_was_kept(tmp_path, change):
    CachedLatents.of(build_vae(), Tones(), tmp_path, silent)
    data = Tones(side=24 if change == "resolution" else 16)
    vae = {
        "one bit": lambda: _one_bit(build_vae()),
        "dtype": lambda: build_vae().to(torch.bfloat16),
        "scale": lambda: build_vae(),
        "resolution": build_vae,
        "activation": lambda: _configured(act_fn="relu"),
        "norm groups": lambda: _configured(norm_num_groups=build_vae().config.norm_num_groups * 2),
        "shift": lambda: _configured(shift_factor=0.5),
        "tiles": _tiled,
    }[change]()
    if change == "scale":
        vae.register_to_config(scaling_factor=0.7)
    CachedLatents.of(vae, data, tmp_path, silent)
    assert sorted(data.seen) == list(range(20))


@pytest.mark.fault("identity")
def test_a_vae_from_another_place_is_the_same(tmp_path):
    CachedLatents.of(build_vae(), Tones(), tmp_path / "cache", silent)
    build_vae().save_pretrained(tmp_path / "elsewhere")
    data, copied = Tones(), type(build_vae()).from_pretrained(tmp_path / "elsewhere").eval()
    CachedLatents.of(copied, data, tmp_path / "cache", silent)
    assert not data.seen


@pytest.mark.fault("identity")
def test_a_picture_that_changes_while_it_is_encoded_is_not_kept(tmp_path):
    class Changing(Tones):
        def identity(self, index: int) -> str:
            return f"{super().identity(index)} {len(self.seen)}"

    with pytest.raises(LLMDiffError, match="A picture has changed"):
        CachedLatents.of(build_vae(), Changing(), tmp_path, silent)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_size_is_told_before_anything_is_written(tmp_path):
    told: list[tuple[str, float]] = []

    def report(stage: str, share: float) -> None:
        told.append((stage, share))

    CachedLatents.of(build_vae(), Tones(), tmp_path, report)
    on_disk = 2 * 4 * (10 * 8 * 8 + 10 * 4 * 8)
    assert told == [(f"Encoding pictures, {on_disk / 1000:.3g} kB", share) for share in (0, 0.5)]


def test_damage_is_named_and_a_check_repairs_it(tmp_path):
    data = Tones()
    whole = CachedLatents.of(build_vae(), data, tmp_path, silent)[[1, 3]].clone()
    chunk = next(path for path in tmp_path.glob("*/*") if path.stat().st_size > 2 * 4 * 10 * 64)
    content = bytearray(chunk.read_bytes())
    content[-5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(LLMDiffError, match=f"{chunk} is damaged at 'tone 19"):
        CachedLatents.of(build_vae(), data, tmp_path, silent)[[19]]
    with pytest.warns(UserWarning, match="is damaged and is computed anew"):
        again = CachedLatents.of(build_vae(), data, tmp_path, silent, check=True)
    assert torch.equal(again[[1, 3]], whole)


def test_an_unreadable_picture_is_told_as_itself(tmp_path: Path):
    class Broken(Tones):
        def pixels(self, index: int) -> Tensor:
            raise LLMDiffError("The picture 3.png cannot be read.")

    with pytest.raises(LLMDiffError, match=r"3\.png cannot be read"):
        CachedLatents.of(build_vae(), Broken(), tmp_path, silent)
    assert not list(tmp_path.rglob("*.safetensors"))
