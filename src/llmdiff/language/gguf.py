"""GGUF files: llama.cpp's format of quantised language models, read by dequantising them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, modeling_gguf_pytorch_utils

SUFFIX = ".gguf"


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, list[str]]:
    """The model in a GGUF file, its weights dequantised to a dtype, and the names of the weights that it lacks."""
    with _without_bar():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            output_loading_info=True,
        )
    return loaded[0], loaded[1]["missing_keys"]


def convert(path: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer into a folder, as float16 safetensors and tokenizer.json."""
    load_gguf(path, torch.float16)[0].save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)


@contextmanager
def _without_bar() -> Iterator[None]:
    """Within this context the dequantising shows no bar, which transformers gives no setting for."""
    silent = partial(modeling_gguf_pytorch_utils.tqdm, disable=True)
    with mock.patch.object(modeling_gguf_pytorch_utils, "tqdm", silent):
        yield
