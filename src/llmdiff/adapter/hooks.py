"""The hooks by which an adapter takes part in a denoiser's forward pass; classes, because hooks must pickle.

In a call of the denoiser `StartCall` takes its rows apart and keeps them for the call, `AttendBranch` runs before each
cross-attention layer, `AddBranch` before that layer's own output projection, and `EndCall` after the call.
"""

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.conditioning import RowCache, Rows, mask_of, split
from llmdiff.adapter.config import Mode
from llmdiff.base.diffusers_internals import ATTENTION_ARGUMENTS, first_parameter, is_in_backward, position_of
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

TEXT = "encoder_hidden_states"
Attended = tuple[Tensor, Tensor | None]
"""A branch's attention (B, N, I), and the factor of the layer's own attention, if any."""
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of the denoiser.

    Attributes:
        rows: what its rows read; None where the base model runs as if there were no adapter.
        scale: of the branches.
        image_rows: how many rows of image features its layers may be given: one for each frame of each row or, of a
            video whose frames are one sequence of tokens, one for each row.
    """

    rows: Rows | None
    scale: float
    image_rows: tuple[int, ...]


class Conditioner:
    """The state that the hooks of one attached adapter share: its mode and dial, and the call that each thread is in.

    Args:
        mode: of the adapter.
        text_width: W.
        encoding_width: E.

    Attributes:
        scale: the dial on the branches.
        enabled: False where the base model is to run as if there were no adapter.
        cache: rows of the tensors that pipelines hand in again and again.
    """

    def __init__(self, mode: Mode, text_width: int, encoding_width: int) -> None:
        self.mode = mode
        self.text_width, self.encoding_width = text_width, encoding_width
        self.scale = 1.0
        self.enabled = True
        self.cache = RowCache()
        self._begin()

    def _begin(self) -> None:
        self._thread = threading.local()  # what this thread is at: nothing of it is seen by another one
        self._recomputed = WeakTensorKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_thread", "_recomputed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @property
    def call(self) -> Call | None:
        """The call of the denoiser that this thread is in."""
        return getattr(self._thread, "call", None)

    @property
    def attended(self) -> Attended | None:
        """The attention of a branch, on its way to the layer's output projection."""
        return getattr(self._thread, "attended", None)

    @attended.setter
    def attended(self, value: Attended | None) -> None:
        self._thread.attended = value

    @property
    def idle(self) -> bool:
        """True if the base model runs as if there were no adapter: in replace mode φ(c) is read at any scale."""
        return not self.enabled or (self.mode == "augment" and self.scale == 0)

    def start(self, text: Tensor, sample: Tensor) -> Tensor:
        """Begins a call of the denoiser.

        Args:
            text: (R, T, W + m·E) or, without an encoding, (R, T, W).
            sample: (B, c, H, W) or, of a video, (B, c, frames, H, W).

        Returns:
            What the denoiser is to read, (R, T, W).

        Raises:
            LLMDiffError: in replace mode, if there is no encoding.
        """
        features, rows = self._take_apart(text)
        batch, frames = sample.shape[0], sample.shape[2] if sample.dim() == 5 else 1
        each_frame_has_text = features.shape[0] > batch
        image_rows = (batch * frames,) if each_frame_has_text else (batch * frames, batch)
        call = Call(rows, self.scale, image_rows)
        self._thread.call = call
        self.attended = None
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._recomputed[features] = call  # gradient checkpointing runs layers again when the call is over
        return features

    def call_of(self, kwargs: Kwargs) -> Call | None:
        """The call that a layer is run in, also when gradient checkpointing runs it again."""
        call = self.call
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            text = kwargs.get(TEXT)
            text = text[0] if isinstance(text, tuple) else text  # beside it, an IP-Adapter's image features
            if isinstance(text, Tensor):
                call = self._recomputed.get(text, call)
                if call is not None:
                    self._recomputed[text] = call
            if call is None and is_in_backward():
                raise LLMDiffError(
                    "Gradient checkpointing runs a layer again, and it cannot be told under which prompt: use the kind "
                    "that is not reentrant (use_reentrant=False), which is diffusers' own."
                )
        return call

    def resume(self, block: nn.Module, features: Tensor) -> None:
        """Has a block that gradient checkpointing runs again, when the call is over, be in that call once more.

        Args:
            block: that is about to run, with gradients.
            features: what it is given first, by which its call is known: the very tensor of the forward pass.
        """
        if self.call is not None:
            self._recomputed[features] = self.call
        elif (call := self._recomputed.get(features)) is not None:
            self._thread.call, self._thread.resumed_by = call, block

    def leave(self, block: nn.Module) -> None:
        """Ends the call that `resume` took up for a block."""
        if getattr(self._thread, "resumed_by", None) is block:
            self._thread.call = self._thread.resumed_by = None

    def know(self, joined: Tensor, features: Tensor, encoding: Encoding) -> None:
        """Takes note of what a tensor was joined of, which then need not be taken apart."""
        if not self.idle and not torch.compiler.is_compiling():
            moved = encoding.to(joined.device, joined.dtype)
            embeds = moved.embeds.masked_fill(~moved.mask[..., None], 0)
            self.cache.put(joined, features.clone(), Rows(embeds, moved.mask))

    def end(self) -> None:
        """Ends a call of the denoiser."""
        self._thread.call = None
        self.attended = None

    def _take_apart(self, text: Tensor) -> tuple[Tensor, Rows | None]:
        remembers = not torch.compiler.is_compiling()
        if remembers and not self.idle and (known := self.cache.get(text)) is not None:
            return known
        features, embeds = split(text, self.text_width, self.encoding_width)
        if self.mode == "replace" and self.enabled and embeds is None:
            raise LLMDiffError(
                "The attached adapter replaces the text encoder, and this call of the denoiser carries no encoding: "
                "take prompt_embeds from encode_prompt of an attached pipeline (attach siblings too), "
                "or make them by adapter.condition(encoding), or call it within adapter.disable_adapter()."
            )
        if self.idle or embeds is None:
            return features, None
        rows = Rows(embeds, mask_of(embeds))
        if remembers and not torch.is_grad_enabled():
            self.cache.put(text, features, rows)
        return features, rows


