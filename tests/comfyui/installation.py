"""The ComfyUI that `COMFYUI_PATH` names, in this process, and our node pack as it loads one."""

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

PATH = os.environ.get("COMFYUI_PATH")
PACK = Path(__file__).parents[2] / "comfyui"
NAME = "llmdiff_node_pack"
needed = pytest.mark.skipif(PATH is None, reason="COMFYUI_PATH names no installation of ComfyUI")


@cache
def start() -> None:
    """Has ComfyUI's modules found, and computes on the CPU."""
    assert PATH is not None
    sys.path.append(PATH)
    from comfy.cli_args import args

    args.cpu = True


@cache
def pack() -> ModuleType:
    """The node pack, which is no package of the path: ComfyUI imports it from its folder."""
    spec = importlib.util.spec_from_file_location(NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module
