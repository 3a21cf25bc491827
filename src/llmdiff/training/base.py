"""The frozen base model in training: what it is told and asked, whatever its family (method.md section 4).

Letters in shapes: B batch, c latent channels, H and W height and width of the latents.
"""

import inspect
from typing import Any

import torch
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor, nn

from llmdiff.adapter.layers import find_denoiser, find_layers, takes_plain_text
from llmdiff.adapter.prompts import result_names
from llmdiff.data import SizeConditioning
from llmdiff.errors import LLMDiffError
from llmdiff.training.noise import can_schedule, told_times, training_schedule

Inputs = dict[str, Any]


class BaseModel:
    """A pipeline's denoiser and text encoders, all frozen.

    Args:
        pipe: an adapter may be attached to it.

    Attributes:
        schedule: how its latents are noised.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.denoiser: Any = find_denoiser(pipe)
        self.schedule = training_schedule(pipe.scheduler)
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()

    @torch.no_grad()
    def text(self, captions: list[str]) -> Inputs:
        """What the denoiser takes of the pipeline's own text encoders, as the pipeline's call would have it.

        The empty caption is what that call takes for a missing negative prompt: not always the empty prompt encoded.
        """
        encode = type(self.pipe).encode_prompt  # not the adapter's own, which stands on the instance
        results = dict(zip(result_names(encode), encode(self.pipe, **self._call(encode, captions)), strict=True))
        empty = torch.tensor([text == "" for text in captions], device=self.pipe.device)
        features = _chosen("prompt_embeds", results, empty)
        mask, pooled = (_chosen(name, results, empty) for name in ("prompt_attention_mask", "pooled_prompt_embeds"))
        inputs: Inputs = {"encoder_hidden_states": features}
        if mask is not None:
            inputs["encoder_attention_mask"] = mask
        if pooled is not None:
            inputs["added_cond_kwargs"] = {"text_embeds": pooled}
        return inputs

    @property
    def uses_size_conditioning(self) -> bool:
        """Whether the denoiser is told how a picture was cut, as SDXL's is."""
        return bool(self.denoiser.config.get("addition_embed_type") == "text_time")

    def predict(self, noisy: Tensor, t: Tensor, text: Inputs, frames: list[SizeConditioning] | None = None) -> Tensor:
        """The denoiser's prediction, without the variances that some learn beside it.

        Args:
            noisy: (B, c, H, W).
            t: (B,), as `draw_timesteps` counts them.
            text: as `text` makes it.
            frames: B of them, how the pictures were cut; if None, they are whole, as in a plain call of the pipeline.

        Returns:
            (B, c, H, W), float32.
        """
        times = told_times(self.schedule, t)
        if scale := self.denoiser.config.get("timestep_scale"):
            times = times * scale
        inputs = {**text, "timestep": times}
        if added := self._size(noisy, frames) | text.get("added_cond_kwargs", {}):
            inputs["added_cond_kwargs"] = added
        said: Tensor = self.denoiser(noisy, **inputs).sample.float()
        return said.chunk(2, dim=1)[0] if said.shape[1] == 2 * noisy.shape[1] else said

    def _call(self, encode: Any, captions: list[str]) -> Inputs:
        """The arguments that the pipeline's call passes on to ``encode_prompt`` when it is given only prompts."""
        wanted = inspect.signature(encode).parameters
        defaults = inspect.signature(type(self.pipe).__call__).parameters
        call = {name: p.default for name, p in defaults.items() if name in wanted and p.default is not p.empty}
        call |= {"prompt": captions, "device": self.pipe.device, "num_images_per_prompt": 1}
        if call.get("clean_caption"):
            call["clean_caption"] = is_bs4_available() and is_ftfy_available()
        return call | {"do_classifier_free_guidance": "" in captions}

    def _size(self, noisy: Tensor, frames: list[SizeConditioning] | None) -> Inputs:
        """What the denoiser is told of the pictures' size and how they were cut, (B, ...)."""
        height, width = (side * self.pipe.vae_scale_factor for side in noisy.shape[-2:])
        frames = frames or [SizeConditioning((height, width), (0, 0), (height, width))] * len(noisy)
        known: dict[str, list[list[float]]] = {}
        if self.uses_size_conditioning:
            known["time_ids"] = [
                [*frame.original_size, *frame.crops_coords_top_left, *frame.target_size] for frame in frames
            ]
        if getattr(self.denoiser, "use_additional_conditions", False):
            known["resolution"] = [[height, width]] * len(noisy)
            known["aspect_ratio"] = [[height / width]] * len(noisy)
        return {name: noisy.new_tensor(numbers) for name, numbers in known.items()}


def check_trainable(pipe: Any) -> None:
    """Raises LLMDiffError unless `BaseModel` knows what a base model must be told, and how its latents are noised."""
    denoiser: Any = find_denoiser(pipe)
    find_layers(denoiser)
    config = denoiser.config
    vae = getattr(pipe, "vae", None)
    known = (
        isinstance(config.get("sample_size"), int)
        and takes_plain_text(pipe)
        and not config.get("guidance_embeds")
        and vae is not None
        and config.get("in_channels") == vae.config.latent_channels
        and can_schedule(pipe.scheduler)
    )
    if not known:
        raise LLMDiffError(
            f"{type(pipe).__name__} with this model cannot be trained on yet: give a text-to-image base model of the "
            "Stable Diffusion 1.x, 2.x, XL, Kolors, PixArt or Sana kind."
        )


def resolution(pipe: Any) -> int:
    """Side in pixels of the pictures that a base model was trained on."""
    denoiser: Any = find_denoiser(pipe)
    return int(denoiser.config.sample_size * pipe.vae_scale_factor)


def _chosen(name: str, results: dict[str, Tensor | None], empty: Tensor) -> Tensor | None:
    """A result of ``encode_prompt``, with the negative's where captions are empty (B,)."""
    positive, negative = results.get(name), results.get(f"negative_{name}")
    if positive is None or negative is None:
        return positive
    return torch.where(empty.view(-1, *[1] * (positive.ndim - 1)), negative, positive)
