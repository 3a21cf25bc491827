"""Numbers that are not finite, found among named tensors."""

from collections.abc import Iterable

from torch import Tensor


def first_broken(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that has a number which is not finite, None if all numbers are.

    Example:
        >>> first_broken({"a": torch.ones(2), "b": torch.tensor([torch.nan])}.items())
        'b'
    """
    return next((name for name, tensor in tensors if not tensor.isfinite().all()), None)
