"""Finding out what a picture is drawn with: content hashes of the models, the scheduler, library versions."""

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff import __version__

_SAMPLES = 64  # numbers read per tensor of a base model: finds any fine-tune, and takes no time on gigabytes


def library_versions() -> dict[str, str]:
    """Versions of the libraries that take part in drawing."""
    return {"llmdiff": __version__} | {name: version(name) for name in ("torch", "diffusers", "transformers")}


def content_hash(tensors: Iterable[tuple[str, Tensor]], samples: int | None = None) -> str:
    """SHA-256 over names, shapes and float32 values of tensors of any shape.

    Args:
        tensors: (name, tensor) pairs; their order does not matter.
        samples: read only that many evenly spaced numbers per tensor; None reads all.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        flat = tensor.detach().flatten()
        if samples is not None and flat.numel() > samples:
            flat = flat[torch.linspace(0, flat.numel() - 1, samples, dtype=torch.float64).long().to(flat.device)]
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def base_hash(pipe: Any) -> str:
    """Hash of sampled weights of every model in the pipeline; take it with no adapter attached."""
    return content_hash(_weights(pipe), _SAMPLES)


def scheduler_config(pipe: Any) -> dict[str, Any]:
    """The scheduler's class name and public config."""
    config = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    return {"_class_name": type(pipe.scheduler).__name__} | config


def _weights(pipe: Any) -> Iterator[tuple[str, Tensor]]:
    for component, module in pipe.components.items():
        if isinstance(module, nn.Module):
            yield from ((f"{component}.{name}", tensor) for name, tensor in module.state_dict().items())
