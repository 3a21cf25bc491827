"""The LLMDiff Adapter: makes an LLM condition an existing image model (Dong et al. 2024, method.md section 3).

Letters in shapes: B batch, S text tokens, D LLM width, W width of the denoiser's text features, P width of its pooled
text vector.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from llmdiff.adapter import prompts as prompt_reading
from llmdiff.adapter import storage
from llmdiff.adapter.branch import Branch, insert_branch
from llmdiff.adapter.config import AdapterConfig, Mode
from llmdiff.adapter.context import Binding, Context, StandIn, last_token
from llmdiff.adapter.hooks import attach_branches, attach_reading, detach_branches
from llmdiff.adapter.layers import (
    check_fits,
    check_replaceable,
    check_text,
    describe_base,
    find_controlnets,
    find_denoiser,
    find_layers,
    pooled_width,
)
from llmdiff.adapter.refiner import Refiner, RefinerConfig
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, ExtractionConfig, LanguageModel, TextEncoding, encode


class LLMDiffAdapter(nn.Module):
    """Everything that is trained, and the hooks that put it to work in a pipeline.

    It is in eval mode at first. The LLM is no part of the module: it is not in the state dict, has no parameter to
    train, and stays on its device when the adapter moves.

    Attributes:
        config: mode, reading, and what it was made for.
        llm: the LLM, frozen.
        text_encoding: the learned part of the text encoding (method.md section 2).
        refiner: blocks in which the encoding's tokens read each other, if it was asked for; None as in the paper.
        phi: φ, D to W, in replace mode; None in augment mode, where the original text encoder feeds that branch. W is
            the width that the denoiser is given, also where it projects its text before its layers read it (PixArt,
            Sana, Kolors): φ stands in for the text encoder, and that frozen projection stays in use **[choice]**.
        pool: the head that makes the pooled text vector, D to P, in replace mode where the denoiser takes one.
        branches: a `Branch` for every cross-attention layer, nested as the layers' module paths are.
        prompt_weights: whether ``(word:1.3)`` in a prompt is a weight and not text; False at first.
    """

    def __init__(self, config: AdapterConfig, llm: LanguageModel) -> None:
        super().__init__()
        self.config = config
        self.llm = llm
        self.text_encoding = TextEncoding(config.reading, llm.width, llm.block_count)
        self.refiner = Refiner(llm.width, config.refiner) if config.refiner else None
        self.phi = nn.Linear(llm.width, config.base.context_width) if config.mode == "replace" else None
        self.pool = nn.Linear(llm.width, config.pooled_width) if config.pooled_width else None
        self.branches = nn.ModuleDict()
        for path, shape in config.base.layers.items():
            insert_branch(self.branches, path, Branch(shape, llm.width, config.mode))
        self.prompt_weights = False
        self.eval()
        self._context = Context(config.mode)
        self._denoiser: list[nn.Module] = []  # a list, so that the base model does not become a part of this module
        self._pipes: list[Any] = []
        self._handles: list[RemovableHandle] = []

    @classmethod
    def create(
        cls,
        pipe: Any,
        llm: LanguageModel | str = "embedded",
        *,
        mode: Mode = "augment",
        reading: ExtractionConfig | None = None,
        refiner: RefinerConfig | None = None,
        seed: int = 0,
    ) -> Self:
        """An untrained adapter for a pipeline, not attached yet; in augment mode it changes nothing.

        Args:
            pipe: a diffusers text-to-image pipeline, from whose denoiser all shapes are read.
            llm: the LLM or the name to load it by.
            mode: ``augment`` or ``replace``.
            reading: how prompts are read; if None the paper's way, or `last` of a text encoder that is no LLM.
            refiner: size of the blocks in which the encoding's tokens read each other; None for none.
            seed: of the initial weights; torch's own random state is left alone.

        Raises:
            LLMDiffError: if the denoiser has no separate cross-attention, or needs more than replace mode gives.
        """
        denoiser = find_denoiser(pipe)
        base = describe_base(pipe)
        if mode == "replace":
            check_replaceable(pipe)
        llm = LanguageModel.load(llm) if isinstance(llm, str) else llm
        config = AdapterConfig(
            mode=mode,
            reading=llm.resolve_extraction(reading),
            llm=llm.identity(),
            base=base,
            refiner=refiner,
            pooled_width=pooled_width(pipe) if mode == "replace" else None,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapter = cls(config, llm)
        layers = find_layers(denoiser)
        for path, branch in adapter.named_branches().items():
            branch.copy_query(layers[path])
        return adapter

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str],
        *,
        llm: LanguageModel | str | None = None,
        quantization: str | None = None,
        revision: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A trained adapter from a folder or the Hub.

        Args:
            name_or_path: a folder that ``save_pretrained`` wrote, or a Hub id.
            llm: the LLM or the name to load it by; the one that the adapter was trained with if None.
            quantization: of an LLM that is loaded here, see `LanguageModel.load`; as in training if None.
            revision: of the Hub repository.
            device: of the adapter and of an LLM that is loaded here.
            dtype: of the adapter.

        Raises:
            LLMDiffError: if it cannot be found or read, or the LLM is of another shape.
        """
        folder = storage.locate(name_or_path, revision)
        config = storage.read_config(folder)
        weights = storage.read_weights(folder)
        llm = storage.load_llm(config.llm, llm, device, quantization)
        storage.check_llm(config.llm, llm.identity())
        with torch.random.fork_rng():
            adapter = cls(config, llm)
        storage.check_weights(weights, adapter.state_dict())
        adapter.load_state_dict(weights)
        return adapter.to(device=device, dtype=dtype)

    def save_pretrained(self, directory: str | PathLike[str]) -> None:
        """Writes ``config.json``, ``adapter.safetensors`` and a model card; no file is ever half written."""
        storage.save_adapter(directory, self.config, self.state_dict())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload LLMDiff Adapter",
    ) -> str:
        """Uploads what ``save_pretrained`` writes; returns the commit's address."""
        return storage.push(repo_id, self.config, self.state_dict(), private, token, commit_message)

    def attach(self, pipe: Any) -> Self:
        """Puts the adapter to work in a pipeline, whose own call is used as before.

        The adapter moves to the denoiser's device, and its branches to the denoiser's dtype; ``text_encoding`` and φ
        run once per prompt and keep theirs. A second pipeline may be given if it shares the denoiser, as those of
        ``from_pipe`` do. Attach before offloading is enabled. In replace mode the pipeline's text encoders are not
        used, so they may be set to None, and its ControlNets read φ(c) too. Saving the pipeline writes the base model
        alone.

        Raises:
            LLMDiffError: if the pipeline has other layers than the adapter, has an adapter, or does not share the
                denoiser of the one that this adapter is attached to.
        """
        denoiser: Any = find_denoiser(pipe)
        if any(pipe is known for known in self._pipes):
            return self
        if self._denoiser and self._denoiser[0] is not denoiser:
            raise LLMDiffError("The adapter is attached to another pipeline: detach it first.")
        if not self._denoiser:
            self._join(pipe, denoiser)
        try:
            prompt_reading.install(pipe, self)
        except LLMDiffError:
            self._leave_unused()
            raise
        self._pipes.append(pipe)
        if self.config.mode == "replace":
            for net in find_controlnets(pipe):
                self._handles += attach_reading(net, self._context)
        return self

    def detach(self) -> None:
        """Leaves every pipeline as it was before ``attach``; does nothing if there is none."""
        while self._pipes:
            prompt_reading.uninstall(self._pipes[-1])
            self._pipes.pop()
        self._leave_unused()

    def _join(self, pipe: Any, denoiser: Any) -> None:
        if any(parameter.is_meta for parameter in denoiser.parameters()):
            raise LLMDiffError("The pipeline is offloaded already: attach the adapter before enabling offloading.")
        check_fits(self.config.base, denoiser)
        if self.config.mode == "replace":
            check_text(self.config, pipe)
        self._handles = attach_branches(denoiser, self.named_branches(), self._context)
        self.to(denoiser.device)
        self.branches.to(denoiser.dtype)
        self._denoiser = [denoiser]

    def _leave_unused(self) -> None:
        if self._denoiser and not self._pipes:
            detach_branches(self._denoiser[0], self.named_branches(), self._handles)
            self._denoiser, self._handles = [], []
            self.release()

    @property
    def denoiser(self) -> nn.Module:
        """The denoiser that the adapter is attached to.

        Raises:
            LLMDiffError: if it is attached to none.
        """
        if not self._denoiser:
            raise LLMDiffError("The adapter is not attached: call adapter.attach(pipe) first.")
        return self._denoiser[0]

    @property
    def scale(self) -> float:
        """The dial on the new branches: 1 as trained; 0 in augment mode is exactly the base model."""
        return self._context.scale

    @scale.setter
    def scale(self, value: float) -> None:
        if not math.isfinite(value):
            raise LLMDiffError(f"The scale is a finite number, not {value}.")
        self._context.scale = float(value)

    @property
    def idle(self) -> bool:
        """Whether the base model runs as if there were no adapter, without asking the LLM."""
        return self._context.idle

    def named_branches(self) -> dict[str, Branch]:
        """The branches by the module path of their layer."""
        return {path: module for path, module in self.branches.named_modules() if isinstance(module, Branch)}

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything to train, by name.

        Each is made to require a gradient again: while attached, ``unet.requires_grad_(False)`` and
        ``unet.add_adapter`` freeze the branches too.
        """
        self.requires_grad_(True)
        return self.named_parameters()

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """The encodings of prompts, (B, S, D), refined if there is a refiner, without gradient.

        Raises:
            LLMDiffError: if one is not finite.
        """
        encoding = encode(self.llm, prompts, self.config.reading, self.text_encoding, weighted=self.prompt_weights)
        if not encoding.embeds.isfinite().all():
            raise LLMDiffError(
                f"{self.llm.name} gives values that are not finite in {self.llm.dtype}: load it in bfloat16 or float32."
            )
        with torch.no_grad():
            return self.refine(encoding)

    def refine(self, encoding: Encoding) -> Encoding:
        """What the layers read of an encoding (B, S, D): the same, or what the refiner makes of it."""
        return encoding if self.refiner is None else self.refiner(encoding)

    def stand_in(self, encoding: Encoding) -> StandIn:
        """φ(c), (B, S, W), and the pooled vector of the last real token, (B, P): the denoiser's text in replace mode.

        Raises:
            LLMDiffError: in augment mode, which has no φ.
        """
        if self.phi is None:
            raise LLMDiffError("An adapter in augment mode has no φ: give the denoiser the original text features.")
        weight = self.phi.weight
        encoding = encoding.to(weight.device, weight.dtype)
        features = self.phi(encoding.embeds).masked_fill(~encoding.mask[..., None], 0)
        return StandIn(features, None if self.pool is None else self.pool(last_token(encoding)))

    def bind(self, positive: Encoding, negative: Encoding | None = None) -> None:
        """Makes the denoiser calls that follow read these encodings, until others are bound."""
        stand_in = self.stand_in if self.config.mode == "replace" else None
        self._context.binding = Binding(positive, negative, stand_in)

    def release(self) -> None:
        """Forgets what is bound."""
        self._context.release()

    @contextmanager
    def conditioned(self, encoding: Encoding) -> Iterator[None]:
        """Binds encodings for direct calls of the denoiser, one per row of its batch.

        In replace mode the denoiser gets φ(c) and the pooled vector whatever text it is given. With gradient
        checkpointing, call ``backward`` before the next call of the denoiser: the layers run again in it.

        Raises:
            LLMDiffError: if the adapter is not attached.
        """
        _ = self.denoiser
        previous = self._context.binding
        self.bind(encoding)
        try:
            yield
        finally:
            self._context.binding = previous

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Within it, direct calls of the denoiser are the base model's own, in both modes."""
        before = self._context.asleep
        self._context.asleep = True
        try:
            yield
        finally:
            self._context.asleep = before
