"""The file of a comparison: its recipe, what is changed in it, and how the results are scored."""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.settings import Settings
from llmdiff.structured_text import LARGEST_YAML, parse_yaml
from llmdiff.validation_errors import valid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}")


class Condition(Settings):
    """One row of a comparison.

    Attributes:
        about: a few words for the report.
        changes: keys of the recipe, ``reading.extraction`` say, and the values that they have here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = ""
    changes: dict[str, Any] = Field(default_factory=dict)


class Claim(Settings):
    """A sentence that the comparison tests: one condition is closer to the teacher than another.

    Attributes:
        say: the sentence.
        better: the condition that is to be closer.
        than: the other.
        wording: of the prompts that it is about; all if None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    say: str
    better: str
    than: str
    wording: Literal["plain", "natural", "unseen words"] | None = None


class ScreenSettings(Settings):
    """The cheap score of every cell: the distance to the teacher on captions that nobody was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: int = Field(24, ge=2, le=1000, description="of one, of two and of three things")
    timesteps: tuple[int, ...] = Field((900, 700, 500), min_length=1, description="of 1000")


class PictureSettings(Settings):
    """The dear score, of some conditions: pictures of the scene benchmark, and a sheet to look at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    conditions: tuple[str, ...] = ()
    limit: int | None = Field(None, ge=1, description="prompts of each group; all if not given")
    seeds: int = Field(1, ge=1, description="pictures of each prompt")
    steps: int = Field(20, ge=1, le=1000)
    guidance: float = Field(4.0, ge=0, le=100)
    sheet: tuple[str, ...] = Field((), max_length=20, description="prompts of the sheet, drawn from seed 0")


class ComparisonConfig(Settings):
    """A grid of conditions and training seeds.

    Attributes:
        title: of the report.
        notes: paragraphs of the report: what the comparison is about, and what is not in it.
        folder: where cells, caches and the report go.
        recipe: a preset's name, a recipe file, or the keys of a recipe; its folder, cache and samples are not used.
        seeds: of the training of each condition.
        reference: the condition that the others are compared with.
        conditions: by name, in the order of the report.
        claims: what is to be tested.
        screen: the score of every cell.
        pictures: the score of some.

    Example:
        >>> config = ComparisonConfig.make(
        ...     folder="runs/two", recipe="embedded", reference="llmdiff",
        ...     conditions={"llmdiff": {}, "last": {"changes": {"reading.extraction": "last"}}},
        ... )
        >>> config.seeds
        (0, 1, 2)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = "Comparison"
    notes: tuple[str, ...] = ()
    folder: Path
    recipe: str | dict[str, Any]
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str
    conditions: dict[str, Condition] = Field(min_length=2)
    claims: tuple[Claim, ...] = ()
    screen: ScreenSettings = ScreenSettings()
    pictures: PictureSettings = PictureSettings()

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("the seeds are different whole numbers from 0")
        return seeds

    @field_validator("conditions")
    @classmethod
    def _names_are_usable(cls, conditions: dict[str, Condition]) -> dict[str, Condition]:
        for name in conditions:
            if not _NAME.fullmatch(name) or name == "base":
                raise ValueError(
                    f"the name {name!r} of a condition will not do: letters, digits, spaces and . _ + - make one, and "
                    "'base' is the base model"
                )
        return conditions

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        pairs = [(claim.better, claim.than) for claim in self.claims]
        for name in (self.reference, *(one for pair in pairs for one in pair), *self.pictures.conditions):
            if name not in self.conditions:
                raise ValueError(f"there is no condition {name!r}, which the study speaks of")
        return self

    @classmethod
    def make(cls, **settings: Any) -> Self:
        """As the constructor.

        Raises:
            LLMDiffError: A setting will not do.
        """
        with valid("The comparison"):
            return cls(**settings)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings of a YAML file.

        Raises:
            LLMDiffError: The file cannot be read, or a setting will not do.
        """
        try:
            text = read_text(open_regular(path), LARGEST_YAML)
        except (OSError, UnicodeError) as error:
            raise LLMDiffError(f"The comparison {path} cannot be read ({why_not(error)}).") from error
        content = parse_yaml(text, f"The comparison {path}")
        if not isinstance(content, dict):
            raise LLMDiffError(
                f"The comparison {path} has no settings: give it 'recipe', 'conditions' and 'reference'."
            )
        return cls.make(**content)
