"""An adapter read slowly: one image row and one prompt at a time, sharing nothing with the package but the weights.

A pipeline without an adapter gets hooks that know each row of a denoiser call by its text features, which the base
model's own text encoders made, encode that row's prompt alone, and add what method.md section 3 says. Whatever a
pipeline does to its rows, the picture is the one that an attached adapter has to draw.
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.base.diffusers_internals import result_names
from llmdiff.base.layers import find_layers

TEXT = "encoder_hidden_states"
MASKED = -10000.0


@dataclass(frozen=True)
class Row:
    """What one row of a denoiser call is to read: c (S, D) and, in replace mode, φ(c) (S, W) and the pooled vector."""

    encoding: Tensor
    text: Tensor | None
    pooled: Tensor | None


def named_inputs(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a model by the names of its parameters."""
    arguments = dict(inspect.signature(type(model).forward).bind(model, *args, **kwargs).arguments)
    del arguments["self"]
    return arguments | arguments.pop("kwargs", {})


class SlowReading:
    """Has a pipeline draw what it would draw with an adapter attached.

    Args:
        adapter: its weights; it is not attached.
        pipe: the pipeline, with its own text encoders.
    """

    def __init__(self, adapter: LLMDiffAdapter, pipe: Any) -> None:
        self.adapter = adapter
        self.known: list[tuple[Tensor, Row]] = []
        self.read: dict[str, Row] = {}
        self.rows: list[Row] = []
        self.stock = pipe.encode_prompt
        pipe.encode_prompt = self.encode_prompt
        model = ImageModel(pipe)
        for part in (model.denoiser, *model.controlnets):
            part.register_forward_pre_hook(self.start, with_kwargs=True)
            for layer in find_layers(part).values():
                layer.register_forward_pre_hook(self.mask, with_kwargs=True)
        for path, layer in model.layers.items():
            Joined(self, layer, adapter.named_branches()[path])
        for path, lora in adapter.named_loras().items():
            model.denoiser.get_submodule(path).register_forward_hook(self.added(lora))

    def added(self, lora: Any) -> Any:
        """What is hung on a projection: its output, with up · down of what it was given."""

        def add(projection: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
            down, up = lora.down.to(args[0]), lora.up.to(args[0])
            return output + self.adapter.scale * args[0] @ down.T @ up.T

        return add

    @property
    def replaces(self) -> bool:
        return self.adapter.config.mode == "replace"

    def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's own, whose results say from then on which prompt a row of text features is of."""
        returned = self.stock(*args, **kwargs)
        values = returned if isinstance(returned, tuple) else (returned,)
        results = dict(zip(result_names(self.stock), values, strict=True))
        call = inspect.signature(self.stock).bind(*args, **kwargs)
        call.apply_defaults()
        for sign in ("", "negative_"):
            features, given = results.get(f"{sign}prompt_embeds"), call.arguments.get(f"{sign}prompt_embeds")
            if features is not None and given is None:
                prompts = call.arguments.get(f"{sign}prompt")
                prompts = [prompts or ""] if prompts is None or isinstance(prompts, str) else prompts
                each = len(features) // len(prompts)
                for i, row in enumerate(features):
                    self.learn(row, {prompts[i // each]: 1.0})
        return returned

    def learn(self, features: Tensor, mixture: dict[str, float]) -> None:
        """Text features (T, W) are from now on those of a prompt, or of a weighted sum of some."""
        rows = [self.row(prompt) for prompt in mixture]

        def mixed(parts: list[Tensor]) -> Tensor:
            padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            return torch.einsum("p, p... -> ...", torch.tensor(list(mixture.values())), padded)

        texts, pooled = [row.text for row in rows], [row.pooled for row in rows]
        row = Row(
            mixed([row.encoding for row in rows]),
            mixed(texts) if self.replaces else None,
            mixed(pooled) if pooled[0] is not None else None,
        )
        self.known.append((features.clone(), row))

    @torch.no_grad()
    def row(self, prompt: str) -> Row:
        """A prompt read alone."""
        if prompt not in self.read:
            one = self.adapter.encode([prompt])
            encoding = one.embeds[0][one.mask[0]]
            text = self.adapter.phi(encoding) if self.replaces else None
            self.read[prompt] = Row(encoding, text, self.adapter.pool(encoding[-1]) if self.adapter.pool else None)
        return self.read[prompt]

    def start(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        arguments = named_inputs(model, args, kwargs)
        self.rows = [self.row_of(features) for features in arguments[TEXT]]
        if self.replaces:
            texts = [row.text for row in self.rows]
            arguments[TEXT] = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).to(arguments[TEXT])
            arguments.pop("encoder_attention_mask", None)
            added = arguments.get("added_cond_kwargs")
            if added and "text_embeds" in added:
                each = len(self.rows) // len(added["text_embeds"])  # frames may have rows of text, but none of these
                pooled = torch.stack([row.pooled for row in self.rows[::each]]).to(added["text_embeds"])
                arguments["added_cond_kwargs"] = added | {"text_embeds": pooled}
        return (), arguments

    def row_of(self, features: Tensor) -> Row:
        """What text features (T, W) stand for; those that stand for several things tell nothing."""
        found = [row for known, row in self.known if torch.equal(known.to(features), features)]
        assert found, "text features of no known prompt"
        assert all(torch.equal(row.encoding, found[0].encoding) for row in found), "two prompts look alike"
        return found[0]

    def mask(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Of φ(c), each row attends its own tokens."""
        if not self.replaces:
            return None
        named = dict(zip(("hidden_states", TEXT, "attention_mask"), args, strict=False)) | kwargs
        image = named.pop("hidden_states")
        lengths = [len(row.encoding) for row in self.rows]
        outside = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
        scores = torch.zeros(outside.shape, dtype=image.dtype).masked_fill(outside, MASKED)[:, None]
        return (image,), named | {"attention_mask": scores.repeat_interleave(len(image) // len(scores), 0)}


class Joined:
    """A layer whose output projection is given the sum of both branches."""

    def __init__(self, reading: SlowReading, layer: Any, branch: Any) -> None:
        self.reading, self.branch = reading, branch
        self.attended: Tensor | None = None
        self.handle: Any = None
        layer.register_forward_pre_hook(self.before, with_kwargs=True)
        layer.register_forward_hook(self.after)

    def before(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        image, rows = (args[0] if args else kwargs["hidden_states"]), self.reading.rows
        frames = len(image) // len(rows)
        assert frames * len(rows) == len(image)
        self.attended = torch.stack([self.attend(one, rows[i // frames].encoding) for i, one in enumerate(image)])
        self.handle = layer.to_out[0].register_forward_pre_hook(self.join)

    def after(self, layer: Any, args: tuple[Any, ...], output: Any) -> None:
        self.handle.remove()

    def attend(self, image: Tensor, encoding: Tensor) -> Tensor:
        """attn(τ_q(q), τ_k(c), τ_v(c)) · a2·e^{b2} of (N, Q) and (S, D): (N, I)."""
        branch, gate = self.branch, self.branch.gate
        query, key, value = branch.query(branch.norm(image)), branch.key(encoding), branch.value(encoding)
        heads = [part.chunk(branch.heads, -1) for part in (query, key, value)]
        attended = [(q @ k.T / math.sqrt(q.shape[-1])).softmax(-1) @ v for q, k, v in zip(*heads, strict=True)]
        return torch.cat(attended, -1) * gate.a2 * gate.b2.exp() * self.reading.adapter.scale

    def join(self, projection: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        own, gate = args[0], self.branch.gate
        return (own if gate.a1 is None else own * gate.a1 * gate.b1.exp()) + self.attended, *args[1:]
