"""What a study compares, as its author writes it down before any picture is drawn."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.settings import Settings
from llmdiff.structured_text import LARGEST_YAML, parse_yaml
from llmdiff.validation_errors import valid

Question = Literal["follows", "better"]
QUESTIONS: dict[Question, str] = {
    "follows": "Which picture follows the text better?",
    "better": "Which picture looks better?",
}
"""What is asked of each pair; the first is the paper's text alignment, the second its image quality."""

_DRAWN = {"base", "base_config", "adapter", "llm", "quantization", "scale", "steps", "guidance", "negative", "size"}


class StudyConfig(Settings):
    """The settings of a study.

    Attributes:
        systems: Two or more, by name. Each is a folder of pictures (``pictures``), or models and settings to draw with
            (``adapter``, ``base``, ``scale``, ... as `GenerationRequest` takes them). Nobody who rates sees a name.
        prompts: A file as `read_prompt_file` takes it, or a list; needed where a system is drawn.
        seeds: Pictures per prompt that each drawn system draws, all from the same noise.
        questions: Of `QUESTIONS`, in this order.
        trials: Pairs that one rater is shown, besides repeats and checks; fewer if there are no more.
        repeats: Share of them that is shown twice, the second time with sides exchanged.
        checks: Share of pairs beside them of a picture and its own pieces in disorder, of which the answer is known.
        seed: Of sides and order; drawn by lot and kept in the study if not given. Whoever knows it, and this code, can
            tell which side is whose.

    Example:
        >>> config = StudyConfig(systems={"base": {"adapter": "none"}, "adapted": {}}, prompts=["a red cup"])
        >>> config.title, list(config.questions)
        ('Which picture?', ['follows', 'better'])
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="Which picture?", min_length=1, max_length=200)
    systems: dict[str, dict[str, Any]]
    prompts: Path | list[str] | None = None
    seeds: int = Field(default=1, ge=1, le=1000)
    questions: tuple[Question, ...] = Field(default=("follows", "better"), min_length=1)
    trials: int = Field(default=60, ge=1, le=1000)
    repeats: float = Field(default=0.1, ge=0, le=1)
    checks: float = Field(default=0.1, ge=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**53)

    @field_validator("questions")
    @classmethod
    def _once_each(cls, questions: tuple[Question, ...]) -> tuple[Question, ...]:
        if len(set(questions)) < len(questions):
            raise ValueError("a question stands twice")
        return questions

    @field_validator("systems")
    @classmethod
    def _systems_are_usable(cls, systems: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not 2 <= len(systems) <= 20:
            raise ValueError("there must be 2 to 20 systems to compare")
        for name, settings in systems.items():
            if not name.strip() or len(name) > 100 or name.startswith("("):
                raise ValueError("the name of a system has 1 to 100 characters and does not begin with a bracket")
            allowed = {"pictures"} if "pictures" in settings else _DRAWN
            if unknown := sorted(settings.keys() - allowed):
                raise ValueError(
                    f"the system {name!r} has the key {unknown[0]!r}: it has either 'pictures', a folder, or "
                    f"{', '.join(sorted(_DRAWN))}"
                )
        return systems

    @model_validator(mode="after")
    def _drawn_systems_have_prompts(self) -> Self:
        if self.prompts is None and self.drawn():
            raise ValueError(f"the system {self.drawn()[0]!r} is to be drawn, but no prompts are given")
        return self

    def drawn(self) -> list[str]:
        """The names of the systems that are not folders of pictures."""
        return [name for name, settings in self.systems.items() if "pictures" not in settings]

    @classmethod
    def make(cls, **settings: Any) -> Self:
        """As the constructor.

        Raises:
            LLMDiffError: A setting will not do.
        """
        with valid("The study"):
            return cls(**settings)

    @classmethod
    def read(cls, path: Path, **settings: Any) -> Self:
        """The settings of a YAML file; paths in it are relative to its folder.

        Args:
            path: The file.
            settings: Take the place of the file's.

        Raises:
            LLMDiffError: The file cannot be read, or a setting will not do.
        """
        try:
            text = read_text(open_regular(path), 4 * LARGEST_YAML)
        except (OSError, UnicodeError) as error:
            raise LLMDiffError(f"The study {path} cannot be read ({why_not(error)}).") from error
        content = parse_yaml(text, f"The study {path}")
        if not isinstance(content, dict):
            raise LLMDiffError(f"The study {path} has no settings: give it 'systems' and 'prompts'.")
        return cls.make(**(_beside(path.parent, content) | settings))


def _beside(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Settings whose paths are relative to a folder."""
    content = dict(content)
    if isinstance(content.get("prompts"), str):
        content["prompts"] = folder / content["prompts"]
    systems = content.get("systems")
    if isinstance(systems, dict):
        content["systems"] = {
            name: settings | {"pictures": str(folder / str(settings["pictures"]))}
            if isinstance(settings, dict) and "pictures" in settings
            else ({} if settings is None else settings)
            for name, settings in systems.items()
        }
    return content
