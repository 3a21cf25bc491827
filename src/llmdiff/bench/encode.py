"""What reading a prompt costs beside one plain forward pass of the same LLM over the same tokens.

Letters in shapes: B prompts, S tokens of each.
"""

from dataclasses import dataclass
from typing import Any

import torch

from llmdiff.bench import shapes
from llmdiff.bench.measure import Figures, call_memory, count_launches, default_device, interleaved
from llmdiff.language import ExtractionConfig, LanguageModel, Tokens, extract_sum
from llmdiff.language.text_encoding import fixed_weights

PLAIN = "plain forward"
VARIANTS = ("llmdiff", "norm-mean", "last", "layer:1")


@dataclass(frozen=True)
class EncodeFigures:
    """The figures of one extraction.

    Attributes:
        llm: its shape.
        prompts: B.
        tokens: S.
        time: see `Figures`; the reference is a plain forward pass.
        launches: of a call.
        call_memory: the most that the call has at one time beside the LLM, in bytes (see `measure.call_memory`).
        call_memory_ratio: of that to the plain forward pass's.
        memory: the same with the LLM's weights, in bytes.
        memory_ratio: of that to the plain forward pass's.
    """

    llm: str
    prompts: int
    tokens: int
    time: Figures
    launches: int
    call_memory: int
    call_memory_ratio: float
    memory: int
    memory_ratio: float


def bench_encode(llm: str, prompts: int, tokens: int, rounds: int) -> list[EncodeFigures]:
    """Measures extractions of random tokens in one batch, in turn with a plain forward pass.

    Args:
        llm: a shape of `shapes.LLMS`, with random weights, or what `LanguageModel.load` takes.
        prompts: B.
        tokens: S.
        rounds: see `interleaved`.

    Raises:
        LLMDiffError: if the LLM cannot be loaded, or there is no room for its weights.
    """
    model = load(llm)
    runs = {name: _call(model, name, prompts, tokens) for name in (PLAIN, *VARIANTS)}
    times = interleaved(runs, rounds, PLAIN)
    weights = sum(weight.numel() * weight.element_size() for weight in model.model.parameters())
    memory = {name: call_memory(run) for name, run in runs.items()}
    return [
        EncodeFigures(
            llm,
            prompts,
            tokens,
            row,
            launches=count_launches(runs[row.variant]),
            call_memory=memory[row.variant],
            call_memory_ratio=round(memory[row.variant] / memory[PLAIN], 3),
            memory=weights + memory[row.variant],
            memory_ratio=round((weights + memory[row.variant]) / (weights + memory[PLAIN]), 3),
        )
        for row in times
    ]


def load(llm: str) -> LanguageModel:
    """An LLM by its shape or its name: in bfloat16 on a GPU, in float32 on the CPU.

    Raises:
        LLMDiffError: it cannot be loaded, or there is no room for its weights.
    """
    device = default_device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if llm in shapes.LLMS:
        return shapes.llm(llm, device, dtype)
    return LanguageModel.load(llm, device=device, dtype=dtype)


def _call(llm: LanguageModel, variant: str, prompts: int, tokens: int) -> Any:
    """One way to run the LLM over random tokens (B, S)."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, min(4000, llm.config.vocab_size), (prompts, tokens), generator=generator).to(llm.device)
    if variant == PLAIN:
        return torch.no_grad()(lambda: llm.model(input_ids=ids, use_cache=False))
    config = ExtractionConfig.model_validate({"extraction": variant})
    every = torch.ones(llm.block_count)
    weights = every if variant == "llmdiff" else fixed_weights(config, llm.block_count)
    batch = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    return lambda: extract_sum(llm, batch, config, weights)
