"""Pictures of latents: at the end they are the picture, and looking at them changes nothing."""

from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapter.families import AUGMENTED, FAMILIES
from adapter.tiny import build_sd, build_sdxl
from llmdiff.generation import Models, PictureSettings, Renderer, png_bytes, read_png, write_png
from llmdiff.generation.picture import Picture
from llmdiff.generation.preview import can_preview, preview
from tiny_base import Places

ALL = {name: family for name, family in (FAMILIES | AUGMENTED).items() if name != "Kandinsky 3"}


def settings(**options: Any) -> PictureSettings:
    common = {"prompt": "a red ball", "steps": 4, "guidance": 5, "scale": 1, "seed": 3, "width": 32, "height": 32}
    return PictureSettings.model_validate(common | options)


@pytest.mark.parametrize("name", ALL)
def test_of_the_last_latents_it_is_the_picture(name: str) -> None:
    pipe = ALL[name].build()
    size = {"width": 64, "height": 64} if name == "Hunyuan-DiT" else {}
    renderer = Renderer(pipe, None, Models(base="tiny"))
    seen: list[tuple[float, Any]] = []

    def look(share: float, latents: Tensor) -> None:
        seen.append((share, preview(pipe, latents)[0]))

    assert can_preview(pipe)
    pictures = [settings(**size), settings(**size, seed=4)]
    drawn = renderer.draw_batch(pictures, on_latents=look)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert np.abs(np.asarray(seen[-1][1], int) - np.asarray(drawn[0], int)).max() <= 1
    again = renderer.draw_batch(pictures)
    assert all(np.array_equal(one, other) for one, other in zip(drawn, again, strict=True))


def test_a_pipeline_without_a_vae_of_that_kind_has_none() -> None:
    assert not can_preview(SimpleNamespace(movq=object()))
    assert not can_preview(SimpleNamespace(vae=SimpleNamespace(config={}), image_processor=object()))


def test_latents_of_shifted_and_scaled_vaes_are_unscaled() -> None:
    pipe = build_sd()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = np.asarray(preview(pipe, latents)[0], int)
    pipe.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[2.0] * 4)
    assert np.abs(np.asarray(preview(pipe, latents / 2)[0], int) - plain).max() <= 1
    pipe.vae.register_to_config(latents_mean=None, shift_factor=0.5)
    scaling = pipe.vae.config.scaling_factor
    assert np.abs(np.asarray(preview(pipe, latents - 0.5 * scaling)[0], int) - plain).max() <= 1


def test_a_vae_that_overflows_in_float16_is_in_it_again_afterwards() -> None:
    vae = build_sdxl().vae.to(torch.float16)
    vae.register_to_config(force_upcast=True)
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    pipe = SimpleNamespace(vae=vae, image_processor=build_sdxl().image_processor)
    preview(pipe, torch.randn(1, 4, 8, 8).half())
    assert vae.dtype == torch.float16
    assert all(torch.equal(weight, before[name]) for name, weight in vae.state_dict().items())


def test_latents_that_are_not_finite_are_shown_and_the_picture_is_still_judged() -> None:
    pipe = build_sd()
    assert preview(pipe, torch.full((1, 4, 8, 8), torch.nan))[0].size == (16, 16)
    renderer = Renderer(pipe, None, Models(base="tiny"))
    renderer.draw_batch([settings()], on_latents=lambda share, latents: (preview(pipe, latents * torch.nan), None)[1])


def test_a_call_that_is_stopped_leaves_no_trace(places: Places) -> None:
    renderer = Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)), device="cpu")
    whole = np.asarray(renderer.draw(settings()))

    def stop(share: float) -> None:
        if share > 0.4:
            raise CancelledError

    with pytest.raises(CancelledError):
        renderer.draw(settings(prompt="a blue box"), stop)
    assert np.array_equal(renderer.draw(settings()), whole)


def test_the_bytes_of_a_png_are_those_of_its_file(places: Places, tmp_path: Any) -> None:
    renderer = Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)), device="cpu")
    picture = Picture(renderer.draw(settings()), renderer.record(settings()))
    write_png(tmp_path / "a.png", picture.image, picture.document())
    assert png_bytes(picture.image, picture.document()) == (tmp_path / "a.png").read_bytes()
    assert read_png(tmp_path / "a.png")[1] == picture.document()
