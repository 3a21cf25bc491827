"""The extraction: all that an encoding depends on besides the LLM, its tokenizer and the learned weights."""

import re
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from llmdiff.errors import LLMDiffError
from llmdiff.settings import Settings

EXTRACTIONS = ("llmdiff", "last", "penultimate", "layer:k", "mean", "norm-mean", "weighted", "signed", "attention")


class ExtractionConfig(Settings):
    """The way from prompts to encodings (docs/method.md sections 1 and 2). Recorded in every adapter.

    ``extraction`` names what is taken from the blocks:

    - ``llmdiff``: the context scores of all blocks, weighted by a learned g (Dong et al. 2024).
    - ``last``: the output of the model's final norm; ``penultimate``: the output of the block before the last one.
    - ``layer:k``: the output of the k-th block, 1 being the first one to run.
    - ``mean``: the mean of all block outputs; ``norm-mean``: the mean of their LayerNorms (Wang et al., CVPR 2025).
    - ``weighted``: the mean of all block outputs with weights from a learned softmax.
    - ``signed``: the sum of their LayerNorms with learned weights of either sign, which a softmax lacks.
    - ``attention``: the mean of their LayerNorms with weights from a softmax of its own for each token, by a learned
      query.

    ``score``, ``normalise``, ``start``, ``fixed_g`` and ``noise`` concern ``llmdiff`` alone. ``score="conditional"``
    takes a block's update for the score, without the unconditional term. ``normalise="rms"`` scales every score
    and the token embedding c^T to a root mean square of 1 **[choice]**: unscaled, an embedding (0.11 in SmolLM2) is
    lost beside the sum of the scores, and with it the token's own meaning.

    A template may have the prompt twice, ``"{prompt}\n{prompt}"``: then the second copy is read, of which each token
    has seen the whole prompt, though the LLM is causal (Springer et al. 2024, arXiv 2402.15449).

    Raises:
        LLMDiffError: if the extraction is unknown or the template has no place for the prompt.

    Example:
        >>> ExtractionConfig(template="Describe: {prompt}", max_tokens=512).extraction
        'llmdiff'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    extraction: str = "llmdiff"
    score: Literal["residual", "difference", "conditional"] = "residual"
    normalise: Literal["none", "rms"] = "rms"
    start: Literal["embedding", "zeros"] = "embedding"
    fixed_g: bool = Field(default=False, description="every g stays 1")
    noise: bool = True
    template: str | None = Field(default=None, description='text around "{prompt}", or "chat" for the LLM\'s own')
    max_tokens: int = Field(default=256, ge=1, description="prompt tokens kept, after the template's prefix is cut")

    @field_validator("extraction")
    @classmethod
    def _known_extraction(cls, name: str) -> str:
        if (name in EXTRACTIONS and name != "layer:k") or re.fullmatch(r"layer:[1-9]\d*", name):
            return name
        raise LLMDiffError(f"Unknown extraction {name!r}: choose one of {', '.join(EXTRACTIONS)}, with k from 1.")

    @model_validator(mode="after")
    def _template_takes_the_prompt(self) -> Self:
        if self.template not in (None, "chat") and self.template.count("{prompt}") not in (1, 2):
            raise LLMDiffError(f'The template {self.template!r} must be "chat" or contain {{prompt}} once or twice.')
        return self
