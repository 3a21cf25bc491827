"""The one exception that a user of llmdiff is meant to read, and how a lack of memory is told from other faults."""

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Allocation failed",
    "STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",  # of a workspace that there is no room for
)
"""What is in the messages by which torch and its backends say so in a plain RuntimeError."""


class LLMDiffError(Exception):
    """Something the user can mend: one sentence that says what is wrong and what to do.

    The command line prints the sentence without a traceback and exits with status 1.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that a device, or the CPU, has no memory left; torch need not be imported for it.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"))
        True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
