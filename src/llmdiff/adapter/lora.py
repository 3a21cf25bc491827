"""A LoRA that belongs to an adapter: low-rank changes of the denoiser's attention projections (Hu et al. 2022).

It is no part of the denoiser either: forward hooks add to what a projection gives, in calls that carry an encoding.

Letters in shapes: B batch, N tokens, I and O width of what a projection takes and gives, r rank.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llmdiff.adapter.branch import follow
from llmdiff.adapter.config import LoRAConfig
from llmdiff.adapter.hooks import Args, Conditioner, Kwargs
from llmdiff.base.diffusers_internals import PROJECTIONS, projections, register_shared_hook, visible_weight
from llmdiff.base.layers import find_attentions, projection_shapes
from llmdiff.errors import LLMDiffError

_JOINING = threading.Lock()
"""Two threads that run one denoiser must not hang a hook on a projection each."""


class LoRA(nn.Module):
    """``up · down`` of one projection, which starts as zero.

    Attributes:
        down: (r, I), normal with a standard deviation of 1 / r at the start.
        up: (O, r), zeros at the start.
        keeps_dtype: whether it is trained, so that its weights must not be moved to the denoiser's dtype.

    Example:
        >>> LoRA(320, 640, rank=8)(torch.zeros(2, 64, 320)).shape
        torch.Size([2, 64, 640])
    """

    def __init__(self, width_in: int, width_out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, width_in) / rank)
        self.up = nn.Parameter(torch.zeros(width_out, rank))
        self.keeps_dtype = False

    def forward(self, features: Tensor) -> Tensor:
        """What is to be added to a projection of features (B, N, I): (B, N, O)."""
        return F.linear(F.linear(features, self.down), self.up)

    def follow(self, features: Tensor) -> None:
        """Moves to the device of features, and to their dtype unless it trains or there is autocast."""
        follow(self, self.down, features, self.keeps_dtype)


class AddLoRA:
    """After a projection: adds the LoRA of what it makes, which is several projections' if they were fused.

    Args:
        conditioner: of the adapter.
        parts: a LoRA, or None, of each of them.
        widths: of what each of them gives.
    """

    def __init__(self, conditioner: Conditioner, parts: list[LoRA | None], widths: list[int]) -> None:
        self.conditioner = conditioner
        self.parts, self.widths = parts, widths

    def __call__(self, projection: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        call = self.conditioner.call
        if call is None or call.rows is None or call.scale == 0:
            return None
        if len(self.parts) == 1:
            return _added(self.parts[0], args[0], output, call.scale)
        pieces = zip(self.parts, output.split(self.widths, -1), strict=True)
        return torch.cat([_added(part, args[0], piece, call.scale) for part, piece in pieces], -1)


def _added(lora: LoRA | None, features: Tensor, output: Tensor, scale: float) -> Tensor:
    if lora is None:
        return output
    if not torch.compiler.is_compiling():
        lora.follow(features)
    return torch.add(output, lora(features).to(output), alpha=scale)


class JoinLoRA:
    """Before an attention layer: hangs its LoRA on its projections as they are now, for libraries put others there.

    Args:
        conditioner: of the adapter.
        loras: by the projection's path in the layer.
        widths: of what each projection of the layer gives.
    """

    def __init__(self, conditioner: Conditioner, loras: Mapping[str, LoRA], widths: Mapping[str, int]) -> None:
        self.conditioner = conditioner
        self.loras, self.widths = loras, widths
        self._joined: dict[tuple[str, ...], nn.Module] = {}
        self._handles: list[RemovableHandle] = []

    def __call__(self, attention: nn.Module, args: Args) -> None:
        if not torch.compiler.is_compiling():
            self.join(attention)

    def join(self, attention: nn.Module) -> None:
        """Hangs the LoRA on the layer's projections, if they are others than before."""
        found = projections(attention)
        if found == self._joined:
            return
        with _JOINING:
            if found != self._joined:
                self.leave()
                for names, projection in found.items():
                    parts = [self.loras.get(name) for name in names]
                    if any(parts):
                        add = AddLoRA(self.conditioner, parts, [self.widths[name] for name in names])
                        self._handles.append(register_shared_hook(projection, add))
                self._joined = found

    def leave(self) -> None:
        """Takes the LoRA away again."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._joined = [], {}


class ResumeCall:
    """Before a block that holds attention: finds its call again when gradient checkpointing runs it anew.

    A cross-attention layer is known by its text, but most of what a LoRA changes reads none.
    """

    def __init__(self, conditioner: Conditioner) -> None:
        self.conditioner = conditioner

    def __call__(self, block: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        features = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if features is not None:
            self.conditioner.resume(block, features)


class LeaveCall:
    """After such a block, also one that failed or that ended when all was there that the backward pass needs."""

    def __init__(self, conditioner: Conditioner) -> None:
        self.conditioner = conditioner

    def __call__(self, block: nn.Module, args: Args, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.conditioner.leave(block)


class LoRAAttachment:
    """The LoRA of an adapter at work in a denoiser.

    Args:
        denoiser: of which every projection is there that the LoRA changes.
        conditioner: of the adapter.
        loras: by the projection's module path.
    """

    def __init__(self, denoiser: nn.Module, conditioner: Conditioner, loras: Mapping[str, LoRA]) -> None:
        self.denoiser = denoiser
        self._joins: dict[str, JoinLoRA] = {}
        self._handles: list[RemovableHandle] = []
        shapes = projection_shapes(denoiser)
        for path, attention in find_attentions(denoiser).items():
            own = {name: lora for name in PROJECTIONS if (lora := loras.get(f"{path}.{name}")) is not None}
            if own:
                known = {name: shapes.get(f"{path}.{name}") for name in PROJECTIONS}
                widths = {name: shape[1] for name, shape in known.items() if shape}
                join = JoinLoRA(conditioner, own, widths)
                self._joins[path] = join
                self._handles.append(attention.register_forward_pre_hook(join))
        resume, leave = ResumeCall(conditioner), LeaveCall(conditioner)
        for block in _around(denoiser, self._joins):
            self._handles.append(block.register_forward_pre_hook(resume, with_kwargs=True))
            self._handles.append(register_shared_hook(block, leave, always_call=True))

    def place(self) -> None:
        """Joins the projections as they are now, and moves the LoRA to where they are as far as that can be seen."""
        for path, join in self._joins.items():
            attention = self.denoiser.get_submodule(path)
            join.join(attention)
            for name, lora in join.loras.items():
                if (weight := visible_weight(attention.get_submodule(name))) is not None:
                    lora.follow(weight)

    def remove(self) -> None:
        """Leaves the denoiser as it was."""
        for handle in self._handles:
            handle.remove()
        for join in self._joins.values():
            join.leave()
        self._handles, self._joins = [], {}


def _around(denoiser: nn.Module, paths: Iterable[str]) -> list[nn.Module]:
    """The modules of a denoiser that hold those at some paths, and these: each is one that may be run again."""
    parts = [path.split(".") for path in paths]
    prefixes = {".".join(part[: n + 1]) for part in parts for n in range(len(part))}
    return [denoiser.get_submodule(prefix) for prefix in sorted(prefixes)]


def complete(config: LoRAConfig, denoiser: nn.Module) -> LoRAConfig:
    """The config of a LoRA for a denoiser, with the shapes of all its projections unless some are named.

    Raises:
        LLMDiffError: if it names one that the denoiser does not have, or of another shape.
    """
    if not config.projections:
        return config.model_copy(update={"projections": projection_shapes(denoiser)})
    check_fits(config, denoiser)
    return config


def check_fits(config: LoRAConfig, denoiser: nn.Module) -> None:
    """Raises LLMDiffError, naming the first difference, if a denoiser lacks a projection that the LoRA changes."""
    found = projection_shapes(denoiser)
    for path, shape in config.projections.items():
        if found.get(path) != tuple(shape):
            kind = type(denoiser).__name__
            here = f"{found[path][0]} → {found[path][1]}" if path in found else "not there"
            raise LLMDiffError(
                f"The LoRA changes the projection {path} ({shape[0]} → {shape[1]}), which in this {kind} is {here}: "
                "take a base model of the family that the LoRA was made for."
            )
