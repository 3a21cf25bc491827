"""Hashes of weights, texts and settings: what they depend on is decided here, and here alone.

They are recorded, in adapters, in pictures, in the names of cache folders and in runs, so what each function returns
for the same content must never change; the tests hold results of the first version against it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

Named = Iterable[tuple[str, Tensor]]

_ROW = 8192  # bytes
_ROWS_AT_ONCE = 128


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


class WeightsHashes(NamedTuple):
    """Hashes of a model, see `weights_hashes`.

    Attributes:
        whole: of weights, buffers and constants; the same on one machine with one version of the libraries.
        parameters: of the weights alone, which are the same everywhere, while buffers are computed anew.
    """

    whole: str
    parameters: str


def weights_hash(model: nn.Module) -> str:
    """The hash of a whole model, see `weights_hashes`."""
    return weights_hashes(model).whole


def weights_hashes(model: nn.Module) -> WeightsHashes:
    """Hashes of every bit of every weight and buffer of a model, wherever accelerate has put it, and of its constants.

    Of each tensor, the sums of its rows and of its columns are hashed, of 8 bytes as a whole number: they are made as
    fast as memory is read, on any device, so that a model can be looked at before each use. A change of one number,
    an exchange of two numbers or rows, is another hash; a forger could do better. Constants are numbers that modules
    have as attributes: the epsilon of a norm, the scale of an attention.
    """
    whole, parameters = hashlib.sha256(), hashlib.sha256()
    for name, part in model.named_modules():
        constants = sorted((key, value) for key, value in vars(part).items() if type(value) is float)
        whole.update(f"{name} {constants}".encode())
        with align_module_device(part):
            weights = list(part.named_parameters(recurse=False))
            for n, (key, value) in enumerate((*weights, *part.named_buffers(recurse=False))):
                for kind, tensor in _plain(key, value):
                    content = f"{kind} {tensor.dtype} {tuple(tensor.shape)}".encode() + _sums(tensor)
                    whole.update(content)
                    if n < len(weights):
                        parameters.update(f"{name}.".encode() + content)
    return WeightsHashes(whole.hexdigest(), parameters.hexdigest())


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


def is_divided(model: nn.Module) -> bool:
    """True if FSDP has divided a model's weights among processes."""
    return any(hasattr(weight, "full_tensor") for weight in model.parameters())


def _plain(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor as it is, or those that a quantisation has packed into it: torchao's parts, bitsandbytes' scales."""
    if type(value) in (Tensor, nn.Parameter):
        yield name, value.detach()
    elif hasattr(value, "__tensor_flatten__"):
        for part in value.__tensor_flatten__()[0]:
            yield from _plain(f"{name}.{part}", getattr(value, part))
    else:
        yield name, value.data.as_subclass(Tensor)
        scales = getattr(getattr(value, "quant_state", None), "absmax", None)
        if scales is not None:
            yield f"{name}.absmax", scales


def _sums(tensor: Tensor) -> bytes:
    """The sums of a tensor's rows of 8 kB and of their columns, and what is too short for one."""
    whole = tensor.contiguous().reshape(-1).view(torch.uint8)
    rows, rest = whole[: len(whole) - len(whole) % _ROW], whole[len(whole) - len(whole) % _ROW :]
    if not len(rows):
        return _bytes(rest)
    words = (rows.clone() if rows.storage_offset() % 8 else rows).view(torch.int64).view(-1, _ROW // 8)
    parts = words.split(_ROWS_AT_ONCE) if tensor.device.type == "cpu" else (words,)  # as much as a processor's cache
    columns = sum((part.sum(0) for part in parts), torch.zeros_like(words[0]))
    return b"".join(map(_bytes, (columns, *(part.sum(1) for part in parts), rest)))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes()
