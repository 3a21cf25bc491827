"""The frozen image model: a pipeline's denoiser, its cross-attention layers, its own text encoders and its schedule.

Letters in shapes: B batch, c latent channels, H and W height and width of the latents.
"""

import inspect
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor, nn

from llmdiff.base.description import BaseDescription, LayerShape
from llmdiff.base.diffusers_internals import result_names
from llmdiff.base.layers import PARTS, find_controlnets, find_denoiser, find_layers, layer_shape
from llmdiff.base.schedule import can_schedule, model_timesteps, training_schedule
from llmdiff.base.size_conditioning import SizeConditioning
from llmdiff.base.weight_samples import are_other_weights, weight_samples
from llmdiff.errors import LLMDiffError
from llmdiff.sources import public_name

Inputs = dict[str, Any]
"""Keyword arguments of a denoiser."""

TEXT_RESULTS = {
    f"{sign}{name}"
    for sign in ("", "negative_")
    for name in ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
}
"""Results of ``encode_prompt`` that replace mode can make."""

_OTHER_FEATURES = "encoder_hidden_states_"  # how denoisers name what they take of a second encoder


class ImageModel:
    """The image model of a diffusers pipeline, found once and asked by name.

    Args:
        pipe: a text-to-image pipeline; an adapter may be attached to it.

    Attributes:
        pipe: the pipeline.
        denoiser: its U-Net or transformer, without wrappers.

    Raises:
        LLMDiffError: if the pipeline has no denoiser.

    Example:
        >>> model = ImageModel(pipe)
        >>> text = model.encode(["a red cup"])
        >>> noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([700])
        >>> model.predict(noisy, t, text).shape
        torch.Size([1, 4, 8, 8])
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.denoiser: Any = find_denoiser(pipe)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        device: torch.device = self.denoiser.device
        return device

    @property
    def part(self) -> str:
        """The name by which the pipeline holds its denoiser: ``unet`` or ``transformer``."""
        return next(name for name in PARTS if isinstance(getattr(self.pipe, name, None), nn.Module))

    @property
    def layers(self) -> dict[str, nn.Module]:
        """Its cross-attention layers, by module path.

        Raises:
            LLMDiffError: if there is none that an adapter can join.
        """
        return find_layers(self.denoiser)

    @property
    def controlnets(self) -> list[nn.Module]:
        """The pipeline's ControlNets that attend to text."""
        return find_controlnets(self.pipe)

    @property
    def shapes(self) -> dict[str, LayerShape]:
        """The shapes of its cross-attention layers, by module path."""
        return {path: layer_shape(self.denoiser, path, layer) for path, layer in self.layers.items()}

    @property
    def text_width(self) -> int:
        """W, the width of the text features that the denoiser takes."""
        return self._projected_text_width or next(iter(self.shapes.values())).context

    @property
    def pooled_width(self) -> int | None:
        """P, the width of the pooled text vector that the denoiser takes beside its time ids; None if none.

        The time ids are original size, crop and target size or, where an aesthetics score is asked for, that score in
        the place of the last.
        """
        config = self.denoiser.config
        if config.get("addition_embed_type") != "text_time":
            return None
        ids = 5 if getattr(self.pipe, "config", {}).get("requires_aesthetics_score") else 6
        return int(config["projection_class_embeddings_input_dim"] - ids * config["addition_time_embed_dim"])

    @property
    def resolution(self) -> int:
        """The side in pixels of the pictures that it was trained on."""
        return int(self.denoiser.config.sample_size * self.pipe.vae_scale_factor)

    @cached_property
    def schedule(self) -> Any:
        """The noise schedule of its latents, see `llmdiff.base.schedule`."""
        return training_schedule(self.pipe.scheduler)

    @property
    def uses_size_conditioning(self) -> bool:
        """True if the denoiser takes the sizes and the crop of each picture, as SDXL's does."""
        return bool(self.denoiser.config.get("addition_embed_type") == "text_time")

    def freeze(self) -> "ImageModel":
        """Every module of the pipeline without gradients and in eval mode."""
        for part in self.pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        return self

    def describe(self) -> BaseDescription:
        """The description that an adapter keeps of the image model that it is made for."""
        return BaseDescription(
            denoiser=type(self.denoiser).__name__,
            name=public_name(getattr(self.pipe, "name_or_path", None) or None),
            layers=self.shapes,
            text_width=self._projected_text_width,
            weights=weight_samples(self.layers.values()),
        )

    def warn_of_other_weights(self, recorded: BaseDescription) -> None:
        """Warns if its weights are others than those that were recorded, of a model of the same shape."""
        layers = self.layers
        if are_other_weights(recorded.weights, weight_samples(layers[path] for path in recorded.layers)):
            warnings.warn(recorded.on_other_weights(), stacklevel=3)

    def check_fits(self, recorded: BaseDescription) -> None:
        """Raises LLMDiffError, naming the first difference, if the denoiser is not of the shape that was recorded."""
        found = self.shapes
        advice = f"this adapter was made for {recorded.name or recorded.denoiser}; attach it to a model of that family"
        kind = type(self.denoiser).__name__
        for path, shape in recorded.layers.items():
            if path not in found:
                raise LLMDiffError(f"{kind} has no cross-attention layer {path}: {advice}.")
            for field, expected in shape.model_dump().items():
                if (actual := getattr(found[path], field)) != expected:
                    raise LLMDiffError(f"Layer {path} has {field} {actual}, not {expected}: {advice}.")
        if extra := [path for path in found if path not in recorded.layers]:
            raise LLMDiffError(f"The adapter has no branch for the cross-attention layer {extra[0]}: {advice}.")

    @property
    def takes_plain_text(self) -> bool:
        """True if the denoiser takes nothing of the text but features for its cross-attention, their mask and a pooled
        vector, and the pipeline hands on nothing else either."""
        config = self.denoiser.config
        parameters = inspect.signature(type(self.denoiser).forward).parameters
        return (
            config.get("addition_embed_type") in (None, "text", "text_time")
            and config.get("encoder_hid_dim_type") in (None, "text_proj", "ip_image_proj")
            and not any(name.startswith(_OTHER_FEATURES) for name in parameters)
            and (self._results is None or TEXT_RESULTS.issuperset(self._results))
        )

    def check_replaceable(self) -> None:
        """Raises LLMDiffError unless all that the denoiser takes of the text is what replace mode makes."""
        if len({shape.context for shape in self.shapes.values()}) > 1 or not self.takes_plain_text:
            raise LLMDiffError(
                f"This {type(self.denoiser).__name__} does more with its text than attend to features of one width and "
                'take a pooled vector, which replace mode does not serve: use mode="augment".'
            )

    def check_trainable(self) -> None:
        """Raises LLMDiffError unless it is known what the denoiser takes and how its latents are noised."""
        _ = self.layers
        config, vae = self.denoiser.config, getattr(self.pipe, "vae", None)
        known = (
            isinstance(config.get("sample_size"), int)
            and self.takes_plain_text
            and not config.get("guidance_embeds")
            and vae is not None
            and config.get("in_channels") == vae.config.latent_channels
            and self._results is not None
            and can_schedule(self.pipe.scheduler)
        )
        if not known:
            raise LLMDiffError(
                f"{type(self.pipe).__name__} with this model cannot be trained on yet: give a text-to-image base model "
                "of the Stable Diffusion 1.x, 2.x, XL, Kolors, PixArt or Sana kind."
            )

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Inputs:
        """The arguments that the denoiser gets from the pipeline's own text encoders, as in the pipeline's call.

        The empty caption is what that call takes for a missing negative prompt: not always the empty prompt encoded.

        Args:
            captions: B texts.

        Returns:
            Keyword arguments of `predict`, (B, ...) each.
        """
        encode = type(self.pipe).encode_prompt  # not the adapter's own, which stands on the instance
        results = dict(zip(result_names(encode), encode(self.pipe, **self._call(encode, captions)), strict=True))
        empty = torch.tensor([text == "" for text in captions], device=self.pipe.device)
        names = ("prompt_embeds", "prompt_attention_mask", "pooled_prompt_embeds")
        features, mask, pooled = (_chosen(name, results, empty) for name in names)
        inputs: Inputs = {"encoder_hidden_states": features}
        if mask is not None:
            inputs["encoder_attention_mask"] = mask
        if pooled is not None:
            inputs["added_cond_kwargs"] = {"text_embeds": pooled}
        return inputs

    def predict(
        self, noisy: Tensor, t: Tensor, text: Inputs, sizes: Sequence[SizeConditioning] | None = None
    ) -> Tensor:
        """The denoiser's prediction, without the variances that some learn beside it.

        Args:
            noisy: (B, c, H, W).
            t: (B,), timesteps of `schedule`.
            text: as `encode` makes it.
            sizes: B of them, how the pictures were cut; if None, they are whole, as in a plain call of the pipeline.

        Returns:
            (B, c, H, W), float32.
        """
        times = model_timesteps(self.schedule, t)
        if scale := self.denoiser.config.get("timestep_scale"):
            times = times * scale
        inputs = {**text, "timestep": times}
        if added := self._sizes(noisy, sizes) | text.get("added_cond_kwargs", {}):
            inputs["added_cond_kwargs"] = added
        predicted: Tensor = self.denoiser(noisy, **inputs).sample.float()
        return predicted.chunk(2, dim=1)[0] if predicted.shape[1] == 2 * noisy.shape[1] else predicted

    @property
    def _projected_text_width(self) -> int | None:
        """The width of the text features, where the denoiser projects them before its layers get them."""
        config = self.denoiser.config
        projected = config.get("caption_channels") or config.get("encoder_hid_dim")
        return None if projected is None else int(projected)

    @property
    def _results(self) -> tuple[str, ...] | None:
        """The names of what the pipeline's ``encode_prompt`` returns, None if it has none."""
        encode = getattr(type(self.pipe), "encode_prompt", None)
        return None if encode is None else result_names(encode)

    def _call(self, encode: Any, captions: Sequence[str]) -> Inputs:
        """The arguments that the pipeline's call passes on to ``encode_prompt`` when it is given only prompts."""
        wanted = inspect.signature(encode).parameters
        defaults = inspect.signature(type(self.pipe).__call__).parameters
        call = {name: p.default for name, p in defaults.items() if name in wanted and p.default is not p.empty}
        call |= {"prompt": list(captions), "device": self.pipe.device, "num_images_per_prompt": 1}
        if call.get("clean_caption"):
            call["clean_caption"] = is_bs4_available() and is_ftfy_available()
        return call | {"do_classifier_free_guidance": "" in captions}

    def _sizes(self, noisy: Tensor, sizes: Sequence[SizeConditioning] | None) -> Inputs:
        """The arguments that the denoiser takes of the pictures' sizes and crops, (B, ...)."""
        height, width = (side * self.pipe.vae_scale_factor for side in noisy.shape[-2:])
        sizes = sizes or [SizeConditioning((height, width), (0, 0), (height, width))] * len(noisy)
        known: dict[str, list[list[float]]] = {}
        if self.uses_size_conditioning:
            known["time_ids"] = [[*one.original_size, *one.crops_coords_top_left, *one.target_size] for one in sizes]
        if getattr(self.denoiser, "use_additional_conditions", False):
            known["resolution"] = [[height, width]] * len(noisy)
            known["aspect_ratio"] = [[height / width]] * len(noisy)
        return {name: noisy.new_tensor(numbers) for name, numbers in known.items()}


def _chosen(name: str, results: dict[str, Tensor | None], empty: Tensor) -> Tensor | None:
    """A result of ``encode_prompt``, with the negative's where captions are empty (B,)."""
    positive, negative = results.get(name), results.get(f"negative_{name}")
    if positive is None or negative is None:
        return positive
    return torch.where(empty.view(-1, *[1] * (positive.ndim - 1)), negative, positive)
