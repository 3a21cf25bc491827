"""Checkpoints of a training run: one safetensors file each, whole or absent.

Everything that must come back for a run to go on to the bit is in the file: tensors under readable names, and the
rest as JSON in the file's metadata. A file appears under its name only once it is complete and on disk, and it is
checked whole before a number of it is used: its checksum, and whether all that it holds fits what is trained.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator
from safetensors import safe_open
from torch import Tensor

from llmdiff import tensor_files
from llmdiff.errors import LLMDiffError
from llmdiff.files import DRAFTS, written_whole
from llmdiff.validation_errors import first_problem

_NAME = re.compile(r"step-(\d{8})\.safetensors")
_STATE = "state"
_DAMAGE = (*tensor_files.DAMAGE, ValueError, RecursionError)
Tensors = dict[str, Tensor]
Info = dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], info: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes the checkpoint of `step`; of it and those before it the newest `keep` stay.

    What a killed run left half written goes too. Later checkpoints stay: a run is past them only if they are damaged.

    Raises:
        LLMDiffError: The disk refused it; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}.safetensors"
    try:
        with written_whole(path) as draft:
            tensor_files.write(draft, _contiguous(tensors), _STATE, json.dumps({**info, "step": step}))
    except tensor_files.DAMAGE as error:
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
    """The newest checkpoint that is as long as its header says, or None; only headers are read, whatever the size."""
    return next((path for path in sorted(_complete(folder), reverse=True) if _header_state(path) is not None), None)


def run_of(folder: Path) -> str | None:
    """The identity of the run that the newest checkpoint is of, by its header; None if it carries none."""
    path = newest(folder)
    found = (_header_state(path) or {}).get("run") if path else None
    return found if isinstance(found, str) else None


def load(path: Path) -> tuple[Tensors, Info]:
    """Tensors and JSON state of a checkpoint.

    Raises:
        LLMDiffError: The file is missing, damaged, or not a checkpoint.
    """
    try:
        tensors, text = tensor_files.read(path, _STATE)
        return tensors, _state(text)
    except _DAMAGE as error:
        raise LLMDiffError(f"{path} is not a readable checkpoint ({error}); delete it and resume.") from error


def load_newest(folder: Path, fault: Callable[[Path, Tensors, Info], str | None]) -> tuple[Tensors, Info] | None:
    """Tensors and JSON state of the newest checkpoint without a fault, or None where there are no checkpoints.

    Those that are passed over are named in a warning.

    Args:
        folder: of the checkpoints.
        fault: says what is wrong with a checkpoint that is what was written.

    Raises:
        LLMDiffError: There are checkpoints, and none that can be used.
    """
    faults: list[str] = []
    for path in sorted(_complete(folder), reverse=True):
        try:
            tensors, info = load(path)
            found = fault(path, tensors, info)
        except LLMDiffError as error:
            found = str(error)
        if found is None:
            for one in faults:
                warnings.warn(f"Passed over, to go on from {path.name}: {one}", stacklevel=3)
            return tensors, info
        faults.append(found)
    if faults:
        raise LLMDiffError(
            f"No checkpoint in {folder} can be used ({faults[0].rstrip('.')}): delete them, or set folder to another "
            "path, and train anew."
        )
    return None


class State(BaseModel):
    """The settings in a checkpoint."""

    model_config = ConfigDict(extra="allow")

    step: int = Field(ge=0)
    skipped: int = Field(ge=0)
    run: str | None = None
    micro_batch: int | None = Field(None, ge=1)
    scale: dict[str, FiniteFloat] = {}

    @field_validator("scale")
    @classmethod
    def _is_positive(cls, scale: dict[str, float]) -> dict[str, float]:
        if min(scale.get("value", 1), scale.get("scale", 1)) <= 0:
            raise ValueError("the scale of the loss is no positive number")
        return scale


def misfit(
    path: Path, tensors: Tensors, info: Info, parameters: Tensors, averaged: bool, by_muon: Set[str] = frozenset()
) -> str | None:
    """What is wrong with a checkpoint of a training of `parameters`; None if all of it can be restored.

    Args:
        path: of the checkpoint.
        tensors: in it.
        info: its JSON state.
        parameters: that are trained, by name.
        averaged: whether their averages are kept.
        by_muon: names of the parameters that Muon trains; AdamW trains the others.
    """
    trained = {key.removeprefix("optimizer.").rpartition(".")[0] for key in tensors if key.startswith("optimizer.")}
    expected = prefixed("module", parameters) | (prefixed("ema", parameters) if averaged else {})
    with_momentum = {name for name in trained if f"optimizer.{name}.momentum" in tensors}
    if with_momentum != trained & by_muon:
        other = "muon" if with_momentum - by_muon else "adamw"
        return f"{path} is of a training by {other}: set loop.optimizer to that, or choose another output folder."
    for name in trained & parameters.keys():
        slots = {"step": torch.zeros(()), "exp_avg": parameters[name], "exp_avg_sq": parameters[name]}
        slots = {"momentum": parameters[name]} if name in by_muon else slots
        expected |= prefixed(f"optimizer.{name}", slots)
    if different := sorted(expected.keys() ^ tensors.keys()):
        return f"{path} {'lacks' if different[0] in expected else 'has an unknown'} {different[0]}."
    for name, wanted in expected.items():
        if (tensors[name].shape, tensors[name].dtype) != (wanted.shape, wanted.dtype):
            return f"{path} has {name} as {tensors[name].dtype} {tuple(tensors[name].shape)}."
    try:
        step = State.model_validate(info).step
    except ValidationError as error:
        return f"{path} has settings that cannot be: {first_problem(error)}."
    return None if path.stem.endswith(f"-{step:08d}") else f"{path} is that of step {step}."


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
    """Puts back what `optimizer_tensors` gave, laid out as its parameter is, as a fused optimizer takes for granted."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, slot = key.removeprefix("optimizer.").rsplit(".", 1)
            parameter = parameters[name]
            like = torch.empty_like(parameter if value.shape == parameter.shape else value, dtype=value.dtype)
            optimizer.state[parameter][slot] = like.to(parameter.device).copy_(value)


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


def _header_state(path: Path) -> Info | None:
    """The JSON state of a checkpoint; None of one that is not as long as its header says, or has none."""
    try:
        path.open("rb").close()  # safetensors takes a lack of permission for a lack of the file
        with safe_open(path, framework="np") as file:
            return _state(tensor_files.text_of(file.metadata(), _STATE))
    except PermissionError as error:
        raise LLMDiffError(
            f"There is no permission to read {path}: ask its owner for it, or set folder to another path."
        ) from error
    except _DAMAGE:
        return None


def _state(text: str) -> Info:
    state = json.loads(text)
    if not isinstance(state, dict):
        raise ValueError("its state is no JSON object")
    return state
