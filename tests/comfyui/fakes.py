"""As much of ComfyUI's interface as the node pack needs to say what its nodes are, and to run them without ComfyUI.

Written from its documentation: a node has a schema, which names its inputs and outputs, and a method that takes them.
"""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


@dataclass
class Slot:
    """An input or output."""

    id: str | None = None
    optional: bool = False
    default: Any = None
    options: Any = None
    display_name: str | None = None
    others: dict[str, Any] = field(default_factory=dict)


class Kind:
    """A type of slots."""

    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str, **settings: Any) -> Slot:  # noqa: N802
        ours = {name: settings.pop(name) for name in ("optional", "default", "options") if name in settings}
        return Slot(id, **ours, others=settings | {"kind": self.name})

    def Output(self, display_name: str | None = None) -> Slot:  # noqa: N802
        return Slot(display_name=display_name, others={"kind": self.name})


class ModelPatcher:
    """As much of a managed model as is looked at."""

    def __init__(self, model: Any, load_device: Any, offload_device: Any) -> None:
        self.model = model


class Output:
    """What a node gives."""

    def __init__(self, *result: Any) -> None:
        self.result = result


def modules(models: str) -> dict[str, ModuleType | SimpleNamespace]:
    """The modules that the pack imports, by name; ``models`` is the folder of models."""
    kinds = {
        name: Kind(name.upper()) for name in ("String", "Combo", "Boolean", "Float", "Clip", "Conditioning", "Model")
    }
    io = SimpleNamespace(
        **kinds, Custom=Kind, Schema=lambda **fields: SimpleNamespace(**fields), ComfyNode=object, NodeOutput=Output
    )
    cpu, loaded = torch.device("cpu"), []
    folders: dict[str, list[str]] = {}
    management = SimpleNamespace(
        text_encoder_device=lambda: cpu,
        text_encoder_offload_device=lambda: cpu,
        unet_offload_device=lambda: cpu,
        load_models_gpu=lambda models, **_: loaded.extend(models),
        loaded=loaded,
    )
    return {
        "comfy": SimpleNamespace(model_management=management),
        "comfy.model_management": management,
        "comfy.model_patcher": SimpleNamespace(ModelPatcher=ModelPatcher),
        "comfy.weight_adapter": SimpleNamespace(LoRAAdapter=lambda keys, weights: weights),
        "comfy_api": SimpleNamespace(),
        "comfy_api.latest": SimpleNamespace(ComfyExtension=object, io=io),
        "folder_paths": SimpleNamespace(
            models_dir=models,
            add_model_folder_path=lambda name, path: folders.setdefault(name, []).append(path),
            get_folder_paths=lambda name: folders.get(name, []),
        ),
    }


def install(patch: pytest.MonkeyPatch, models: str) -> None:
    for name, module in modules(models).items():
        patch.setitem(sys.modules, name, module)