class StartCall:
    """Before a denoiser or ControlNet: takes the encoding out of the text features.

    Args:
        conditioner: of the adapter.
        model: whose ``forward`` says where its arguments are.
    """

    def __init__(self, conditioner: Conditioner, model: nn.Module) -> None:
        self.conditioner = conditioner
        self.position = position_of(model, TEXT)
        self.sample = first_parameter(model)

    def __call__(self, model: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        sample = args[0] if args else kwargs[self.sample]
        if TEXT in kwargs:
            if isinstance(kwargs[TEXT], Tensor):
                return args, kwargs | {TEXT: self.conditioner.start(kwargs[TEXT], sample)}
        elif self.position is not None and self.position < len(args) and isinstance(args[self.position], Tensor):
            text = self.conditioner.start(args[self.position], sample)
            return (*args[: self.position], text, *args[self.position + 1 :]), kwargs
        return None


class EndCall:
    """After a denoiser or ControlNet, also one that failed: nothing of the call is left."""

    def __init__(self, conditioner: Conditioner) -> None:
        self.conditioner = conditioner

    def __call__(self, model: nn.Module, args: Args, output: Any) -> None:
        self.conditioner.end()


class MaskPadding:
    """Before a layer, in replace mode: keeps it from attending padded tokens of φ(c), whoever passes a mask or not."""

    def __init__(self, conditioner: Conditioner) -> None:
        self.conditioner = conditioner

    def __call__(self, layer: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
        call = self.conditioner.call_of(named)
        if call is None or call.rows is None:
            return None
        bias, image = call.rows.bias, named.pop("hidden_states")
        if image.shape[0] != bias.shape[0]:
            bias = bias.repeat_interleave(image.shape[0] // bias.shape[0], 0)
        return (image,), named | {"attention_mask": bias}


class AttendBranch:
    """Before a layer: attends its branch, for `AddBranch` to add.

    The branch is not a part of the denoiser: what walks the denoiser's modules (a LoRA, a quantiser, ``to``,
    ``save_pretrained``) does not find it, and it follows the image features by itself.
    """

    def __init__(self, conditioner: Conditioner, branch: Branch) -> None:
        self.conditioner = conditioner
        self.branch = branch
        self.add = AddBranch(conditioner)

    def __call__(self, layer: Any, args: Args, kwargs: Kwargs) -> None:
        named = dict(zip(ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
        call = self.conditioner.call_of(named)
        if call is None or call.rows is None:
            return
        image = named["hidden_states"]
        if image.shape[0] not in call.image_rows:
            raise LLMDiffError(
                f"A cross-attention layer was given {image.shape[0]} rows in a call of {call.image_rows[0]}: switch "
                "off what splits the rows of a call within the denoiser, such as FreeNoise's split inference."
            )
        if not torch.compiler.is_compiling():
            self.branch.follow(image)
            self.add.join(layer)
        self.conditioner.attended = self.branch(image, call.rows, call.scale)


class AddBranch:
    """Before a layer's own output projection: adds the branch to what goes in (docs/method.md section 3).

    So the projection runs once, with the LoRA, quantisation or offloading that it may have, and adds its bias once.
    """

    def __init__(self, conditioner: Conditioner) -> None:
        self.conditioner = conditioner
        self.projection: list[nn.Module] = []
        self.handle: RemovableHandle | None = None

    def join(self, layer: Any) -> None:
        """Hangs itself on the layer's output projection as it is now: libraries put others in its place."""
        projection = layer.to_out[0]
        if not self.projection or self.projection[0] is not projection:
            self.leave()
            self.projection = [projection]
            self.handle = projection.register_forward_pre_hook(self)

    def leave(self) -> None:
        """Takes itself away again."""
        if self.handle is not None:
            self.handle.remove()
        self.projection, self.handle = [], None

    def __call__(self, projection: nn.Module, args: Args) -> Args | None:
        if self.conditioner.attended is None:
            return None
        attended, factor = self.conditioner.attended
        self.conditioner.attended = None
        own = args[0]
        if own.shape != attended.shape:
            raise LLMDiffError(
                f"An output projection was given features of shape {tuple(own.shape)}, and its branch has "
                f"{tuple(attended.shape)}: the base model's attention processor is not supported."
            )
        joined = own + attended if factor is None else torch.addcmul(attended, own, factor)
        return joined, *args[1:]
