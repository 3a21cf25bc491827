"""Checkpoints of a training run: one safetensors file each, whole or absent.

Everything that must come back for a run to go on to the bit is in the file: tensors under readable names, and the
rest as JSON in the file's metadata. A file appears under its name only once it is complete and on disk.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.files import DRAFTS, written_whole

_NAME = re.compile(r"step-(\d{8})\.safetensors")
_DAMAGE = (OSError, SafetensorError, KeyError, ValueError)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], info: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes the checkpoint of `step`; of it and those before it the newest `keep` stay.

    What a killed run left half written goes too. Later checkpoints stay: a run is past them only if they are damaged.

    Raises:
        LLMDiffError: The disk refused it; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}.safetensors"
    try:
        with written_whole(path) as draft:
            save_file(_contiguous(tensors), draft, metadata={"state": json.dumps({**info, "step": step})})
    except (OSError, SafetensorError) as error:
        raise LLMDiffError(
            f"The checkpoint {path} could not be written ({error}); free disk space and resume."
        ) from error
    older = sorted(old for old in _complete(folder) if old < path)
    for old in [*older[: max(0, len(older) + 1 - keep)], *leftovers(folder)]:
        with suppress(OSError):  # what cannot be taken away must not stop a run
            old.unlink()
    return path


def leftovers(folder: Path) -> list[Path]:
    """The files that killed runs have left half written: drafts of ours, and safetensors' own before them."""
    return [*folder.glob(DRAFTS), *folder.glob(".tmp*")]


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None; damaged ones are passed over.

    Only headers are read, whatever the size of the files: a header says how long its file must be.
    """
    return next((path for path in sorted(_complete(folder), reverse=True) if _is_whole(path)), None)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON state of a checkpoint.

    Raises:
        LLMDiffError: The file is missing, damaged, or not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            info = _state(file)
            return {name: file.get_tensor(name) for name in file.keys()}, info  # noqa: SIM118 - not a mapping
    except _DAMAGE as error:
        raise LLMDiffError(f"{path} is not a readable checkpoint ({error}); delete it and resume.") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimizer's state under `optimizer.<parameter name>.<slot>`."""
    return {
        f"optimizer.{names[parameter]}.{slot}": value
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` gave."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, slot = key.removeprefix("optimizer.").rsplit(".", 1)
            parameter = parameters[name]
            optimizer.state[parameter][slot] = value.to(parameter.device, copy=True)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every name with `prefix.` before it."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _complete(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if _NAME.fullmatch(path.name) and path.is_file()]


def _is_whole(path: Path) -> bool:
    try:
        path.open("rb").close()  # safetensors takes a lack of permission for a lack of the file
        with safe_open(path, framework="np") as file:
            _state(file)
    except PermissionError as error:
        raise LLMDiffError(
            f"There is no permission to read {path}: ask its owner for it, or set folder to another path."
        ) from error
    except _DAMAGE:
        return False
    return True


def _state(file: Any) -> dict[str, Any]:
    """The JSON state of an open checkpoint."""
    state: dict[str, Any] = json.loads((file.metadata() or {})["state"])
    return state
