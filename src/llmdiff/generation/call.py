"""The call of a base model's pipeline for pictures of a kind: the size it draws at and the arguments of its family."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import PixArtImageProcessor

from llmdiff.errors import LLMDiffError
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.watch import Watch

_ENDLESS = 1_000_000  # tokenizers without a limit state a huge one
_FALLBACK = 512  # pixels
_BINNED = (256, 512, 1024, 2048, 4096)  # sides in pixels for which PixArt and Sana have lists of sizes


def default_size(pipe: Any) -> tuple[int, int]:
    """Width and height in pixels that a base model was trained for; what its call takes where its config is silent.

    Raises:
        LLMDiffError: its config has none that a picture can have.
    """
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    sample = denoiser.config.get("sample_size")
    if sample is None:
        call = _parameters(pipe)
        width, height = (getattr(call.get(side), "default", None) for side in ("width", "height"))
        return (width, height) if isinstance(width, int) and isinstance(height, int) else (_FALLBACK, _FALLBACK)
    height, width = sample if isinstance(sample, list | tuple) and len(sample) == 2 else (sample, sample)
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise LLMDiffError(
            f"The base model's config has the sample_size {str(sample)[:60]!r}, which no picture has: fetch it again."
        )
    factor, step = getattr(pipe, "vae_scale_factor", 8), _side_step(pipe)
    return -(-width * factor // step) * step, -(-height * factor // step) * step


def call_arguments(pipe: Any, pictures: Sequence[PictureSettings], watch: Watch) -> dict[str, Any]:
    """The arguments of a pipeline's call, of those that it has; its pictures will be arrays of numbers from 0 to 1.

    A picture of several texts is a row for each, with the same noise.

    Of several pictures all settings but prompts and seeds are the same, see `kind`.

    PixArt and Sana draw at the nearest size that they were trained on and cut and scale the picture to the size asked
    for, as in a plain call; Hunyuan-DiT, which would give the picture of another size, draws at the size asked for
    [choice].

    Raises:
        LLMDiffError: There is a negative prompt and the pipeline takes none.
    """
    known, settings = _parameters(pipe), pictures[0]
    if any(one.negative for one in pictures) and "negative_prompt" not in known:
        raise LLMDiffError(f"{type(pipe).__name__} takes no negative prompt: leave --negative out.")
    arguments: dict[str, Any] = {
        "prompt": _one_or_all([text for one in pictures for text in one.texts]),
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "width": settings.width,
        "height": settings.height,
        "generator": _one_or_all([torch.Generator("cpu").manual_seed(one.seed) for one in pictures for _ in one.texts]),
        "output_type": "np",  # pictures of diffusers' own show black where a number is not finite
    }
    if settings.negative:  # the default of the call is None in some families and empty in others, which take no None
        arguments["negative_prompt"] = _one_or_all([one.negative for one in pictures for _ in one.texts])
    if not _has_bins(pipe):
        arguments["use_resolution_binning"] = False
    if settings.steps != 2:
        arguments["intermediate_timesteps"] = None  # of Sana-Sprint, which has one for two steps alone
    arguments |= _callback(known, settings.steps, watch)
    return {name: value for name, value in arguments.items() if name in known}


def kind(settings: PictureSettings) -> tuple[Any, ...]:
    """What pictures must have in common to be drawn in one call."""
    common = settings.model_dump(exclude={"prompt", "negative", "seed", "rewriting"})
    return (*common.values(), bool(settings.negative), len(settings.texts))


@dataclass(frozen=True)
class BaseReading:
    """How much of a prompt a base model's own text encoder reads.

    Attributes:
        count: tokens of the prompt, with those around it.
        limit: how many are read.
        lost: the first words that are not read; empty if all are.
    """

    count: int
    limit: int
    lost: str = ""


def base_reading(tokenizer: Any, limit: int | None, prompt: str) -> BaseReading | None:
    """How much of a prompt a base model's own text encoder reads; None of one that has no limit.

    Args:
        tokenizer: that of the pipeline.
        limit: as `text_limit` gives it.
        prompt: the prompt.
    """
    if tokenizer is None or limit is None:
        return None
    coded = tokenizer(prompt, truncation=False, verbose=False, return_offsets_mapping=tokenizer.is_fast)
    ids, cut = coded["input_ids"], slice(limit - 1, limit + 11)  # the last one that is read ends the text
    if len(ids) <= limit:
        return BaseReading(len(ids), limit)
    if tokenizer.is_fast:
        places = [place for span in coded["offset_mapping"][cut] for place in span if span[0] < span[1]]
        lost = prompt[min(places) : max(places)] if places else ""
    else:
        lost = tokenizer.decode(ids[cut], skip_special_tokens=True)
    return BaseReading(len(ids), limit, " ".join(lost.split()))


def text_limit(pipe: Any) -> int | None:
    """How many tokens a base model's own text encoder reads; None if there is no limit."""
    lengths = [getattr(getattr(pipe, "tokenizer", None), "model_max_length", _ENDLESS)]
    if (longest := _parameters(pipe).get("max_sequence_length")) is not None:
        lengths += [longest.default] if isinstance(longest.default, int) else []
    limit = min(lengths)
    return None if limit >= _ENDLESS else limit


def warn_if_cut(pipe: Any, prompt: str) -> None:
    """Warns if a base model's own text encoder cuts a prompt, which it does without a word."""
    found = base_reading(getattr(pipe, "tokenizer", None), text_limit(pipe), prompt)
    if found is not None and found.count > found.limit:
        warnings.warn(
            f"The base model reads {found.limit} tokens of a prompt and this one has {found.count}: "
            f"it was cut from {found.lost!r} on.",
            stacklevel=3,
        )


def _one_or_all(values: list[Any]) -> Any:
    """A single value as it is, with which a pipeline is called for one picture."""
    return values[0] if len(values) == 1 else values


def _callback(known: Mapping[str, Any], steps: int, watch: Watch) -> dict[str, Any]:
    """How a pipeline reports its steps: each in its own way, some not at all."""

    def report(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        watch.note((step + 1) / (getattr(pipe, "num_timesteps", None) or steps), tensors.get("latents"))
        return tensors

    def report_old(step: int, timestep: Any, latents: Any) -> None:
        watch.note((step + 1) / steps, latents)

    if "callback_on_step_end" in known:
        return {"callback_on_step_end": report}
    return {"callback": report_old}


def _has_bins(pipe: Any) -> bool:
    """Whether a pipeline has a list of the sizes that it was trained on, and gives back the size asked for."""
    return isinstance(getattr(pipe, "image_processor", None), PixArtImageProcessor) and default_size(pipe)[0] in _BINNED


def _side_step(pipe: Any) -> int:
    """Of what number of pixels the sides of a picture must be multiples."""
    return 32 if type(pipe).__name__.startswith("Sana") else 8


def _parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(type(pipe).__call__).parameters
