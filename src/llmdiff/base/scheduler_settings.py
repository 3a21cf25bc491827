"""Settings of schedulers in files that anybody may have written: a scheduler takes any, and fails as it draws."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin

from llmdiff.errors import LLMDiffError
from llmdiff.sources import LOADING_FAULTS, reason
from llmdiff.structured_text import read_json

_FILE = "scheduler_config.json"
_LARGEST = 100_000  # of a number, and the number of betas
_LONGEST = 100  # characters of a text
_SHOWN = 40  # characters
_STEPS = 4  # of the trial
_CHANNELS = 3  # of the trial's latents, as many as one with a learned variance takes
_ANY = (-math.inf, math.inf)
_LEAST_SIGNAL = 0.5  # of a picture, after the first step to noise
_TABLES = {"timesteps": _ANY, "sigmas": _ANY, "betas": (0, 1), "alphas_cumprod": (-1e-3, 1 + 1e-3)}
"""The tables of schedulers, with the least and the largest number in them, up to rounding."""


def check_scheduler(folder: Path, kind: type[SchedulerMixin]) -> None:
    """Looks at the scheduler's file in a folder of a base model before it is used.

    Args:
        folder: of the scheduler.
        kind: the class that it is loaded as.

    Raises:
        LLMDiffError: There is none, or a setting in it is none that such a scheduler works with.
    """
    file = folder / _FILE
    if (found := faulty_setting(kind, read_json(file))) is not None:
        key, why = found
        raise LLMDiffError(
            f"The setting {key} in {str(file)!r} is none that a {kind.__name__} works with ({why}): fetch the file "
            "again."
        )


def faulty_setting(kind: type[SchedulerMixin], config: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first setting that a scheduler cannot have, and why; None where it draws with all of them.

    A value must be of the kind of its default, and no larger than any. Then some steps are tried: if they fail, it is
    the setting without which they do not. A scheduler that fails in all of its defaults is not tried, for it needs more
    than a pipeline gives it here.

    Args:
        kind: class of the scheduler.
        config: all that a file says; what the class does not know is left out.

    Example:
        >>> from diffusers import DDIMScheduler
        >>> faulty_setting(DDIMScheduler, {"beta_schedule": "linear", "steps_offset": 10**6})
        ('steps_offset', 'it is 1000000')
    """
    if not isinstance(name := config.get("_class_name", ""), str):
        return "_class_name", f"it is {_shown(name)}"
    known = inspect.signature(kind).parameters
    settings = {key: value for key, value in config.items() if key in known}
    for key, value in settings.items():
        if value is not None and not _is_plausible(value, known[key].default):
            return key, f"it is {_shown(value)}"
    if (why := _failure(kind, settings)) is None or _failure(kind, {}) is not None:
        return None
    for key in settings:
        if _failure(kind, {other: value for other, value in settings.items() if other != key}) is None:
            return key, why
    rest = dict(settings)
    while _failure(kind, rest) is not None:
        key, _ = rest.popitem()
    return key, why


def _is_plausible(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return value in (0, 1)
    if isinstance(value, bool):
        return default is None
    if isinstance(value, list):
        return len(value) <= _LARGEST and all(not isinstance(one, list) and _is_plausible(one, None) for one in value)
    if isinstance(value, int | float):
        return not isinstance(default, str) and (value == default or abs(value) <= _LARGEST)  # nor is nan
    return isinstance(value, str) and len(value) <= _LONGEST and not isinstance(default, int | float)


def failure_in(steps: int, scheduler: Any) -> str | None:
    """What goes wrong where a scheduler makes so many steps, on numbers of its own; None if nothing does."""
    return _failure(type(scheduler), scheduler.config, steps)


def _failure(kind: type[SchedulerMixin], settings: Mapping[str, Any], steps: int = _STEPS) -> str | None:
    """What goes wrong in the steps of a scheduler; None if nothing does."""
    try:
        with torch.random.fork_rng(devices=[]):
            return _odd_numbers(_tried(kind, settings, steps))
    except LOADING_FAULTS as error:
        return reason(error)[:_LONGEST]


def _tried(kind: Any, settings: Mapping[str, Any], steps: int) -> Any:
    """A scheduler that has made some steps, as many as it knows at most."""
    scheduler = kind.from_config(dict(settings))
    count = min(steps, scheduler.config.get("num_train_timesteps", steps))
    takes_shift = (
        scheduler.config.get("use_dynamic_shifting") and "mu" in inspect.signature(kind.set_timesteps).parameters
    )
    scheduler.set_timesteps(count, **({"mu": 1.0} if takes_shift else {}))
    sample = torch.ones(1, _CHANNELS, 2, 2)
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    output = torch.zeros(1, 2 * _CHANNELS if learned else _CHANNELS, 2, 2)
    for t in scheduler.timesteps:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(sample, t)
        sample = scheduler.step(output, t, sample).prev_sample
    return scheduler


def _odd_numbers(scheduler: Any) -> str | None:
    """What its tables say that no noise schedule can."""
    for name, (least, most) in _TABLES.items():
        table = getattr(scheduler, name, None)
        if isinstance(table, torch.Tensor) and table.numel():
            if not table.isfinite().all():
                return f"its {name} are not finite"
            if table.min() < least or table.max() > most:
                return f"its {name} go from {table.min():.3g} to {table.max():.3g}"
            if name == "alphas_cumprod" and table.max() < _LEAST_SIGNAL:
                return f"no more than {table.max():.3g} of a picture is left after the first step to noise"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
