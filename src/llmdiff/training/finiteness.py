"""Numbers that are not finite, named where they arise: the weight or the caption."""

from collections.abc import Sequence

from torch import Tensor, nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.finite import first_broken


def explain(errors: Tensor, captions: Sequence[str], adapter: LLMDiffAdapter, base: ImageModel) -> str | None:
    """The sample whose error is not finite, in words, or None if all errors are finite.

    Args:
        errors: of the samples, (B,).
        captions: of the samples, B of them.
        adapter: that made the predictions.
        base: its base model.

    Raises:
        LLMDiffError: A weight is not finite, so that no later step can be better.
    """
    if errors.isfinite().all():
        return None
    if name := first_broken(adapter.named_parameters()):
        raise LLMDiffError(
            f"The adapter's {name} is not finite any more: --resume goes on from the last checkpoint, with a lower "
            "loop.learning_rate."
        )
    for part, model in base.pipe.components.items():
        if isinstance(model, nn.Module) and (name := first_broken(model.named_parameters())):
            raise LLMDiffError(f"The base model's {part} has a weight that is not finite, {name}: get the model again.")
    caption = captions[int((~errors.isfinite()).long().argmax())][:60]
    return f"The prediction under {caption!r} is not finite"
