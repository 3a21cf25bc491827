"""GGUF files: llama.cpp's format of quantised language models, dequantised at loading."""

import struct
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from llmdiff.declared_sizes import Held
from llmdiff.language.transformers_internals import obey_progress_bar_setting

SUFFIX = ".gguf"


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, list[str]]:
    """Returns the model in a GGUF file, its weights dequantised to a dtype, and the names of the weights it lacks."""
    obey_progress_bar_setting()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=dtype,
        output_loading_info=True,
    )
    return loaded[0], loaded[1]["missing_keys"]


def held_by(path: Path) -> Held:
    """What a GGUF file holds at most: as many tensors as it says, and a weight in each of its bits."""
    with path.open("rb") as file:
        _magic, _version, tensors = struct.unpack("<4sIQ", file.read(16))
    size = path.stat().st_size
    return Held(min(tensors, size), 8 * size)


def convert(path: Path, folder: Path) -> None:
    """Writes a GGUF file's model and tokenizer into a folder, as float16 safetensors and tokenizer.json."""
    load_gguf(path, torch.float16)[0].save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
