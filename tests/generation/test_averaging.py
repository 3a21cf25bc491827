"""One picture of several texts: the mean of their predictions, whatever their lengths."""

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from torch import nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.generation import PictureSettings, Renderer
from llmdiff.generation.averaging import averaged
from llmdiff.proxy import Rewriting
from tiny_base import Places, build_base

TEXTS = ("a red ball", "the blue house on a red box and a ball", "ball")


def settings(*texts: str, guidance: float = 4.0, seed: int = 5) -> PictureSettings:
    rewriting = Rewriting(model="m", instruction="i", texts=texts) if texts else None
    return PictureSettings(
        prompt="a box", steps=3, guidance=guidance, scale=1, seed=seed, width=16, height=16, rewriting=rewriting
    )


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=int)


@pytest.fixture(scope="module")
def renderer(places: Places) -> Renderer:
    from llmdiff.generation import Models, load_pipeline

    adapter = LLMDiffAdapter.from_pretrained(places.adapter)
    return Renderer(load_pipeline(places.base), adapter, Models(base=str(places.base), adapter=str(places.adapter)))


@torch.no_grad()
def drawn_by_hand(pipe: StableDiffusionPipeline, texts: tuple[str, ...], guidance: float, seed: int) -> torch.Tensor:
    """Latents of ε_u + w (mean ε_n - ε_u), with each text encoded and predicted by itself."""
    encoded = [pipe.encode_prompt(text, "cpu", 1, True) for text in texts]
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    pipe.scheduler.set_timesteps(3)
    latents = latents * pipe.scheduler.init_noise_sigma
    for t in pipe.scheduler.timesteps:

        def predict(text: torch.Tensor, t: torch.Tensor = t, latents: torch.Tensor = latents) -> torch.Tensor:
            found: torch.Tensor = pipe.unet(latents, t, encoder_hidden_states=text).sample
            return found

        mean = torch.stack([predict(text) for text, _ in encoded]).mean(0)
        without = predict(encoded[0][1])
        latents = pipe.scheduler.step(without + guidance * (mean - without), t, latents).prev_sample
    return latents


def test_it_is_the_mean_of_predictions_made_one_by_one(renderer: Renderer) -> None:
    pipe = renderer.pipe
    rows = [torch.Generator().manual_seed(5) for _ in TEXTS]
    with averaged(pipe.unet, len(TEXTS)):
        latents = pipe(
            list(TEXTS), num_inference_steps=3, guidance_scale=4.0, generator=rows, output_type="latent",
            width=16, height=16,
        ).images  # fmt: skip
    assert torch.equal(latents[0], latents[1])
    torch.testing.assert_close(latents[:1], drawn_by_hand(pipe, TEXTS, 4.0, 5), rtol=1e-4, atol=1e-4)
    alone = drawn_by_hand(pipe, TEXTS[:1], 4.0, 5)
    assert not torch.allclose(latents[:1], alone, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_equal_texts_are_one_text(renderer: Renderer, guidance: float) -> None:
    one = pixels(renderer.draw(settings(TEXTS[0], guidance=guidance)))
    three = pixels(renderer.draw(settings(*TEXTS[:1] * 3, guidance=guidance)))
    assert abs(one - three).max() <= 1


def test_the_order_of_texts_does_not_matter(renderer: Renderer) -> None:
    forth, back = renderer.draw(settings(*TEXTS)), renderer.draw(settings(*reversed(TEXTS)))
    assert abs(pixels(forth) - pixels(back)).max() <= 1


def test_pictures_of_several_texts_are_drawn_in_batches_too(renderer: Renderer) -> None:
    orders = [settings(*TEXTS), settings(*TEXTS[::-1], seed=6), settings(TEXTS[0], *TEXTS[:2], seed=7)]
    apart = [renderer.draw(one) for one in orders]
    seen: list[tuple[int, ...]] = []
    together = renderer.draw_batch(orders, on_latents=lambda share, latents: seen.append(tuple(latents.shape)))
    assert len(together) == 3
    assert set(seen) == {(3, 4, 8, 8)}
    for one, other in zip(apart, together, strict=True):
        assert abs(pixels(one) - pixels(other)).max() <= 1
    assert abs(pixels(apart[0]) - pixels(apart[1])).max() > 1


def test_a_rewriting_takes_the_place_of_the_prompt(renderer: Renderer) -> None:
    written = settings(TEXTS[0]).model_copy(update={"prompt": TEXTS[0], "rewriting": None})
    assert renderer.draw(settings(TEXTS[0])) == renderer.draw(written)
    assert renderer.draw(settings(TEXTS[0])) != renderer.draw(settings())


def test_noise_within_the_steps_is_the_same_in_all_rows() -> None:
    pipe = build_base()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    rows = [torch.Generator().manual_seed(5) for _ in TEXTS]
    with averaged(pipe.unet, len(TEXTS)):
        latents = pipe(
            list(TEXTS), num_inference_steps=3, generator=rows, output_type="latent", width=16, height=16
        ).images
    assert torch.equal(latents[0], latents[2])


def test_rows_that_cannot_be_told_apart_are_refused() -> None:
    pipe = build_base()
    with averaged(pipe.unet, 2), pytest.raises(LLMDiffError, match="row by row"):
        pipe("a ball", num_inference_steps=1, guidance_scale=1.0, width=16, height=16)


def test_nothing_stays_behind() -> None:
    module = nn.Identity()
    with pytest.raises(RuntimeError), averaged(module, 2):
        raise RuntimeError
    assert module(torch.ones(1)) == 1
