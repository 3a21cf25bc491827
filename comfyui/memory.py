"""Adapters and LLMs under ComfyUI's management of memory: what does not fit beside what is needed is moved away."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management as management
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.branch import Branch
from llmdiff.adapter.storage import WEIGHTS
from llmdiff.comfyui import Joint
from llmdiff.errors import LLMDiffError
from llmdiff.hashing import weights_hash
from llmdiff.language import LanguageModel

FOLDER = "llmdiff"
"""The folder of ComfyUI's models that adapters are looked for in."""
ANYWHERE = "managed by ComfyUI"


class Part(nn.Module):
    """A module in a frame of its own, on which ComfyUI keeps its notes: some modules do not let it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.device: torch.device | None = None


class LoadedLLM:
    """An LLM that ComfyUI moves to its device when it is to read, and away when the memory is needed.

    Args:
        llm: the LLM.
        managed: False to leave it where it is.
    """

    def __init__(self, llm: LanguageModel, managed: bool) -> None:
        self.llm = llm
        llm.settled = True  # ComfyUI moves weights, and nobody changes them
        self.patcher: Any = None
        if managed:
            device, home = management.text_encoder_device(), management.text_encoder_offload_device()
            self.patcher = ModelPatcher(Part(llm.model), load_device=device, offload_device=home)

    def prepare(self) -> None:
        """Has it where it runs."""
        if self.patcher is not None:
            management.load_models_gpu([self.patcher], force_full_load=True)


class LoadedAdapter:
    """An adapter with its LLM.

    Attributes:
        adapter: whose weights stay as they were read.
        made_by: tells it from others, by its weights.
    """

    def __init__(self, adapter: LLMDiffAdapter, llm: LoadedLLM) -> None:
        self.adapter, self.llm = adapter, llm
        self._parts: dict[torch.dtype, Any] = {}

    @cached_property
    def made_by(self) -> str:
        return f"{weights_hash(self.adapter)} {self.adapter.config.llm.get('fingerprint')}"

    def joint(self, model: Any) -> tuple[Joint, Any]:
        """What a ComfyUI model needs of the adapter, in its dtype, and the ``ModelPatcher`` that has it in memory."""
        dtype = model.model.manual_cast_dtype or model.model.get_dtype()
        if dtype not in self._parts:
            with torch.inference_mode(False):
                part = Part(copy.deepcopy(self.adapter.branches).to(dtype))
            device, home = model.load_device, management.unet_offload_device()
            self._parts[dtype] = ModelPatcher(part, load_device=device, offload_device=home)
        patcher = self._parts[dtype]
        modules = patcher.model.module.named_modules()
        branches = {path: module for path, module in modules if isinstance(module, Branch)}
        adapter = self.adapter
        return Joint(adapter.config, adapter.llm.width, branches, adapter.named_loras(), self.made_by), patcher


@torch.inference_mode(False)
def load_llm(name: str, dtype: str, quantization: str, device: str) -> LoadedLLM:
    """An LLM by the name that `LanguageModel.load` takes.

    Args:
        name: "embedded", a folder, a GGUF file or a Hub id.
        dtype: of its weights.
        quantization: "none" or that of `LanguageModel.load`.
        device: `ANYWHERE` or "cpu".
    """
    kind = None if quantization == "none" else quantization
    place = management.text_encoder_device() if kind and device == ANYWHERE else "cpu"
    llm = LanguageModel.load(name, dtype=getattr(torch, dtype), device=place, quantization=kind)
    return LoadedLLM(llm, managed=kind is None and device == ANYWHERE)


@torch.inference_mode(False)
def load_adapter(name: str, llm: LoadedLLM | None) -> LoadedAdapter:
    """An adapter from ``models/llmdiff``, another folder or the Hub; its own LLM is loaded if none is given."""
    if not name.strip():
        raise LLMDiffError("Name an adapter: a folder in models/llmdiff, any other folder, or a Hub id.")
    adapter = LLMDiffAdapter.from_pretrained(_place(name), llm=None if llm is None else llm.llm)
    return LoadedAdapter(adapter, llm or LoadedLLM(adapter.llm, managed=adapter.llm.quantization is None))


def changed_at(name: str) -> int:
    """The time of the last change of an adapter in a folder, in nanoseconds; 0 of one that is not here."""
    weights = Path(_place(name)) / WEIGHTS
    return weights.stat().st_mtime_ns if weights.is_file() else 0


def _place(name: str) -> str:
    """The folder of ``models/llmdiff`` that has a name, or else what is named."""
    name = name.strip()
    inside = [Path(root) / name for root in folder_paths.get_folder_paths(FOLDER)]
    return next((str(path) for path in inside if path.is_dir()), name)


def register_folder() -> None:
    """Has ComfyUI know the folder of adapters, also for its ``extra_model_paths.yaml``."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
