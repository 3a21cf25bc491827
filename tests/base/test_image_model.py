"""The image model: what its denoiser takes in training is what it takes in a call of its pipeline."""

from typing import Any

import pytest
import torch
from torch import Tensor

from adapter.families import FAMILIES, REFUSED
from llmdiff.base import ImageModel, SizeConditioning
from llmdiff.errors import LLMDiffError


@pytest.mark.parametrize("family", FAMILIES)
def test_the_denoiser_is_given_in_training_what_it_is_given_in_a_call(family: str) -> None:
    """Text, mask, pooled vector and sizes; a dropped caption is the negative prompt of a call without one."""
    pipe = FAMILIES[family].build()
    base = ImageModel(pipe)
    given: list[dict[str, Any]] = []
    base.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: given.append({"sample": args[0], **kwargs}), with_kwargs=True
    )
    pipe(["a red cup"], num_inference_steps=1, output_type="latent", **PLAIN_CALL.get(family, {}))
    base.predict(given[0]["sample"], torch.zeros(2).long(), base.encode(["", "a red cup"]))
    called, trained = (_tensors(inputs) for inputs in given)
    assert trained.keys() - {"timestep"} == called.keys() - {"timestep"}
    for name in trained.keys() - {"timestep"}:
        assert torch.allclose(trained[name].float(), called[name].float(), rtol=1e-5, atol=1e-6), name


BINNING = {"use_resolution_binning": False}
PLAIN_CALL = {"PixArt": BINNING, "Sana": BINNING | {"height": 32, "width": 32}}


def _tensors(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Everything that a denoiser is given, in one layer."""
    inputs = {**inputs, **(inputs.get("added_cond_kwargs") or {})}
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


def test_pixart_that_asks_for_sizes_is_given_them() -> None:
    pipe = FAMILIES["PixArt"].build()
    pipe.transformer.use_additional_conditions = True
    noisy = torch.zeros(3, 4, 6, 8)
    given = ImageModel(pipe)._sizes(noisy, None)
    assert given["resolution"].tolist() == [[12, 16]] * 3
    assert given["aspect_ratio"].tolist() == [[0.75]] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"addition_embed_type": "image"},
        {"encoder_hid_dim_type": "image_proj"},
        {"sample_size": [8, 16]},
        {"in_channels": 9},
    ],
)
def test_a_base_model_that_wants_more_is_refused(change: dict[str, Any]) -> None:
    pipe = FAMILIES["SD 1.x"].build()
    ImageModel(pipe).check_trainable()
    pipe.unet.register_to_config(**change)
    with pytest.raises(LLMDiffError, match="cannot be trained on yet"):
        ImageModel(pipe).check_trainable()


def test_the_refusal_names_every_family_that_is_trained_on() -> None:
    pipe = FAMILIES["SD 1.x"].build()
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(LLMDiffError) as refused:
        ImageModel(pipe).check_trainable()
    names = {"SD 1.x": "Stable Diffusion 1.x", "SD 2.x": "2.x", "SDXL": "XL"}
    assert [family for family in FAMILIES if names.get(family, family) not in str(refused.value)] == []


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_no_adapter_fits_are_refused(family: str) -> None:
    with pytest.raises(LLMDiffError, match="has no cross-attention layer"):
        ImageModel(REFUSED[family]()).check_trainable()


def test_sdxl_is_given_how_each_picture_was_cut() -> None:
    """Original size, the crop's top left corner, and the size: as diffusers' pipeline orders them in `time_ids`."""
    pipe = FAMILIES["SDXL"].build()
    base = ImageModel(pipe)
    given: list[dict[str, Any]] = []
    base.denoiser.register_forward_pre_hook(lambda _, args, kwargs: given.append(kwargs), with_kwargs=True)
    noisy = torch.zeros(2, base.denoiser.config.in_channels, 8, 8)
    sizes = [SizeConditioning((20, 40), (0, 8), (16, 16)), SizeConditioning((16, 16), (0, 0), (16, 16))]
    base.predict(noisy, torch.zeros(2).long(), base.encode(["", "a red cup"]), sizes)
    ids = given[0]["added_cond_kwargs"]["time_ids"]
    assert ids.tolist() == [[20, 40, 0, 8, 16, 16], [16, 16, 0, 0, 16, 16]]
    ordered = pipe._get_add_time_ids((20, 40), (0, 8), (16, 16), ids.dtype, pipe.text_encoder_2.config.projection_dim)
    assert torch.equal(ids[:1], ordered)
