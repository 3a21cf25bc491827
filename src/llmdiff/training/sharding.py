"""An LLM that outgrows one device: its weights are divided among the processes, block by block (FSDP).

Training reads with the LLM before its first step and for sample sheets, in the main process. The others lend their
shards meanwhile: they run the blocks in the same order, on a token of no meaning, so that every process takes part in
gathering each block.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from llmdiff.language import LanguageModel


def is_sharding_asked_for(accelerator: Accelerator) -> bool:
    """True if several processes were launched with `--use_fsdp`."""
    return accelerator.num_processes > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")


def is_sharded(llm: LanguageModel) -> bool:
    """True if `shard` has divided an LLM."""
    return not llm.is_offloaded and isinstance(llm.model, FSDPModule)


def shard(llm: LanguageModel, accelerator: Accelerator) -> None:
    """Divides the weights of an LLM among the processes, for good; a block at a time is whole.

    Args:
        llm: on the CPU; its shards move to the accelerator's device.
        accelerator: the processes.
    """
    llm.identity()  # this and the next look at weights that are whole
    llm.content()
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    blocks = list(llm.blocks)
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=False)  # it is run again for tokens alone
    fully_shard(llm.model, mesh=mesh, reshard_after_forward=True)
    for done, block in pairwise(blocks):
        block.register_forward_pre_hook(_Reshard(done))
    llm.model.register_forward_hook(_Reshard(blocks[-1]))


def in_main_process(llm: LanguageModel, accelerator: Accelerator, work: Callable[[], object]) -> None:
    """Does work that reads with the LLM in the main process; the others wait, and help if it is sharded.

    Every process must call it.
    """
    if accelerator.is_main_process:
        _lead(llm, accelerator, work) if is_sharded(llm) else work()
    elif is_sharded(llm):
        _lend(llm, accelerator)


def _lead(llm: LanguageModel, accelerator: Accelerator, work: Callable[[], object]) -> None:
    handle = llm.model.register_forward_pre_hook(lambda *_: _agree(accelerator, True), prepend=True)
    try:
        work()
    finally:
        handle.remove()
        _agree(accelerator, False)


@torch.no_grad()
def _lend(llm: LanguageModel, accelerator: Accelerator) -> None:
    token = torch.zeros(1, 1, dtype=torch.long, device=accelerator.device)
    while _agree(accelerator, False):
        llm.model(input_ids=token, use_cache=False)


def _agree(accelerator: Accelerator, more: bool) -> bool | None:
    """The main process's word on whether a pass of the LLM comes; None in that process itself, as hooks must return."""
    flag = torch.tensor(int(more), device=accelerator.device)
    distributed.broadcast(flag, src=0)
    return None if accelerator.is_main_process else bool(flag)


class _Reshard:
    """A hook that divides a block's weights again, before the next block runs."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, FSDPModule)
        self.block = block

    def __call__(self, *_: Any) -> None:
        self.block.reshard()
