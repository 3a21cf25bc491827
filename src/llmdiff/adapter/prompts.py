"""Reads the prompts of a pipeline call: what stands in for ``pipe.encode_prompt`` while an adapter is attached.

Letters in shapes: B images, S text tokens, W width of the denoiser's text features, P width of its pooled text vector.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

if TYPE_CHECKING:
    from llmdiff.adapter.model import LLMDiffAdapter

NAME = "encode_prompt"
# What encode_prompt returns besides text features, and in which order, by a parameter that tells its kind.
RESULTS = {
    "pooled_prompt_embeds": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
    "prompt_attention_mask": (
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
    "prompt": ("prompt_embeds", "negative_prompt_embeds"),
}


def result_names(encode_prompt: Callable[..., Any]) -> tuple[str, ...]:
    """Names of what a pipeline's ``encode_prompt`` returns, in their order."""
    parameters = inspect.signature(encode_prompt).parameters
    return next((names for kind, names in RESULTS.items() if kind in parameters), RESULTS["prompt"])


class PromptReader:
    """Called by a pipeline in place of its ``encode_prompt``, with the same arguments and the same result.

    It encodes the prompts with the LLM and binds them for the denoiser calls that follow. In augment mode the result is
    that of the original, untouched; in replace mode the original is not called, and the text features are φ(c) (and the
    pooled vector the head's).

    Args:
        adapter: the adapter that is attached.
        original: the pipeline's own.
        overridden: whether that was an attribute of the instance already, and not a method of its class.
    """

    def __init__(self, adapter: "LLMDiffAdapter", original: Callable[..., Any], overridden: bool) -> None:
        self.adapter = adapter
        self.original = original
        self.overridden = overridden
        functools.update_wrapper(self, original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.adapter.idle:
            self.adapter.release()
            return self.original(*args, **kwargs)
        call = inspect.signature(self.original).bind(*args, **kwargs)
        call.apply_defaults()
        replace = self.adapter.config.mode == "replace"
        if replace:
            _refuse_second_prompt(call.arguments)
        positive, negative = self._encode(call.arguments)
        self.adapter.bind(positive, negative)
        if not replace:
            return self.original(*args, **kwargs)
        inputs = self._inputs("", positive, call.arguments.get("device"))
        if negative is not None:
            inputs |= self._inputs("negative_", negative, call.arguments.get("device"))
        return tuple(inputs.get(name) for name in result_names(self.original))

    def _encode(self, arguments: dict[str, Any]) -> tuple[Encoding, Encoding | None]:
        """The encodings of prompts and negative prompts, one per image."""
        prompts = _prompts(arguments)
        negatives = _negative_prompts(arguments, len(prompts))
        images = arguments.get("num_images_per_prompt") or 1
        both = self.adapter.encode([*prompts, *negatives]).repeat_interleave(images)
        count = len(prompts) * images
        positive = Encoding(both.embeds[:count], both.mask[:count])
        return positive, Encoding(both.embeds[count:], both.mask[count:]) if negatives else None

    @torch.no_grad()
    def _inputs(self, prefix: str, encoding: Encoding, device: torch.device | None) -> dict[str, Tensor | None]:
        """Text features (B, S, W), their mask (B, S) and the pooled vector (B, P), if any, by the pipeline's names.

        They are on the pipeline's device and in the denoiser's dtype. The denoiser itself gets its own from the
        binding; these are for all else that a pipeline does with them.
        """
        denoiser: Any = self.adapter.denoiser
        device = device or denoiser.device
        text = self.adapter.stand_in(encoding).to(device, denoiser.dtype)
        return {
            f"{prefix}prompt_embeds": text.features,
            f"{prefix}prompt_attention_mask": encoding.mask.to(device).long(),
            f"{prefix}pooled_prompt_embeds": text.pooled,
        }


def install(pipe: Any, adapter: "LLMDiffAdapter") -> None:
    """Puts a reader on this one pipeline.

    Raises:
        LLMDiffError: if the pipeline has no ``encode_prompt``.
    """
    original = getattr(pipe, NAME, None)
    if original is None:
        raise LLMDiffError(f"{type(pipe).__name__} has no encode_prompt, through which an adapter gets its prompts.")
    setattr(pipe, NAME, PromptReader(adapter, original, NAME in vars(pipe)))


def uninstall(pipe: Any) -> None:
    """Gives the pipeline its own ``encode_prompt`` back.

    Raises:
        LLMDiffError: if something else has wrapped the reader since.
    """
    reader = vars(pipe).get(NAME)
    if not isinstance(reader, PromptReader):
        raise LLMDiffError("The pipeline's encode_prompt was replaced after attach: undo that before detaching.")
    delattr(pipe, NAME)
    if reader.overridden:
        setattr(pipe, NAME, reader.original)


def _refuse_second_prompt(arguments: dict[str, Any]) -> None:
    for name in ("prompt", "negative_prompt"):
        second = arguments.get(f"{name}_2")
        if second is not None and second != arguments.get(name):
            raise LLMDiffError(f"In replace mode there is no second text encoder to read {name}_2: leave it out.")


def _prompts(arguments: dict[str, Any]) -> list[str]:
    if arguments.get("prompt") is None:
        raise LLMDiffError(
            "The attached adapter reads the prompt's text and got prompt_embeds without it: pass prompt, or detach the "
            "adapter."
        )
    return _as_list(arguments["prompt"])


def _negative_prompts(arguments: dict[str, Any], count: int) -> list[str]:
    """One negative prompt per prompt, or none without guidance."""
    if not arguments.get("do_classifier_free_guidance", True):
        return []
    negative = arguments.get("negative_prompt")
    if negative is None and arguments.get("negative_prompt_embeds") is not None:
        raise LLMDiffError(
            "The attached adapter reads the negative prompt's text and got negative_prompt_embeds without it: pass "
            "negative_prompt, or detach the adapter."
        )
    negatives = [negative or ""] * count if negative is None or isinstance(negative, str) else _as_list(negative)
    if len(negatives) != count:
        raise LLMDiffError(f"There are {len(negatives)} negative prompts for {count} prompts: give one for each.")
    return negatives


def _as_list(prompts: str | Sequence[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else list(prompts)
