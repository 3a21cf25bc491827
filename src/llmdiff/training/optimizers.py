"""The optimizer of a training, and its learning rates."""

from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.muon import Muon, matrices

_ADAMW_SHARE = 0.5
"""Of Muon's learning rate, for what AdamW trains beside it."""


def make(
    module: nn.Module, groups: list[dict[str, Any]], settings: LoopSettings, graphed: bool = False
) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Args:
        module: that is trained.
        groups: its parameters; `rate` in a group multiplies the learning rate.
        settings: with optimizer, learning rate and weight decay.
        graphed: True for one whose steps a CUDA graph can hold.

    Returns:
        An optimizer, whose groups have a `rate` each.
    """
    if settings.optimizer == "muon":
        groups = _split(groups, {id(p) for p in matrices(module)})
    groups = [{"rate": 1.0} | group for group in groups]
    if graphed:  # a graph reads a learning rate anew if it is a tensor
        groups = [group | {"lr": torch.zeros((), device=group["params"][0].device)} for group in groups]
    options: dict[str, Any] = {"betas": (0.9, 0.99), "fused": True, "capturable": graphed}
    kind = Muon if settings.optimizer == "muon" else torch.optim.AdamW
    return kind(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, **options)


def _split(groups: list[dict[str, Any]], inner: set[int]) -> list[dict[str, Any]]:
    split = []
    for group in groups:
        chosen = [p for p in group["params"] if id(p) in inner]
        others = [p for p in group["params"] if id(p) not in inner]
        split.append(group | {"params": chosen, "muon": True})
        split.append(group | {"params": others, "rate": _ADAMW_SHARE * group.get("rate", 1.0)})
    return [group for group in split if group["params"]]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all groups the learning rate of the next step, each times its own."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["rate"])
        else:
            group["lr"] = rate * group["rate"]
