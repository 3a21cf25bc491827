"""Attention maps of a running pipeline, taken from what its layers compute, of which not a bit is changed.

Every attention that the layers run goes through ``scaled_dot_product_attention``, whatever processor they have. A
function mode of torch sees its arguments and computes the probabilities beside it, which that function does not give.

Letters in shapes: B rows, N places of the image, S tokens, h heads, I width of a head.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from llmdiff.base import ImageModel
from llmdiff.base.diffusers_internals import first_parameter
from llmdiff.errors import LLMDiffError

Source = Literal["text", "adapter"]
"""The attention of a layer itself, to the text features that it reads, and that of the adapter's branch."""
_COARSEST = 64  # latents to a place of the image features, in each direction


class AttentionRecorder(TorchFunctionMode):
    """Within this context, it takes down where the cross-attention of a denoiser looks for each token.

    The maps are the mean over heads, layers and steps, each layer and step counting alike **[choice]**, in the last row
    of a call: that of the prompt, since pipelines put the negative one before it.

    Args:
        model: the image model, whose adapter is attached already if it has one.
        branches: of the adapter; none for the base model alone.

    Example:
        >>> with AttentionRecorder(ImageModel(pipe)) as recorder:
        ...     image = pipe("a red cup", num_inference_steps=2).images[0]
        >>> recorder.maps("text").shape  # tokens, height, width
        torch.Size([16, 4, 4])
    """

    def __init__(self, model: ImageModel, branches: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self._model, self._branches = model, dict(branches or {})
        self._within: list[Source | None] = []
        self._sums: dict[tuple[Source, int], Tensor] = {}
        self._counts: dict[tuple[Source, int], int] = {}
        self._size = (0, 0)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "AttentionRecorder":
        denoiser = self._model.denoiser
        self._handles.append(denoiser.register_forward_pre_hook(_NoteSize(self, denoiser), with_kwargs=True))
        for layer in self._model.layers.values():
            self._watch(layer, "text")
        for branch in self._branches.values():
            self._watch(branch, "adapter")
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, module: nn.Module, source: Source) -> None:
        def enter(_module: nn.Module, _args: Any) -> None:
            self._within.append(source)

        def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
            self._within.pop()

        self._handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self._within and self._within[-1] is not None:
            self._add(self._within[-1], last_row_attention(*args, **kwargs))
            self._within[-1] = None  # what a layer attends to next is not text, but an IP-Adapter's image
        return func(*args, **kwargs)

    def _add(self, source: Source, attention: Tensor) -> None:
        key = source, attention.shape[0]
        known = self._sums.get(key)
        if known is not None and known.shape != attention.shape:
            raise LLMDiffError("The prompt has another number of tokens from one step to the next: draw a plain one.")
        self._sums[key] = attention if known is None else known + attention
        self._counts[key] = self._counts.get(key, 0) + 1

    def note_size(self, height: int, width: int) -> None:
        """Takes down the size of the latents of a call."""
        self._size = height, width

    def maps(self, source: Source) -> Tensor | None:
        """The share of each token in the attention of each place, (S, height, width), on the finest grid of the layers.

        At each place the shares of all tokens are 1 together. None if there is no such attention.

        Raises:
            LLMDiffError: if layers ran whose attention cannot be seen.
        """
        found = {count: total for (kind, count), total in self._sums.items() if kind == source}
        grids = {count: grid_of(count, *self._size) for count in found}
        placed = [(found[count], grid, self._counts[source, count]) for count, grid in grids.items() if grid]
        if not placed:
            if source == "text" and self._size != (0, 0):
                raise LLMDiffError(
                    "The attention of the base model cannot be seen: undo attention slicing, xFormers or torch.compile."
                )
            return None
        finest = max((grid for _, grid, _ in placed), key=lambda grid: grid[0] * grid[1])
        total = sum(_spread(attention, grid, finest) for attention, grid, _ in placed)
        assert isinstance(total, Tensor)
        return total / sum(count for _, _, count in placed)


class _NoteSize:
    """Before a denoiser: the size of its latents."""

    def __init__(self, recorder: AttentionRecorder, denoiser: nn.Module) -> None:
        self.recorder, self.sample = recorder, first_parameter(denoiser)

    def __call__(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        sample = args[0] if args else kwargs[self.sample]
        self.recorder.note_size(*sample.shape[-2:])


@torch.no_grad()
def last_row_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The probabilities of the last row of an attention, mean over its heads.

    Args:
        query: (B, h, N, I), and so on as ``scaled_dot_product_attention`` has them.

    Returns:
        (N, S), float32; each place has 1 in all.
    """
    q, k = query[-1].float(), key[-1].float()
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        mask = attn_mask[-1] if attn_mask.dim() == query.dim() else attn_mask
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).mean(0)


def grid_of(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Height and width of a layer's places, of latents that are halved, rounding up, as often as need be.

    Example:
        >>> grid_of(12, 6, 7)
        (3, 4)
    """
    for side in range(1, _COARSEST + 1):
        grid = -(-height // side), -(-width // side)
        if grid[0] * grid[1] == count:
            return grid
    return None


def _spread(attention: Tensor, grid: tuple[int, int], finest: tuple[int, int]) -> Tensor:
    """(N, S) to (S, height, width) on the finest grid."""
    maps = attention.T.reshape(1, -1, *grid).cpu()
    return F.interpolate(maps, finest, mode="bilinear", align_corners=False)[0]
