"""Hashes of weights, texts and settings: what they depend on is decided here, and here alone.

They are recorded, in adapters, in pictures, in the names of cache folders and in runs, so what each function returns
for the same content must never change; the tests hold results of the first version against it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

Named = Iterable[tuple[str, Tensor]]


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def json_hash(content: Any) -> str:
    """SHA-256 of content written as JSON with its keys sorted; what JSON has no form for counts as its `str`."""
    return text_hash(json.dumps(content, sort_keys=True, default=str))


def lines_hash(rows: Iterable[Any]) -> str:
    """SHA-256 of rows written as JSON, one a line, as they come: of as many as there are, without a list of them."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def exact_hash(tensors: Named) -> str:
    """SHA-256 of tensors bit by bit, with their names, dtypes and shapes, in the order in which they come."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_hash(model: nn.Module) -> str:
    """The exact hash of every weight and buffer of a model, wherever accelerate has put it.

    Tensors of other kinds, which a quantisation has packed or FSDP divided, are left out.
    """
    return exact_hash(_weights(model))


def values_hash(tensors: Named, samples: int | None = None) -> str:
    """SHA-256 of the float32 values of tensors, with their names and shapes, whatever their dtype and order.

    Args:
        tensors: of any shape.
        samples: read only that many evenly spaced numbers of each; None reads all.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        flat = tensor.detach().flatten()
        if samples is not None and flat.numel() > samples:
            flat = flat[torch.linspace(0, flat.numel() - 1, samples, dtype=torch.float64).long().to(flat.device)]
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, part in model.named_modules():
        with align_module_device(part):
            for key, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
                if type(value) in (Tensor, nn.Parameter):
                    yield f"{name}.{key}", value
