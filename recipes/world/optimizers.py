"""Which optimizer trains which weights: Muon the matrices within a network, AdamW all else."""

from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.training.loop_settings import LoopSettings
from world.muon import Muon, matrices


def of(module: nn.Module, settings: LoopSettings, graphed: bool, device: torch.device) -> list[torch.optim.Optimizer]:
    """Optimizers of all parameters of a module that train, none without any; those of a CUDA graph if `graphed`."""
    rate: Any = settings.learning_rate
    if graphed:  # a graph reads the rate anew if it is a tensor
        rate = torch.tensor(rate, device=device)
    inner = matrices(module)
    known = {id(p) for p in inner}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
    decay = settings.weight_decay
    made: list[torch.optim.Optimizer] = []
    if inner:
        made.append(Muon(inner, lr=rate, weight_decay=decay))
    if others:
        options: dict[str, Any] = {"lr": rate, "weight_decay": decay, "fused": True, "capturable": graphed}
        made.append(torch.optim.AdamW(others, betas=(0.9, 0.99), **options))
    return made


def set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Gives all of them a learning rate for the next step."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
