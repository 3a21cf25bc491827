"""The LLMDiff Adapter: makes an LLM condition an existing image model (Dong et al. 2024, docs/method.md section 3).

Letters in shapes: B batch, S text tokens, D LLM width, E width of the encoding as the layers read it (D unless a
refiner narrows it), W width of the denoiser's text features, P width of its pooled text vector.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn

from llmdiff.adapter import storage
from llmdiff.adapter.attachment import Attachment
from llmdiff.adapter.branch import Branch, insert
from llmdiff.adapter.conditioning import Text, join, last_token
from llmdiff.adapter.config import AdapterConfig, LoRAConfig, Mode
from llmdiff.adapter.hooks import Conditioner
from llmdiff.adapter.lora import LoRA, complete
from llmdiff.adapter.refiner import Refiner, RefinerConfig
from llmdiff.base import ImageModel, Inputs
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, ExtractionConfig, LanguageModel, TextEncoding, encode


class LLMDiffAdapter(nn.Module):
    """Everything that is trained, and the hooks that put it to work in a pipeline.

    It is in eval mode at first. The LLM is no part of the module: it is not in the state dict, has no parameter to
    train, and stays on its device when the adapter moves.

    Attributes:
        config: mode, reading, and what it was made for.
        llm: the LLM, frozen.
        text_encoding: the learned part of the text encoding (docs/method.md section 2).
        refiner: blocks in which the encoding's tokens read each other, if it was asked for; None as in the paper.
        phi: φ, E to W, in replace mode; None in augment mode, where the original text encoder feeds that branch. W is
            the width that the denoiser is given, also where it projects its text before its layers read it (PixArt,
            Sana, Kolors): φ stands in for the text encoder, and that frozen projection stays in use **[choice]**.
        pool: the head that makes the pooled text vector, E to P, in replace mode where the denoiser takes one.
        width: E.
        branches: a `Branch` for every cross-attention layer, nested as the layers' module paths are.
        lora: a `LoRA` for every attention projection of the denoiser, nested alike; empty unless it was asked for.
        prompt_weights: True if ``(word:1.3)`` in a prompt is a weight and not text; False at first.

    Example:
        >>> adapter = LLMDiffAdapter.create(pipe, llm, mode="augment").attach(pipe)
        >>> image = pipe("a red cup to the left of a blue ball", num_inference_steps=2).images[0]
        >>> adapter.scale = 0.5
        >>> adapter.save_pretrained("runs/fox/adapter")
        >>> adapter.detach()
    """

    def __init__(self, config: AdapterConfig, llm: LanguageModel) -> None:
        super().__init__()
        self.config = config
        self.llm = llm
        self.text_encoding = TextEncoding(config.reading, llm.width, llm.block_count)
        self.refiner = Refiner(llm.width, config.refiner) if config.refiner else None
        self.width = self.refiner.leave.out_features if self.refiner else llm.width
        self.phi = nn.Linear(self.width, config.base.context_width) if config.mode == "replace" else None
        self.pool = nn.Linear(self.width, config.pooled_width) if config.pooled_width else None
        self.branches = nn.ModuleDict()
        for path, shape in config.base.layers.items():
            insert(self.branches, path, Branch(shape, self.width, config.mode))
        self.lora = nn.ModuleDict()
        if config.lora:
            for path, widths in config.lora.projections.items():
                insert(self.lora, path, LoRA(*widths, config.lora.rank))
        self.prompt_weights = False
        self.eval()
        self._conditioner = Conditioner(config.mode, config.base.context_width, self.width)
        self._attachment: Attachment | None = None

    @classmethod
    def create(
        cls,
        pipe: Any,
        llm: LanguageModel | str = "embedded",
        *,
        mode: Mode = "augment",
        reading: ExtractionConfig | None = None,
        refiner: RefinerConfig | None = None,
        lora: LoRAConfig | None = None,
        seed: int = 0,
    ) -> Self:
        """An untrained adapter for a pipeline, not attached yet; in augment mode it changes nothing.

        Args:
            pipe: a diffusers text-to-image pipeline, from whose denoiser all shapes are read.
            llm: the LLM or the name to load it by.
            mode: ``augment`` or ``replace``.
            reading: how prompts are read; if None the paper's way, or `last` of a text encoder that is no LLM.
            refiner: size of the blocks in which the encoding's tokens read each other; None for none.
            lora: that trains with it, on every attention projection unless it names some; None for none.
            seed: of the initial weights; torch's own random state is left alone.

        Raises:
            LLMDiffError: if the denoiser has no separate cross-attention, needs more than replace mode gives, or lacks
                a projection that the LoRA names.

        Example:
            >>> adapter = LLMDiffAdapter.create(pipe, "Qwen/Qwen3-0.6B", mode="replace", refiner=RefinerConfig())
        """
        model = ImageModel(pipe)
        base = model.describe()
        if mode == "replace":
            model.check_replaceable()
        llm = LanguageModel.load(llm) if isinstance(llm, str) else llm
        config = AdapterConfig(
            mode=mode,
            reading=llm.resolve_extraction(reading),
            llm=llm.record(),
            base=base,
            refiner=refiner,
            lora=lora and complete(lora, model.denoiser),
            pooled_width=model.pooled_width if mode == "replace" else None,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapter = cls(config, llm)
        layers = model.layers
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

        Example:
            >>> adapter = LLMDiffAdapter.from_pretrained("my-adapter", device="cpu").attach(pipe)
        """
        folder = storage.locate(name_or_path, revision)
        config = storage.read_config(folder)
        storage.check_sizes(folder, config, cls._recorded_weights)
        weights = storage.read_weights(folder)
        llm = storage.load_llm(config.llm, llm, device, quantization)
        storage.check_llm(config, llm)
        with torch.random.fork_rng():
            adapter = cls(config, llm)
        storage.check_weights(weights, adapter.state_dict())
        adapter.load_state_dict(weights)
        return adapter.to(device=device, dtype=dtype)

    def save_pretrained(self, directory: str | PathLike[str]) -> None:
        """Writes ``config.json``, ``adapter.safetensors`` and a model card; no file is ever half written.

        They are read again before they take the place of what is there.

        Raises:
            LLMDiffError: if a weight is not finite or offloaded, the disk refuses, or the files would not load again.
        """
        storage.save_adapter(directory, self.config, self.state_dict(), self._expected_weights)

    def save_lora_weights(self, directory: str | PathLike[str]) -> None:
        """Writes the LoRA alone, as ``pytorch_lora_weights.safetensors``, for pipelines without this adapter.

        An adapter that is loaded has its LoRA already; this file is for ``pipe.load_lora_weights``.

        Raises:
            LLMDiffError: if there is no LoRA, or as `save_pretrained`.
        """
        if self.config.lora is None:
            raise LLMDiffError("The adapter has no LoRA: create it with lora=LoRAConfig(rank=8) and train it.")
        storage.save_lora(directory, self.config.base.denoiser, self.lora.state_dict())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload LLMDiff Adapter",
    ) -> str:
        """Uploads what ``save_pretrained`` writes; returns the commit's address."""
        return storage.push(
            repo_id,
            self.config,
            self.state_dict(),
            self._expected_weights,
            private=private,
            token=token,
            message=commit_message,
        )

    def attach(self, pipe: Any) -> Self:
        """Puts the adapter to work in a pipeline, whose own call is used as before.

        The adapter moves to the denoiser's device, and its branches to the denoiser's dtype; ``text_encoding`` and φ
        run once per prompt and keep theirs. A second pipeline may be given if it shares the denoiser, as those of
        ``from_pipe`` do. Of a modular pipeline the text encoder step is exchanged, see `llmdiff.adapter.modular`.
        Attach before offloading is enabled. In replace mode the pipeline's text encoders are not used, so they may be
        set to None, and its ControlNets read φ(c) too. Saving the pipeline writes the base model alone.

        Raises:
            LLMDiffError: if the pipeline has other layers than the adapter, has an adapter, or does not share the
                denoiser of the one that this adapter is attached to.

        Example:
            >>> _ = adapter.attach(pipe)
            >>> other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
            >>> _ = adapter.attach(other)  # else its prompts would be read by its own text encoder alone
        """
        if self._attachment is None:
            self.join(ImageModel(pipe))
        assert self._attachment is not None
        try:
            self._attachment.add(pipe)
        except LLMDiffError:
            if not self._attachment.pipes:
                self.detach()
            raise
        return self

    def join(self, model: ImageModel) -> Self:
        """Puts the adapter to work in a denoiser alone, whose caller gets its text features from `condition`.

        The ControlNets of the pipeline take such text features too. Another pipeline of the same denoiser may follow.

        Raises:
            LLMDiffError: if the denoiser has other layers than the adapter, has an adapter, or is offloaded, or this
                adapter is attached to another one.
        """
        if self._attachment is None:
            self._attachment = Attachment(self, self._conditioner, model)
            self.to(model.device)
        elif self._attachment.denoiser is not model.denoiser:
            raise LLMDiffError("The adapter is attached already: detach it first.")
        else:
            self._attachment.hook_controlnets(model.pipe)
        return self

    def detach(self) -> None:
        """Leaves every pipeline as it was before ``attach``; does nothing if there is none."""
        if self._attachment is not None:
            self._attachment.remove()
            self._attachment = None

    @property
    def attachment(self) -> Attachment:
        """What the adapter is attached by.

        Raises:
            LLMDiffError: if it is attached to nothing.
        """
        if self._attachment is None:
            raise LLMDiffError("The adapter is not attached: call adapter.attach(pipe) first.")
        return self._attachment

    @property
    def pipes(self) -> list[Any]:
        """The pipelines that the adapter is attached to."""
        return [] if self._attachment is None else self._attachment.pipes

    @property
    def denoiser(self) -> nn.Module:
        """The denoiser that the adapter is attached to.

        Raises:
            LLMDiffError: if it is attached to none.
        """
        denoiser: nn.Module = self.attachment.denoiser
        return denoiser

    @property
    def scale(self) -> float:
        """The dial on the new branches: 1 as trained; 0 in augment mode is exactly the base model."""
        return self._conditioner.scale

    @scale.setter
    def scale(self, value: float) -> None:
        if not math.isfinite(value):
            raise LLMDiffError(f"The scale is a finite number, not {value}.")
        self._conditioner.scale = float(value)

    @property
    def idle(self) -> bool:
        """True if the base model runs as if there were no adapter, without asking the LLM."""
        return self._conditioner.idle

    def named_branches(self) -> dict[str, Branch]:
        """The branches by the module path of their layer."""
        return {path: module for path, module in self.branches.named_modules() if isinstance(module, Branch)}

    def named_loras(self) -> dict[str, LoRA]:
        """The LoRA by the module path of the projections that it changes."""
        return {path: module for path, module in self.lora.named_modules() if isinstance(module, LoRA)}

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything to train, by name.

        From then on branches and LoRA keep the dtype that they have, whatever that of the denoiser is.
        """
        self.requires_grad_(True)
        for branch in self.named_branches().values():
            branch.keeps_dtype = True
        for lora in self.named_loras().values():
            lora.keeps_dtype = True
        return self.named_parameters()

    def encode(self, prompts: Sequence[str]) -> Encoding:
        """The encodings of prompts, (B, S, E), refined if there is a refiner, without gradient.

        Raises:
            LLMDiffError: if one is not finite.

        Example:
            >>> encoding = adapter.encode(["a red cup", "a cup"])
            >>> encoding.embeds.shape == (*encoding.mask.shape, adapter.width)
            True
        """
        encoding = encode(self.llm, prompts, self.config.reading, self.text_encoding, weighted=self.prompt_weights)
        if not encoding.embeds.isfinite().all():
            raise LLMDiffError(
                f"{self.llm.name} gives values that are not finite in {self.llm.dtype}: load it in bfloat16 or float32."
            )
        with torch.no_grad():
            return self.refine(encoding)

    def refine(self, encoding: Encoding) -> Encoding:
        """The encoding (B, S, D) as the layers read it, (B, S, E): refined if there is a refiner, else unchanged."""
        return encoding if self.refiner is None else self.refiner(encoding)

    def text(self, encoding: Encoding) -> Text:
        """The features in place of the original text encoders' output, in replace mode.

        Args:
            encoding: c, (B, S, E).

        Returns:
            φ(c), (B, S, W), and the pooled vector of the last real token, (B, P), if there is one.

        Raises:
            LLMDiffError: in augment mode, which has no φ.
        """
        if self.phi is None:
            raise LLMDiffError("An adapter in augment mode has no φ: give the denoiser the original text features.")
        weight = self.phi.weight
        encoding = encoding.to(weight.device, weight.dtype)
        features = self.phi(encoding.embeds).masked_fill(~encoding.mask[..., None], 0)
        return Text(features, None if self.pool is None else self.pool(last_token(encoding)))

    def condition(self, encoding: Encoding, prompt_embeds: Tensor | None = None) -> Tensor:
        """The ``encoder_hidden_states`` of a direct call of the denoiser, one row for each prompt.

        Args:
            encoding: c, (B, S, E).
            prompt_embeds: (B, T, W), the original text features; in replace mode φ(c) takes their place.

        Returns:
            (B, T, W + m·E), see `llmdiff.adapter.conditioning`.

        Raises:
            LLMDiffError: in augment mode, if there are no text features, or of another number of prompts.

        Example:
            >>> _ = adapter.join(ImageModel(pipe))
            >>> prompt_embeds, _ = pipe.encode_prompt("a red cup", "cpu", 1, False)
            >>> text = adapter.condition(adapter.encode(["a red cup"]), prompt_embeds)
            >>> noise = pipe.unet(torch.randn(1, 4, 8, 8), 700, encoder_hidden_states=text).sample
        """
        if self.config.mode == "replace":
            prompt_embeds = self.text(encoding).prompt_embeds
        elif prompt_embeds is None:
            raise LLMDiffError("In augment mode the denoiser reads its own text features too: pass prompt_embeds.")
        joined = join(prompt_embeds, encoding)
        self._conditioner.know(joined, prompt_embeds, encoding)
        return joined

    def denoiser_inputs(self, encoding: Encoding, text: Inputs | None = None) -> Inputs:
        """Keyword arguments of a direct call of the denoiser under the LLM.

        Args:
            encoding: c, (B, S, D).
            text: in augment mode the base model's own, as `ImageModel.encode` makes them.

        Returns:
            ``encoder_hidden_states`` and whatever else the denoiser takes of the text.
        """
        if self.config.mode == "augment":
            assert text is not None
            return text | {"encoder_hidden_states": self.condition(encoding, text["encoder_hidden_states"])}
        inputs: Inputs = {"encoder_hidden_states": self.condition(encoding)}
        pooled = self.text(encoding).pooled_prompt_embeds
        return inputs if pooled is None else inputs | {"added_cond_kwargs": {"text_embeds": pooled}}

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within it, calls of the denoiser and of the pipelines are the base model's own, in both modes.

        Example:
            >>> _ = adapter.attach(pipe)
            >>> with adapter.disable_adapter():
            ...     image = pipe("a red cup", num_inference_steps=2).images[0]  # the base model's
        """
        before, self._conditioner.enabled = self._conditioner.enabled, False
        try:
            yield
        finally:
            self._conditioner.enabled = before

    def _expected_weights(self, config: AdapterConfig) -> dict[str, Tensor]:
        """The names and shapes of the weights that an adapter of a config has for this LLM."""
        with torch.device("meta"):
            return type(self)(config, self.llm).state_dict()

    @classmethod
    def _recorded_weights(cls, config: AdapterConfig) -> dict[str, Tensor]:
        """The names and shapes of the weights that an adapter of a config has, by what it records of its LLM."""
        llm: Any = SimpleNamespace(width=config.llm["width"], block_count=config.llm["blocks"])
        with torch.device("meta"):
            return cls(config, llm).state_dict()
