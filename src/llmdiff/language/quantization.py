"""Language models in fewer bits, through transformers' own quantisation."""

import importlib.util
from collections.abc import Callable
from typing import Any, get_args

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from llmdiff.errors import LLMDiffError
from llmdiff.models import Quantization


def _int8(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig  # here, because it is optional

    return TorchAoConfig(Int8WeightOnlyConfig())


def _eight_bits(dtype: torch.dtype) -> Any:
    return BitsAndBytesConfig(load_in_8bit=True)


def _four_bits(dtype: torch.dtype) -> Any:
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


_WAYS: dict[str, tuple[str, Callable[[torch.dtype], Any]]] = {
    "int8": ("torchao", _int8),
    "8bit": ("bitsandbytes", _eight_bits),
    "4bit": ("bitsandbytes", _four_bits),
}


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """Returns the transformers config of a quantisation.

    Args:
        name: a `Quantization`.
        dtype: that of the computations.

    Raises:
        LLMDiffError: if there is none of that name, or the library that does it is not installed.
    """
    if name not in _WAYS:
        choice = ", ".join(get_args(Quantization))
        raise LLMDiffError(f"There is no quantisation {name!r}: choose one of {choice}.")
    library, make = _WAYS[name]
    if importlib.util.find_spec(library) is None:
        raise LLMDiffError(f"The quantisation {name} needs {library}: pip install 'llmdiff-adapter[quant]'.")
    return make(dtype)
