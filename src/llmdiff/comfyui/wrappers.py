"""The wrappers of a ComfyUI model that has an adapter: they take the encoding out of its conditionings.

Letters in shapes: R rows of a call, T tokens of the text features, W their width, E width of the encoding, m whole
vectors of it behind each token.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.conditioning import Prepared, Rows, mask_of, may_remember, split
from llmdiff.adapter.config import AdapterConfig
from llmdiff.adapter.lora import LoRA
from llmdiff.comfyui.conditioning import MADE_BY
from llmdiff.comfyui.layers import Block
from llmdiff.comfyui.patches import CALL, Call, Joined
from llmdiff.errors import LLMDiffError

REMEMBERED = 4
"""Of so many calls, the last ones, keys and values are kept: positive and negative prompt may be called apart, and
areas of a picture have prompts of their own."""


@dataclass(frozen=True)
class Joint:
    """What a model needs of an adapter.

    Attributes:
        config: of the adapter.
        encoding_width: E.
        branches: by the layers' paths in diffusers; they follow the model to its device and dtype.
        loras: by the projections' paths in diffusers.
        made_by: what tells the adapter from others in a CONDITIONING.
    """

    config: AdapterConfig
    encoding_width: int
    branches: Mapping[str, Branch]
    loras: Mapping[str, LoRA] = field(default_factory=dict)
    made_by: str = ""


class KeptRows(Rows):
    """Rows whose keys and values are made once for each device and dtype: in ComfyUI no weight of a branch changes."""

    def recall(self, branch: Any, version: Callable[[], object], compute: Callable[[Tensor], Prepared]) -> Prepared:
        """As `Rows.recall`, of one scale."""
        if not may_remember():
            return compute(self.embeds)
        form = (branch.key.weight.device, branch.key.weight.dtype)
        known = self._kept.get(branch)
        if known is None or known[0] != form:
            known = form, compute(self.compact()[0])
            self._kept[branch] = known
        return known[1]


class Conditioned:
    """Wrappers of one model: they take the encoding out of its text features, and say so to the patches.

    ComfyUI makes a new tensor of all conditionings in every step, so rows are known again by their content.

    Args:
        joint: of the adapter.
        layers: of the model, with their branches.
        scale: the dial on the branches.
        loras: the patches of weights that the model has of the adapter, by the weights' names.
    """

    def __init__(self, joint: Joint, layers: Mapping[Block, Joined], scale: float, loras: Mapping[str, Any]) -> None:
        if not math.isfinite(scale):
            raise LLMDiffError(f"The scale is a finite number, not {scale}.")
        self.joint, self.layers, self.scale, self.loras = joint, layers, scale, loras
        self._recent: list[tuple[Tensor, KeptRows]] = []

    def scaled(self, scale: float) -> "Conditioned":
        """The same with another dial."""
        return Conditioned(self.joint, self.layers, scale, self.loras)

    def apply_model(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **others: Any,
    ) -> Any:
        """Around a model's ``apply_model``: ``c_crossattn`` is (R, T, W + m·E), and the model gets (R, T, W).

        Raises:
            LLMDiffError: in replace mode, if there is no encoding; or if it is one of another LLM.
        """
        options = {**(transformer_options or {}), CALL: None}
        if c_crossattn is not None:
            c_crossattn, embeds = self._take_apart(c_crossattn)
            if embeds is not None and not self._idle:
                options[CALL] = Call(self._mode, self._rows(embeds, x.device), self.scale, self.layers)
        return executor(x, t, c_concat, c_crossattn, control, options, **others)

    def calc_cond_batch(
        self, executor: Any, model: Any, conds: list[Any], x_in: Tensor, timestep: Tensor, model_options: Any
    ) -> Any:
        """Around the batching of conditionings: their ControlNets, which are called before the model, get text alone.

        Raises:
            LLMDiffError: if a conditioning was made by another adapter.
        """
        conds = [None if cond is None else [self._for_controlnet(one) for one in cond] for cond in conds]
        return executor(model, conds, x_in, timestep, model_options)

    def forget(self, *_: Any) -> None:
        """After sampling: gives the memory of keys and values back."""
        self._recent.clear()

    @property
    def _mode(self) -> Any:
        return self.joint.config.mode

    @property
    def _idle(self) -> bool:
        return self._mode == "augment" and self.scale == 0

    def _take_apart(self, text: Tensor) -> tuple[Tensor, Tensor | None]:
        width = self.joint.config.base.context_width
        features, embeds = split(text, width, self.joint.encoding_width)
        if embeds is None and text.shape[-1] != width:
            raise LLMDiffError(
                f"A conditioning of width {text.shape[-1]} was made for another model or by another adapter: the model "
                f"takes {width}, and the adapter adds multiples of {self.joint.encoding_width}."
            )
        if embeds is None and self._mode == "replace":
            raise LLMDiffError(
                "A conditioning has no encoding of the LLM, and the adapter replaces the model's text encoder: make it "
                "with LLMDiff Encode, the negative one too."
            )
        return features, embeds

    def _rows(self, embeds: Tensor, device: torch.device) -> KeptRows:
        for known, rows in self._recent:
            if known.shape == embeds.shape and known.device == embeds.device and torch.equal(known, embeds):
                return rows
        there = embeds.to(device)
        rows = KeptRows(there, mask_of(there))
        self._recent = [(embeds, rows), *self._recent][:REMEMBERED]
        return rows

    def _for_controlnet(self, cond: dict[str, Any]) -> dict[str, Any]:
        """A conditioning whose ControlNet, if any, gets the text features alone."""
        if cond.get(MADE_BY, self.joint.made_by) != self.joint.made_by:
            raise LLMDiffError(
                "A conditioning was made by another adapter than the model has: connect LLMDiff Encode and LLMDiff "
                "Apply to the same one."
            )
        text = cond["model_conds"].get("c_crossattn")
        if "control" not in cond or text is None or "crossattn_controlnet" in cond["model_conds"]:
            return cond
        features, embeds = self._take_apart(text.cond)
        if embeds is not None and self._mode == "replace":  # ControlNets of ComfyUI mask nothing
            features = _unpadded(features, mask_of(embeds))
        return cond | {"model_conds": cond["model_conds"] | {"crossattn_controlnet": type(text)(features)}}


def _unpadded(features: Tensor, mask: Tensor) -> Tensor:
    """Text features (R, T, W) without the tokens that are padding in every row, if all rows have the same."""
    same = bool((mask == mask[:1]).all() and mask.any())
    return features[:, mask[0]] if same else features
