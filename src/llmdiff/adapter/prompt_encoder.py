"""The prompts of a pipeline call: what takes the place of ``pipe.encode_prompt`` while an adapter is attached.

Letters in shapes: B prompts, n images per prompt, T tokens of the text features, W their width, S tokens of the
encoding, E width of the encoding.
"""

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from llmdiff.adapter.conditioning import TEXT_TOKENS, Text, join, mask_of, split, vectors_per_token
from llmdiff.adapter.config import AdapterConfig
from llmdiff.adapter.hooks import Conditioner
from llmdiff.base.diffusers_internals import result_names
from llmdiff.base.layers import has_denoiser
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, emphasis

POSITIVE, NEGATIVE = "", "negative_"
PROMPTS = ("prompt", "negative_prompt")
ENCODE_PROMPT = "encode_prompt"
GUIDANCE = ("do_classifier_free_guidance", "prepare_unconditional_embeds")
"""What pipelines, and the blocks of modular ones, call the argument that asks for negative prompts."""
_ONE_AT_A_TIME = threading.RLock()
"""Pipelines in several threads share tokenizers, which keep settings of a call."""
_NOT_MADE_HERE = (
    "These {name} were not made by this pipeline's encode_prompt, and the attached adapter replaces the text encoder "
    "that made them: pass the {text} as text, or take {name} from encode_prompt of the attached pipeline."
)
_NOT_READ = (
    "The LLM did not read these {name}, since they carry no encoding: the base model's own text encoder alone "
    "conditions them. Pass the {text} as text, or take {name} from encode_prompt of the attached pipeline."
)


class _Attachment(Protocol):
    """The part of an attachment that its prompt encoders use."""

    adapter: Any
    conditioner: Conditioner
    denoiser: Any

    @property
    def removed(self) -> bool: ...

    def check(self, pipe: Any) -> None: ...


