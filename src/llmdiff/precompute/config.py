"""The part of the frozen models' work that a run keeps, and its folder."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from llmdiff.settings import Settings


class CacheConfig(Settings):
    """Work that is done once before training, and kept for this run and others.

    Entries are found by the content of all that they depend on: a run reads what an earlier one wrote as far as it
    needs the same, and never what was made with other weights, another template, dtype or resolution.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    latents: bool = Field(True, description="keep the VAE's latents; otherwise every step encodes its pictures anew")
    workers: int = Field(
        0,
        ge=0,
        description="with latents: false, processes that read and decode the pictures of the coming steps, one step "
        "each, while a step is under way; of use where an accelerator waits for them, of none where training is on the "
        "CPU, whose cores decode in the step as well",
    )
    terms: Literal["all", "grouped", "none"] = Field(
        "all",
        description="keep the LLM's terms of all blocks, or their sums over groups of neighbouring blocks, which then "
        "share one learned weight; with none, every step asks the LLM",
    )
    groups: int = Field(8, ge=1, description="how many groups of blocks there are with terms: grouped")
    answers: bool = Field(
        False,
        description="keep the base model's own predictions, the targets of objective.distil: of use where several runs "
        "with one seed and the same data follow each other, as in a comparison",
    )
    folder: Path | None = Field(None, description="where; if not given, `cache` beside the run's folder")
    check: bool = Field(
        False, description="hash everything kept before training; otherwise each entry when it is first read"
    )

    @property
    def group_count(self) -> int | None:
        """The number of groups of blocks that are kept; None keeps the blocks apart."""
        return self.groups if self.terms == "grouped" else None
