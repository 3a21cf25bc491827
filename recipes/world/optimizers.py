"""Which optimizer trains which weights: Muon the matrices within a network, AdamW all else."""

from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.training.loop_settings import LoopSettings
from world.muon import Muon, matrices

_ADAMW_SHARE = 0.5
"""Of the learning rate, for what AdamW trains."""


def of(module: nn.Module, settings: LoopSettings, graphed: bool, device: torch.device) -> list[torch.optim.Optimizer]:
    """Optimizers of all parameters of a module that train, none without any; those of a CUDA graph if `graphed`."""
    # A CUDA graph reads a rate anew only if it is a tensor.
    rate = [torch.tensor(0.0, device=device) if graphed else 0.0 for _ in range(2)]
    inner = matrices(module)
    known = {id(p) for p in inner}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
    decay = settings.weight_decay
    made: list[torch.optim.Optimizer] = []
    if inner:
        made.append(Muon([{"params": inner, "share": 1.0}], lr=rate[0], weight_decay=decay))
    if others:
        group = {"params": others, "share": _ADAMW_SHARE}
        options: dict[str, Any] = {"lr": rate[1], "weight_decay": decay, "fused": True, "capturable": graphed}
        made.append(torch.optim.AdamW([group], betas=(0.9, 0.99), **options))
    return made


def set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Gives all of them the learning rate of the next step."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["share"])
        else:
            group["lr"] = rate * group["share"]
