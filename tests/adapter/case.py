"""One cell of the matrix, and what a feature of diffusers is to a test."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapter.changes import GuidanceInterval, Prepare, drop_text_encoders, end_guidance, unchanged
from adapter.families import Family
from adapter.reference import SlowReading
from adapter.tiny import PROMPT, perturb
from llmdiff.adapter import LLMDiffAdapter

BOTH = ("augment", "replace")


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: a family, a mode, and how to make an adapter."""

    family: Family
    mode: str
    make_adapter: Callable[..., LLMDiffAdapter]

    def adapter(self, pipe: Any, seed: int = 0) -> LLMDiffAdapter:
        """An adapter that changes pictures, not attached."""
        return perturb(self.make_adapter(pipe, mode=self.mode), seed)

    def attach(self, pipe: Any, seed: int = 0) -> LLMDiffAdapter:
        """An adapter that changes pictures, attached."""
        return self.adapter(pipe, seed).attach(pipe)

    def attached(self, seed: int = 0) -> tuple[Any, LLMDiffAdapter]:
        """A pipeline with such an adapter; in replace mode its text encoders are gone."""
        pipe = self.family.build()
        adapter = self.attach(pipe, seed)
        if self.mode == "replace":
            drop_text_encoders(pipe)
        return pipe, adapter

    def draw(self, pipe: Any, prompt: Any = PROMPT, **options: Any) -> Tensor:
        return self.family.draw(pipe, prompt, **options)


@dataclass(frozen=True)
class Feature:
    """A feature and how it is tested.

    Attributes:
        prepare: turns it on; gives the pipeline to draw with.
        after: whether that happens after the adapter is attached, and not before.
        options: of the call.
        seen: the modes in which it makes another picture.
        needs: the pipeline of the family that it is a feature of, if not of the plain one.
        tolerance: how far a picture may be from that of the slow reading; None if it is not compared.
        check: stands in for the usual check of pictures; gives what the cell is to say, if not that it works.
        slow: whether it takes seconds.
        only: the one family that it is tried on, where it takes minutes.
    """

    prepare: Prepare = unchanged
    after: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    needs: str | None = None
    tolerance: float | None = 1e-3
    check: Callable[[Case], str | None] | None = None
    slow: bool = False
    only: str | None = None

    def base(self, case: Case) -> Tensor:
        """The base model's own picture."""
        return self.draw(case, self.prepare(case.family, case.family.build()))

    def pipeline(self, case: Case) -> tuple[Any, LLMDiffAdapter]:
        """A pipeline with the feature and an adapter; in replace mode without text encoders."""
        pipe = case.family.build()
        if not self.after:
            pipe = self.prepare(case.family, pipe)
        adapter = case.attach(pipe)
        if case.mode == "replace":
            drop_text_encoders(pipe)
        if self.after:
            pipe = self.prepare(case.family, pipe)
            adapter.attach(pipe)
        return pipe, adapter

    def reference(self, case: Case) -> Any:
        """A pipeline with the feature that reads the same adapter slowly, row by row."""
        pipe = case.family.build()
        if not self.after:
            pipe = self.prepare(case.family, pipe)
        adapter = case.adapter(pipe)
        if self.after:
            pipe = self.prepare(case.family, pipe)
        SlowReading(adapter, pipe)
        return pipe

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return case.draw(pipe, prompt, **self.options)

    def compare(self, case: Case, picture: Tensor) -> None:
        """Holds a picture of the usual prompt to that of the slow reading."""
        if self.tolerance is not None:
            expected = self.draw(case, self.reference(case))
            assert torch.allclose(picture, expected, atol=self.tolerance), (picture - expected).abs().max()


@dataclass(frozen=True)
class EndsGuidance(Feature):
    """Guidance that a callback ends asks for all tensors that the family's pipeline keeps for both halves."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return self.called_back(case, pipe, prompt, end_guidance)

    def called_back(self, case: Case, pipe: Any, prompt: str, callback: Any, **options: Any) -> Tensor:
        known = ("prompt_embeds", "add_text_embeds", "add_time_ids", "attention_mask")
        tensors = [name for name in known if name in pipe._callback_tensor_inputs]
        inputs = {"callback_on_step_end_tensor_inputs": [*tensors, "latents"]}
        return case.draw(pipe, prompt, callback_on_step_end=callback, **inputs, **options)


@dataclass(frozen=True)
class IntervalOfGuidance(EndsGuidance):
    """Guidance that a callback ends and begins again."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return self.called_back(case, pipe, prompt, GuidanceInterval(), num_inference_steps=4)


@dataclass(frozen=True)
class ClipSkip(Feature):
    """Layers of CLIP that are left out are nothing to replace mode, where stock pipelines may not even know them."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return case.draw(pipe, prompt, clip_skip=1)

    def compare(self, case: Case, picture: Tensor) -> None:
        if case.mode == "augment":
            super().compare(case, picture)
        else:
            assert torch.allclose(picture, case.draw(self.reference(case)), atol=1e-3)


@dataclass(frozen=True)
class Controlled(Feature):
    """The picture that steers a ControlNet goes by another name in each family, one of which adds noise to it."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        torch.manual_seed(0)
        return case.draw(pipe, prompt, **case.family.control)


@dataclass(frozen=True)
class DoublyControlled(Feature):
    """A ControlNet pipeline with two of them."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        torch.manual_seed(0)
        images = {name: [image, 1 - image / 2] for name, image in case.family.control.items()}
        return case.draw(pipe, prompt, **images, controlnet_conditioning_scale=[1.0, 0.8])


@dataclass(frozen=True)
class Video(Feature):
    """A denoiser whose layers see the frames of a video."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return case.draw(pipe, prompt, **case.family.video)


@dataclass(frozen=True)
class Pag(Feature):
    """Perturbed-attention guidance, whose rows stand behind those of guidance, if there is any."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        return case.draw(pipe, prompt, pag_scale=3.0, **self.options)
