"""Finding out what a picture is drawn with: content hashes of the models, the scheduler, library versions."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from llmdiff import __version__
from llmdiff.hashing import values_hash

_version = cache(version)  # which reads a file each time, as long as a step of a small model
_SAMPLES = 64  # numbers read per tensor of a base model: finds any fine-tune, and takes no time on gigabytes


def library_versions() -> dict[str, str]:
    """Versions of the libraries that take part in drawing."""
    return {"llmdiff": __version__} | {name: _version(name) for name in ("torch", "diffusers", "transformers")}


def base_hash(pipe: Any) -> str:
    """Hash of sampled weights of every model in the pipeline; take it with no adapter attached."""
    return values_hash(_weights(pipe), _SAMPLES)


def scheduler_config(pipe: Any) -> dict[str, Any]:
    """The scheduler's class name and public config."""
    config = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    return {"_class_name": type(pipe.scheduler).__name__} | config


def _weights(pipe: Any) -> Iterator[tuple[str, Tensor]]:
    for component, module in pipe.components.items():
        if isinstance(module, nn.Module):
            yield from ((f"{component}.{name}", tensor) for name, tensor in module.state_dict().items())
