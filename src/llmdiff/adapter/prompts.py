"""Reads the prompts of a pipeline call: what stands in for ``pipe.encode_prompt`` while an adapter is attached."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

if TYPE_CHECKING:
    from llmdiff.adapter.model import LLMDiffAdapter

NAME = "encode_prompt"


class PromptReader:
    """Called by a pipeline in place of its ``encode_prompt``, with the same arguments and the same result.

    It encodes the prompts with the LLM and binds them for the denoiser calls that follow. In augment mode the result is
    that of the original, untouched; in replace mode the original is not called, and the text features are φ(c).

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
        positive, negative = self._encode(call.arguments)
        self.adapter.bind(positive, negative)
        if self.adapter.config.mode == "augment":
            return self.original(*args, **kwargs)
        return self._project(positive, negative, call.arguments.get("device"))

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
    def _project(
        self, positive: Encoding, negative: Encoding | None, device: torch.device | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """φ(c) of both at one length, (B, S, C), on the pipeline's device and in the denoiser's dtype."""
        target: Any = self.adapter.denoiser
        place = {"device": device or target.device, "dtype": target.dtype}
        projected = self.adapter.context(positive).to(**place)
        return projected, None if negative is None else self.adapter.context(negative).to(**place)


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
