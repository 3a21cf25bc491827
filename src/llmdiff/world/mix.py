"""The mix of captions: how often each kind comes among those that an adapter is trained on."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from llmdiff.settings import Settings

KINDS = ("plain", "short", "long", "tags", "implied", "foreign")
"""Of captions."""


class Mix(Settings):
    """How often each kind of caption comes, in proportion.

    Example:
        >>> Mix(plain=1, short=1, long=0, tags=0, implied=0, foreign=0).absent
        0.12
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plain: float = Field(0.25, ge=0, description="the base model's own words")
    short: float = Field(0.3, ge=0, description="one natural sentence, with synonyms")
    long: float = Field(0.15, ge=0, description="sixty to two hundred words")
    tags: float = Field(0.05, ge=0, description="a list, in any order")
    implied: float = Field(0.12, ge=0, description="things by their class and mark, a description, or a riddle")
    foreign: float = Field(0.13, ge=0, description="German, French, Spanish or Italian")
    absent: float = Field(0.12, ge=0, le=1, description="share of natural captions that say what is not there")
    keywords: float = Field(0.5, ge=0, le=1, description="share of things among tags that keywords stand for")
    defined: float = Field(0.3, ge=0, le=1, description="share of implied things that a dictionary's definition tells")

    @model_validator(mode="after")
    def _has_some(self) -> Self:
        if not sum(self.shares().values()):
            raise ValueError("no kind of caption has a share")
        return self

    def shares(self) -> dict[str, float]:
        """Of the kinds."""
        return {name: getattr(self, name) for name in KINDS}
