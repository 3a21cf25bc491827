"""Smaller micro-batches, and a sentence, for a step that does not fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import clear_device_cache

from llmdiff.errors import LLMDiffError, is_out_of_memory


def halved(micro_batch: int) -> int:
    """The micro-batch to try next, after freeing what the last one left.

    Raises:
        LLMDiffError: It was one sample already.
    """
    if micro_batch == 1:
        raise LLMDiffError(
            "Not even one sample at a time fits into memory: set gradient_checkpointing to true, precision to bfloat16 "
            "or a lower data.resolution; batch_size need not change, it is made up of micro-batches of any size."
        )
    clear_device_cache(garbage_collection=True)
    return (micro_batch + 1) // 2


@contextmanager
def explained() -> Iterator[None]:
    """Within it, where the optimizer makes room for its state, a lack of memory is put into a sentence.

    Raises:
        LLMDiffError: There is not enough.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise LLMDiffError(
            "The optimizer's state, up to two numbers for each weight that trains, does not fit into memory: set "
            "loop.ema to 0, or loop.micro_batch to a lower number."
        ) from error
