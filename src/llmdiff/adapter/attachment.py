"""An adapter at work: its hooks on a denoiser and on ControlNets, and its prompt encoder on each pipeline."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn
from torch.utils.hooks import RemovableHandle

from llmdiff.adapter.branch import Branch
from llmdiff.adapter.conditioning import Text
from llmdiff.adapter.config import AdapterConfig
from llmdiff.adapter.hooks import AttendBranch, Conditioner, EndCall, MaskPadding, StartCall
from llmdiff.adapter.lora import LoRA, LoRAAttachment
from llmdiff.adapter.lora import check_fits as check_lora_fits
from llmdiff.adapter.prompt_encoder import ENCODE_PROMPT, PromptEncoder
from llmdiff.base import ImageModel
from llmdiff.base.diffusers_internals import (
    blocks_of,
    compute_dtype,
    forget_compiled_graphs,
    is_offloaded,
    visible_weight,
)
from llmdiff.base.layers import find_layers, has_denoiser
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding


class Weights(Protocol):
    """The part of an adapter that an attachment uses."""

    config: AdapterConfig
    prompt_weights: bool

    def named_branches(self) -> Mapping[str, Branch]:
        """The branches by the module path of their layer."""
        ...

    def named_loras(self) -> Mapping[str, LoRA]:
        """The LoRA by the module path of the projections that it changes."""
        ...

    def encode(self, prompts: list[str]) -> Encoding:
        """The encodings of prompts, (B, S, E)."""
        ...

    def text(self, encoding: Encoding) -> Text:
        """The features in place of the original text encoders' output, in replace mode."""
        ...


