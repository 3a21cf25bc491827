"""The base model's own predictions, kept on disk: targets of distillation that runs with one seed share.

Letters in shapes: B samples, c latent channels, h and w height and width of the latents.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from llmdiff.hashing import exact_hash, json_hash
from llmdiff.precompute.store import Chunk, Store

_ANSWERING = 1  # to be counted up whenever the base model is asked differently
_NAME = "answer"


class Answers:
    """Predictions by the content of what the base model was asked; in float32, so that they are what it said.

    Args:
        folder: of all caches.
        of: all that they depend on besides the question: the base model's content, the precision.

    Example:
        >>> answers = Answers(Path("cache"), of=["5d41402abc4b2a76", "float32"])
        >>> answers.get(noisy, t, ["a red cup"], lambda: predict(noisy, t, ["a red cup"])).shape == noisy.shape
        True
    """

    def __init__(self, folder: Path, of: Sequence[str]) -> None:
        self._store = Store(folder / f"answers-{json_hash([_ANSWERING, *of])[:16]}")

    def get(self, noisy: Tensor, t: Tensor, captions: Sequence[str], compute: Callable[[], Tensor]) -> Tensor:
        """The prediction (B, c, h, w) under captions, which is computed if nobody has asked before.

        Args:
            noisy: (B, c, h, w).
            t: (B,).
            captions: B of them.
            compute: asks the base model.

        Raises:
            LLMDiffError: The disk refuses, or what was kept is damaged.
        """
        key = json_hash([exact_hash([("noisy", noisy), ("t", t)]), list(captions)])
        if key not in self._store:
            self._store.fill(
                [[key]], lambda keys: Chunk({_NAME: compute().float().cpu()}, [len(noisy)]), lambda done: None
            )
        return self._store.get(key)[_NAME].to(noisy.device, copy=True)
