"""The cost of a run: parameters, memory and disk from the models' shapes alone, before any weight is there.

What a backward pass needs of the forward pass is counted by running one on torch's meta device: it is the sum of the
tensors that autograd keeps, with attention as a fused kernel keeps it.

Letters in shapes: B batch, S tokens, D LLM width, T blocks, W width of the base's text features.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data import captioned, is_at_hand
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, term_count
from llmdiff.precompute.latents import latent_bytes
from llmdiff.precompute.terms import term_bytes
from llmdiff.training.meta import meta_adapter, meta_base, meta_llm
from llmdiff.training.muon import matrices
from llmdiff.training.recipe import Recipe

TOKENS = 24
"""Tokens of a caption where no data is at hand to count them in: of a sentence of 18 words."""

_CHARACTERS = 4  # of a token, about, in English
_STATE = 4 + 4 + 8  # bytes of a trained number, its gradient, and AdamW's two moments, of which Muon has one
_KEPT = 2  # checkpoints
_PACKED = {"int8": 1.0, "8bit": 1.0, "4bit": 0.5 + 4 / 64}  # bytes of a number, with NF4's scale of every 64


@dataclass(frozen=True)
class Cost:
    """One line of the bill.

    Attributes:
        name: what it is for.
        size: bytes, about.
        note: how it comes about.
    """

    name: str
    size: int
    note: str


@dataclass(frozen=True)
class Costs:
    """The bill of a recipe.

    Attributes:
        memory: of the device that trains.
        disk: of the run's folder and the caches.
        parameters: how many numbers are trained.
    """

    memory: list[Cost]
    disk: list[Cost]
    parameters: int


def costs(recipe: Recipe) -> Costs:
    """The memory and disk that a recipe will take, from its models' configs and its data's captions.

    Raises:
        LLMDiffError: A config cannot be found or read.

    Example:
        >>> sum(cost.size for cost in costs(load_recipe("sd15")).memory)  # bytes
    """
    with torch.device("meta"):
        pipe = meta_base(recipe.base, recipe.base_config)
        llm = meta_llm(recipe.llm)
        adapter = meta_adapter(recipe, pipe, llm)
    count = term_count(adapter.config.reading, llm.block_count, recipe.cache.group_count)
    data, trained = _Data.of(recipe, ImageModel(pipe).resolution), _numbers(adapter)
    return Costs(_memory(recipe, pipe, llm, adapter, data), _disk(recipe, pipe, llm, count, data, trained), trained)


def base_resolution(base: str, config: str | None = None) -> int:
    """Side in pixels of the pictures that a base model was trained on, from its configs alone.

    Raises:
        LLMDiffError: A config cannot be found or read.
    """
    with torch.device("meta"):
        return ImageModel(meta_base(base, config)).resolution


@dataclass(frozen=True)
class _Data:
    """The amount of data to cache, by one picture and one caption where the data is not at hand."""

    pictures: int
    size: tuple[int, int]
    tokens: int
    captions: int
    known: bool

    @classmethod
    def of(cls, recipe: Recipe, side: int) -> "_Data":
        unknown = cls(1, (side, side), TOKENS, 1, known=False)
        if not is_at_hand(recipe.data):
            return unknown
        try:
            data = captioned(recipe.data, side)
        except LLMDiffError:
            return unknown
        texts = {text for captions in data.captions for text in captions}
        tokens = sum(1 + len(text) // _CHARACTERS for text in texts)
        return cls(len(data), data.size(0), tokens, len(texts), known=True)

    @property
    def longest(self) -> int:
        """Tokens of an average caption, and a half more for the padding to the longest of a batch."""
        return max(1, round(1.5 * self.tokens / self.captions))


def _memory(recipe: Recipe, pipe: Any, llm: Any, adapter: LLMDiffAdapter, data: _Data) -> list[Cost]:
    rows = [
        Cost(name, 4 * _numbers(part), f"{_numbers(part):,} numbers, frozen, float32")
        for name, part in pipe.parts.items()
    ]
    rows.append(_llm(recipe, llm))
    trained, averaged = _numbers(adapter), 4 if recipe.loop.ema else 0
    name = "AdamW" if recipe.loop.optimizer == "adamw" else "Muon"
    spared = 4 * sum(p.numel() for p in matrices(adapter)) if name == "Muon" else 0
    note = f"{trained:,} numbers, with gradients, {name}" + (" and averages" if averaged else "")
    rows.append(Cost("adapter", (_STATE + averaged) * trained - spared, note))
    batch = recipe.loop.micro_batch or recipe.loop.batch_size
    kept = _activations(recipe, pipe, adapter, batch, data)
    note = f"kept for the backward pass, {batch} pictures of {data.size[0]}×{data.size[1]} in float32"
    return [
        *rows,
        Cost("activations", kept, note + ("; half precision halves it" if recipe.precision != "float32" else "")),
    ]


def _llm(recipe: Recipe, llm: Any) -> Cost:
    size = llm_bytes(llm, recipe.llm_dtype, recipe.llm_quantization)
    note = f"{llm.numbers:,} numbers, frozen, {recipe.llm_dtype}"
    if recipe.llm_quantization is not None:
        note += f", those of linear maps in {recipe.llm_quantization}"
    return Cost("LLM", size, note)


def llm_bytes(llm: Any, dtype: str, quantization: str | None = None) -> int:
    """The bytes of an LLM's weights; a quantisation packs the linear maps, and leaves embeddings and norms as they are.

    Args:
        llm: its numbers, as `llmdiff.training.meta.meta_llm` counts them.
        dtype: the name of torch's.
        quantization: of `llmdiff.models.Quantization`.
    """
    width = getattr(torch, dtype).itemsize
    if quantization is None:
        return int(width * llm.numbers)
    return round(_PACKED[quantization] * llm.linear_numbers) + width * (llm.numbers - llm.linear_numbers)


def _disk(recipe: Recipe, pipe: Any, llm: Any, count: int, data: _Data, trained: int) -> list[Cost]:
    rows = []
    whole = "" if data.known else "for each "
    if recipe.cache.latents:
        size = data.pictures * latent_bytes(pipe.vae, *data.size)
        rows.append(Cost("latents", size, f"{data.pictures:,} pictures" if data.known else f"{whole}picture"))
    if recipe.cache.terms != "none":
        note = f"{data.captions:,} captions, about" if data.known else f"{whole}caption of"
        note += f" {data.tokens:,} tokens, {count} terms of width {llm.width} each"
        rows.append(Cost("terms", term_bytes(data.tokens, count, llm.width), note))
    size = _KEPT * trained * (_STATE - 4 + (4 if recipe.loop.ema else 0))
    return [*rows, Cost("checkpoints", size, f"the newest {_KEPT}"), Cost("adapter", 4 * trained, "float32")]


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _activations(recipe: Recipe, pipe: Any, adapter: LLMDiffAdapter, batch: int, data: _Data) -> int:
    """Bytes that autograd keeps of one forward pass of a batch."""
    base, kept = ImageModel(pipe).freeze(), _Kept()
    denoiser = base.denoiser
    if recipe.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    adapter.train().requires_grad_(True)
    adapter.join(base)
    factor = pipe.vae_scale_factor
    channels, text = denoiser.config.in_channels, adapter.config.base.context_width
    with torch.device("meta"), _FusedAttention(), kept.watching([*denoiser.parameters(), *adapter.parameters()]):
        noisy = torch.zeros(batch, channels, data.size[0] // factor, data.size[1] // factor)
        embeds = torch.zeros(batch, data.longest, adapter.width, requires_grad=True)
        mask = torch.ones(batch, data.longest, dtype=torch.bool)
        inputs: dict[str, Any] = {"encoder_hidden_states": torch.zeros(batch, 77, text)}
        if width := base.pooled_width:
            inputs["added_cond_kwargs"] = {"text_embeds": torch.zeros(batch, width)}
        inputs = adapter.denoiser_inputs(Encoding(embeds, mask), inputs)
        base.predict(noisy, torch.zeros(batch, dtype=torch.long), inputs)
    return kept.size


class _Kept:
    """Counts what autograd keeps, each storage once and without what is there anyway."""

    def __init__(self) -> None:
        self.size = 0
        self._seen: dict[int, Tensor] = {}

    @contextmanager
    def watching(self, given: list[nn.Parameter]) -> Iterator[None]:
        ours = {p.untyped_storage()._cdata for p in given}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in ours and storage._cdata not in self._seen:
                self._seen[storage._cdata] = tensor  # held, so that no other storage gets its place
                self.size += storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


class _Attention(torch.autograd.Function):
    """Keeps what a fused kernel keeps: queries, keys, values and result, and not the scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result


class _FusedAttention(TorchFunctionMode):
    """Within it, attention is `_Attention`; on the meta device torch would take the plain one."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            return _Attention.apply(named["query"], named["key"], named["value"])
        return func(*args, **(kwargs or {}))
