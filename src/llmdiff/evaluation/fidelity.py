"""The cost of fewer bits: a language model's terms beside those of a reference, block by block.

Letters in shapes: T blocks, N tokens of a prompt, D LLM width.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmdiff import __version__
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.kept import KeptScores
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, extract_stack, tokenize
from llmdiff.progress import Progress, silent

PROMPTS = (
    "a red ball to the left of two small green cubes, at dusk",
    "An old fisherman mends his nets while the storm he has been waiting for gathers over the bay.",
    "the animal that guards the ruined library does not look dangerous",
    "cat",
)


def compare(
    llm: LanguageModel,
    reference: LanguageModel,
    prompts: Sequence[str] = PROMPTS,
    progress: Progress = silent,
    keep_in: Path | None = None,
) -> dict[str, Any]:
    """Cosines of two language models' readings of the same prompts, one prompt after the other.

    Args:
        llm: the model in fewer bits.
        reference: the same model in more.
        prompts: what both read; prompts of one token have no scores.
        progress: shows how far it is.
        keep_in: a folder for cosines while it runs: one that was interrupted goes on where it was.

    Returns:
        ``blocks``: mean and least cosine of each block's terms over the tokens, in the order in which they run;
        ``encoding``: the same of the noise-free encoding with untrained weights; ``tokens``: of all prompts; the two
        identities.

    Raises:
        LLMDiffError: if the two have other shapes.
    """
    if (llm.width, llm.block_count) != (reference.width, reference.block_count):
        raise LLMDiffError(f"{llm.name} and {reference.name} are of different shapes: compare a model with itself.")
    config = llm.resolve_extraction(None)
    of = {"fidelity": llm.identity(), "reference": reference.identity(), "prompts": prompts, "llmdiff": __version__}
    kept = KeptScores(keep_in, of)
    found: list[Any] = kept.of_model("fidelity")
    for prompt in prompts[len(found) :]:
        mine, theirs = (_read(one, prompt, config) for one in (llm, reference))
        per_block = [_cosines(a, b).tolist() for a, b in zip(mine[0], theirs[0], strict=True)]
        row = mine[1].shape[0], per_block, _cosines(mine[1], theirs[1]).tolist()
        kept.add("fidelity", len(found), [row])
        found.append(row)
        progress("reading prompts", len(found) / len(prompts))
    kept.forget()
    counts, blocks, encodings = zip(*found, strict=True)
    return {
        "model": llm.identity(),
        "reference": reference.identity(),
        "extraction": config.extraction,
        "tokens": sum(counts),
        "blocks": [{"block": number, **_summary(one)} for number, one in enumerate(zip(*blocks, strict=True), 1)],
        "encoding": _summary(encodings),
    }


def evaluate_fidelity(
    name: str,
    *,
    dtype: str = "float32",
    quantization: str | None = None,
    reference: str | None = None,
    progress: Progress = silent,
    keep_in: Path | None = None,
) -> dict[str, Any]:
    """`compare` of a language model in a dtype or quantisation with itself, or another source of it, in float32.

    Args:
        name: what to load, see `LanguageModel.load`.
        dtype: "float32", "float16" or "bfloat16".
        quantization: see `LanguageModel.load`.
        reference: what it is compared with; ``name`` if None.
        progress: shows how far it is.
        keep_in: see `compare`.

    Raises:
        LLMDiffError: if one cannot be loaded, or both are the same.

    Example:
        >>> result = evaluate_fidelity("Qwen/Qwen3-0.6B", dtype="bfloat16")
        >>> result["encoding"]["mean"] > 0.9
        True
    """
    if dtype == "float32" and quantization is None and reference in (None, name):
        raise LLMDiffError("In float32 a model is its own reference: give --dtype, --quantization or --reference.")
    if dtype not in ("float32", "float16", "bfloat16"):
        raise LLMDiffError(f"There is no dtype {dtype!r} to load a model in: choose float32, float16 or bfloat16.")
    fewer = LanguageModel.load(name, dtype=getattr(torch, dtype), quantization=quantization)
    return compare(fewer, LanguageModel.load(reference or name), progress=progress, keep_in=keep_in)


def _read(llm: LanguageModel, prompt: str, config: ExtractionConfig) -> tuple[Tensor, Tensor]:
    """The terms (T, N, D) of all blocks and the encoding (N, D) of a prompt."""
    tokens = tokenize(llm, [prompt], config)
    _, stack = extract_stack(llm, tokens, config)
    text_encoding = TextEncoding(config, llm.width, llm.block_count).eval()
    encoding = encode(llm, [prompt], config, text_encoding)
    return stack[:, tokens.kept.to(stack.device)].cpu(), encoding.embeds[encoding.mask].cpu()


def _cosines(mine: Tensor, theirs: Tensor) -> Tensor:
    """Cosine of each token's vector, without those that are 0 in both: (N, D) twice to (at most N,)."""
    there = mine.any(-1) | theirs.any(-1)
    return F.cosine_similarity(mine[there].double(), theirs[there].double(), dim=-1)


def _summary(cosines: Iterable[Sequence[float]]) -> dict[str, float]:
    """Of the cosines of all prompts."""
    values = [value for own in cosines for value in own]
    return {"mean": round(fmean(values), 6), "least": round(min(values), 6)}