class Attachment:
    """An adapter on one denoiser and any number of pipelines that share it.

    Args:
        adapter: its weights.
        conditioner: what its hooks share.
        model: the image model to join.

    Raises:
        LLMDiffError: if the image model is of another shape than the adapter, has an adapter, or is offloaded in a way
            that is to be enabled after attaching.
    """

    def __init__(self, adapter: Weights, conditioner: Conditioner, model: ImageModel) -> None:
        self.adapter, self.conditioner = adapter, conditioner
        self.denoiser: Any = model.denoiser
        self.pipes: list[Any] = []
        self._handles: list[RemovableHandle] = []
        self._branches: list[AttendBranch] = []
        self._conditioned: list[nn.Module] = []
        _check_free(self.denoiser)
        model.check_fits(adapter.config.base)
        if adapter.config.lora:
            check_lora_fits(adapter.config.lora, self.denoiser)
        if adapter.config.mode == "replace":
            _check_text(adapter.config, model)
        model.warn_of_other_weights(adapter.config.base)
        self._hook(self.denoiser)
        self._layers = model.layers
        for path, branch in adapter.named_branches().items():
            attend = AttendBranch(conditioner, branch)
            self._branches.append(attend)
            self._handles.append(self._layers[path].register_forward_pre_hook(attend, with_kwargs=True))
        self._lora = LoRAAttachment(self.denoiser, conditioner, adapter.named_loras())
        self.place()
        self.hook_controlnets(model.pipe)

    def add(self, pipe: Any) -> None:
        """Encodes the prompts of a pipeline of this denoiser too; does nothing if it does so already.

        Raises:
            LLMDiffError: if the pipeline has another denoiser, or its prompts are encoded in a way that is not known.
        """
        if any(pipe is known for known in self.pipes):
            return
        if ImageModel(pipe).denoiser is not self.denoiser:
            raise LLMDiffError("The adapter is attached to another pipeline: detach it first.")
        if blocks_of(pipe) is None:
            self._replace_encode_prompt(pipe)
        else:
            _modular().place_step(pipe, self.adapter)
        self.pipes.append(pipe)
        self.hook_controlnets(pipe)

    def _replace_encode_prompt(self, pipe: Any) -> None:
        if isinstance(vars(pipe).get(ENCODE_PROMPT), PromptEncoder):
            delattr(pipe, ENCODE_PROMPT)  # of the pipeline that this one is a shallow copy of
        own = getattr(pipe, ENCODE_PROMPT, None)
        if own is None:
            kind = type(pipe).__name__
            raise LLMDiffError(f"{kind} has no {ENCODE_PROMPT}, through which an adapter gets its prompts.")
        setattr(pipe, ENCODE_PROMPT, PromptEncoder(self, pipe, own, overridden=ENCODE_PROMPT in vars(pipe)))

    @property
    def removed(self) -> bool:
        """True once `remove` has been called."""
        return not self._handles

    def remove(self) -> None:
        """Leaves the denoiser and every pipeline as they were.

        Raises:
            LLMDiffError: if something else has replaced a pipeline's ``encode_prompt`` since.
        """
        while self.pipes:
            pipe = self.pipes[-1]
            if blocks_of(pipe) is None:
                _restore(pipe)
            else:
                _modular().remove_step(pipe, self.adapter)
            self.pipes.pop()
        for handle in self._handles:
            handle.remove()
        for attend in self._branches:
            attend.add.leave()
        self._lora.remove()
        self._handles, self._branches, self._conditioned = [], [], []
        forget_compiled_graphs()

    def check(self, pipe: Any) -> None:
        """Raises LLMDiffError if a pipeline's denoiser, or some of its layers, were exchanged after it was attached."""
        if blocks_of(pipe) is not None and not has_denoiser(pipe):
            return  # a modular pipeline of a text encoder step alone
        model = ImageModel(pipe)
        layers = {id(layer) for layer in self._layers.values()}
        if model.denoiser is not self.denoiser or layers != {id(layer) for layer in model.layers.values()}:
            raise LLMDiffError(
                f"The pipeline's {model.part}, or a part of it, was exchanged after attach, and the new one has no "
                "adapter: call adapter.detach() and attach it again."
            )
        self.hook_controlnets(pipe)
        self.place()

    def hook_controlnets(self, pipe: Any) -> None:
        """Has the ControlNets of a pipeline take the encoding out of the text features that they get too."""
        for net in ImageModel(pipe).controlnets:
            if not any(net is known for known in self._conditioned):
                self._hook(net)

    def place(self) -> None:
        """Moves branches and LoRA to where the denoiser's layers are, as far as those can be seen to be anywhere."""
        dtype = compute_dtype(self.denoiser)
        for attend, path in zip(self._branches, self.adapter.named_branches(), strict=True):
            layer = self._layers[path]
            attend.add.join(layer)
            if (weight := visible_weight(layer.to_q)) is not None:
                attend.branch.follow(weight.new_empty(0, dtype=dtype))
        self._lora.place()

    def _hook(self, model: nn.Module) -> None:
        """Has a denoiser or ControlNet take apart what it gets, and nothing compiled go on without the hooks."""
        handles = [
            model.register_forward_pre_hook(StartCall(self.conditioner, model), with_kwargs=True),
            model.register_forward_hook(EndCall(self.conditioner), always_call=True),
        ]
        if self.conditioner.mode == "replace":
            mask = MaskPadding(self.conditioner)
            for layer in find_layers(model).values():
                handles.append(layer.register_forward_pre_hook(mask, with_kwargs=True))
        self._handles += handles
        self._conditioned.append(model)
        forget_compiled_graphs()


def _modular() -> Any:
    """What modular pipelines need, imported when the first one comes: diffusers takes a second for its own part."""
    from llmdiff.adapter import modular

    return modular


def _check_free(denoiser: nn.Module) -> None:
    if any(isinstance(hook, StartCall) for hook in denoiser._forward_pre_hooks.values()):
        raise LLMDiffError("The pipeline has an adapter already: detach that one first.")
    if is_offloaded(denoiser):
        raise LLMDiffError("The pipeline is offloaded already: attach the adapter before enabling offloading.")


def _check_text(recorded: AdapterConfig, model: ImageModel) -> None:
    """Raises LLMDiffError unless a denoiser takes text of the widths that an adapter in replace mode makes."""
    model.check_replaceable()
    takes = model.text_width, model.pooled_width
    makes = recorded.base.context_width, recorded.pooled_width
    if takes != makes:
        raise LLMDiffError(
            f"The base model takes text features of width {takes[0]} and a pooled vector of width {takes[1]}, and the "
            f"adapter makes {makes[0]} and {makes[1]}: attach it to a base model of the family that it was made for."
        )


def _restore(pipe: Any) -> None:
    """Gives a pipeline its own ``encode_prompt`` back."""
    encoder = vars(pipe).get(ENCODE_PROMPT)
    if not isinstance(encoder, PromptEncoder):
        raise LLMDiffError("The pipeline's encode_prompt was replaced after attach: undo that before detaching.")
    delattr(pipe, ENCODE_PROMPT)
    if encoder.overridden:
        setattr(pipe, ENCODE_PROMPT, encoder.original)