class PromptEncoder:
    """Called by a pipeline in place of its ``encode_prompt``, with the same arguments and the same results.

    The text features that it returns carry the LLM's encoding of their prompt behind them, see
    `llmdiff.adapter.conditioning`. In augment mode all else is the original's result; in replace mode the original is
    not called, the text features are φ(c), and the pooled vector is the head's. Text features that were made here may
    be passed as ``prompt_embeds``.

    Args:
        attachment: of the adapter.
        pipe: the pipeline.
        original: its own ``encode_prompt``.
        overridden: True if that was an attribute of the instance already, and not a method of its class.

    Raises:
        LLMDiffError: if the original's results do not say which of them are text features.
    """

    def __init__(self, attachment: _Attachment, pipe: Any, original: Callable[..., Any], overridden: bool) -> None:
        self.attachment, self.pipe = attachment, pipe
        self.original, self.overridden = original, overridden
        self.results = result_names(original)
        if "prompt_embeds" not in self.results:
            kind = type(pipe).__name__
            raise LLMDiffError(f"The encode_prompt of {kind} returns no prompt_embeds that could carry an encoding.")
        functools.update_wrapper(self, original, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _ONE_AT_A_TIME:
            return self._encode_prompt(*args, **kwargs)

    def _encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        if self.attachment.removed:  # of a shallow copy of a pipeline that the adapter has left
            return self.original(*args, **kwargs)
        self.attachment.check(self.pipe)
        call = inspect.signature(self.original).bind(*args, **kwargs)
        call.apply_defaults()
        arguments = call.arguments
        if arguments.get("text_encoder_index"):  # of a second encoder, whose features the layers do not read
            return self.original(*args, **kwargs)
        prompts = {name: arguments.get(name) for name in PROMPTS}
        given = {sign: self._taken_apart(arguments, sign) for sign in (POSITIVE, NEGATIVE)}
        if self.adapter.prompt_weights:
            _strip_weights(arguments)
        if not self.attachment.conditioner.enabled:
            return self.original(*call.args, **call.kwargs)
        if self.config.mode == "replace":
            _refuse_second_prompt(arguments)
            return self._replaced(arguments, self._encodings(arguments, prompts, given))
        return self._augmented(call, self._encodings(arguments, prompts, given))

    @property
    def adapter(self) -> Any:
        """The adapter's weights."""
        return self.attachment.adapter

    @property
    def config(self) -> AdapterConfig:
        """The adapter's config."""
        return self.attachment.adapter.config

    def _taken_apart(self, arguments: dict[str, Any], sign: str) -> Encoding | None:
        """The encoding (B, S, E) that given text features carry; they are left without it."""
        name = f"{sign}prompt_embeds"
        joined = arguments.get(name)
        if joined is None:
            return None
        width, encoding_width = self.attachment.conditioner.text_width, self.attachment.conditioner.encoding_width
        arguments[name], embeds = split(joined, width, encoding_width)
        if embeds is not None:
            return Encoding(embeds, mask_of(embeds))
        conditioner = self.attachment.conditioner
        if self.config.mode == "replace" and conditioner.enabled:
            raise LLMDiffError(_NOT_MADE_HERE.format(name=name, text=f"{sign}prompt"))
        if not conditioner.idle:
            warnings.warn(_NOT_READ.format(name=name, text=f"{sign}prompt"), stacklevel=5)
        return Encoding(
            joined.new_zeros(len(joined), 1, encoding_width), joined.new_zeros(len(joined), 1, dtype=torch.bool)
        )

    def _augmented(self, call: inspect.BoundArguments, encodings: dict[str, Encoding]) -> Any:
        """The original's results, with the encodings behind its text features."""
        returned = self.original(*call.args, **call.kwargs)
        results = list(returned) if isinstance(returned, tuple) else [returned]
        places = {sign: self.results.index(f"{sign}prompt_embeds") for sign in encodings}
        places = {sign: place for sign, place in places.items() if results[place] is not None}
        per_token = _common_size(encodings, max(results[place].shape[1] for place in places.values()))
        for sign, place in places.items():
            results[place] = join(results[place], encodings[sign], per_token)
        return tuple(results) if isinstance(returned, tuple) else results[0]

    @torch.no_grad()
    def _replaced(self, arguments: dict[str, Any], encodings: dict[str, Encoding]) -> Any:
        """The original's results, made of φ(c) and the pooled head."""
        denoiser = self.attachment.denoiser
        device = (arguments.get("device") if has_denoiser(self.pipe) else None) or denoiser.device
        dtype = denoiser.dtype
        named: dict[str, Tensor | None] = {}
        length = max(self._text_tokens(arguments, sign, encoding) for sign, encoding in encodings.items())
        for sign, encoding in encodings.items():
            text = self._text(arguments, sign, encoding, length).to(device, dtype)
            joined = join(text.prompt_embeds, encoding, _common_size(encodings, length))
            named[f"{sign}prompt_embeds"] = joined
            named[f"{sign}prompt_attention_mask"] = mask_of(joined[..., text.prompt_embeds.shape[-1] :]).long()
            named[f"{sign}pooled_prompt_embeds"] = text.pooled_prompt_embeds
        results = tuple(named.get(name) for name in self.results)
        return results if len(results) > 1 else results[0]

    def _text(self, arguments: dict[str, Any], sign: str, encoding: Encoding, length: int) -> Text:
        """φ(c) and the pooled vector of (B · n) rows: those that were given, or the adapter's."""
        features, pooled = (arguments.get(f"{sign}{name}") for name in ("prompt_embeds", "pooled_prompt_embeds"))
        if features is None:
            return self.adapter.text(encoding.pad(length))
        images = _pictures_per_prompt(arguments)
        pooled = None if pooled is None else pooled.repeat_interleave(images, 0)
        return Text(features.repeat_interleave(images, 0), pooled)

    def _text_tokens(self, arguments: dict[str, Any], sign: str, encoding: Encoding) -> int:
        """T of replace mode: a multiple of what CLIP pads to, so that prompts can be encoded apart and put together."""
        given = arguments.get(f"{sign}prompt_embeds")
        return TEXT_TOKENS * -(-encoding.embeds.shape[1] // TEXT_TOKENS) if given is None else given.shape[1]

    def _encodings(
        self, arguments: dict[str, Any], prompts: dict[str, Any], given: dict[str, Encoding | None]
    ) -> dict[str, Encoding]:
        """The encodings of prompts and, under guidance, negative prompts: (B · n, S, E) by their sign."""
        images = _pictures_per_prompt(arguments)
        positive = given[POSITIVE]
        if positive is None:
            if prompts["prompt"] is None:
                raise LLMDiffError("There is neither a prompt nor prompt_embeds to encode: give one of them.")
            positive = self.adapter.encode(_as_list(prompts["prompt"]))
        encodings = {POSITIVE: positive.repeat_interleave(images)}
        if "negative_prompt_embeds" in self.results and all(arguments.get(name, True) for name in GUIDANCE):
            negative = given[NEGATIVE]
            if negative is None:
                negative = self.adapter.encode(_negative_prompts(prompts["negative_prompt"], len(positive)))
            encodings[NEGATIVE] = negative.repeat_interleave(images)
        return encodings


def _common_size(encodings: dict[str, Encoding], tokens: int) -> int:
    """m with which each encoding fits behind so many tokens."""
    return max(vectors_per_token(one.embeds.shape[1], tokens) for one in encodings.values())


def _refuse_second_prompt(arguments: dict[str, Any]) -> None:
    for name in PROMPTS:
        second = arguments.get(f"{name}_2")
        if second is not None and second != arguments.get(name):
            raise LLMDiffError(f"In replace mode there is no second text encoder to read {name}_2: leave it out.")


def _strip_weights(arguments: dict[str, Any]) -> None:
    """Leaves the original text encoders the prompts without the weights that the LLM's encoding has."""
    for name, value in arguments.items():
        if name.startswith(PROMPTS) and isinstance(value, str):
            arguments[name] = emphasis.plain(value)
        elif name.startswith(PROMPTS) and isinstance(value, list | tuple):
            arguments[name] = [emphasis.plain(one) if isinstance(one, str) else one for one in value]


def _negative_prompts(negative: Any, count: int) -> list[str]:
    """One negative prompt per prompt."""
    negatives = [negative or ""] * count if negative is None or isinstance(negative, str) else _as_list(negative)
    if len(negatives) != count:
        raise LLMDiffError(f"There are {len(negatives)} negative prompts for {count} prompts: give one for each.")
    return negatives


def _pictures_per_prompt(arguments: dict[str, Any]) -> int:
    """n, which goes by another name in pipelines of videos."""
    return arguments.get("num_images_per_prompt") or arguments.get("num_videos_per_prompt") or 1


def _as_list(prompts: str | Sequence[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else list(prompts)
