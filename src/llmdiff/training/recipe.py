"""A recipe: everything that a training run depends on, as a validated YAML file."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from llmdiff.adapter import LoRAConfig, RefinerConfig
from llmdiff.data import Data
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.language import ExtractionConfig
from llmdiff.models import Quantization
from llmdiff.precompute.config import CacheConfig
from llmdiff.settings import Settings
from llmdiff.structured_text import LARGEST_YAML, parse_yaml
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.noise import Timesteps
from llmdiff.validation_errors import first_problem

_LONGEST = 100  # characters of a name or an option that are shown


class HeldOutSettings(Settings):
    """The pictures that are held out of training, and how they are looked at every `loop.heldout_every` steps."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    share: float = Field(0.0, ge=0, lt=1, description="of the pictures, never trained on")
    levels: int = Field(5, ge=1, description="of noise, σ evenly spaced over 0 … 1")
    pictures: int = Field(128, ge=1, description="looked at, if so many are held out")


class LoRASettings(Settings):
    """A LoRA on the image model's attention, which trains with the adapter and is a part of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rank: int = Field(8, ge=1, le=1024)
    rate: float = Field(0.1, gt=0, description="learning-rate factor: the image model changes slower than the adapter")


class ObjectiveSettings(Settings):
    """The loss: what is drawn for it, what its target is, and how fast the weights follow it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    caption_dropout: float = Field(0.1, ge=0, lt=1, description="share of captions replaced by the empty prompt")
    longest_captions: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of samples with the longest caption of their picture, where it has several; by default each "
        "of them is as likely",
    )
    shuffle_captions: bool = Field(
        False, description="each picture has the captions of another: what an adapter reaches without the text"
    )
    timesteps: Timesteps = "uniform"
    high_noise_share: float = Field(
        0.0, ge=0, le=1, description="of timesteps drawn from the noisiest fifth, where layout is decided"
    )
    noise_offset: float = Field(0.0, ge=0, description="of channel means; 0.05 to 0.1 for very dark pictures")
    min_snr: float | None = Field(None, gt=0, description="γ of min-SNR weighting, 5 in its paper; none by default")
    distil: int = Field(0, ge=0, description="first steps, in which the base model's own prediction is the target")
    distil_layers: int = Field(
        0, ge=0, description="before that, steps in which the output of each of its layers is the target"
    )
    scalar_rate: float = Field(10.0, gt=0, description="learning-rate factor of gates and block weights")


OLD_KEYS = {"late": "objective.high_noise_share"} | {
    name: f"objective.{name}"
    for name in ("caption_dropout", "timesteps", "noise_offset", "min_snr", "distil", "distil_layers", "scalar_rate")
}
"""Keys of the first version's recipes, which go on working, and where their values stand now."""


class Recipe(Settings):
    """An adapter to train: its models, its data, its objective and its loop.

    Example:
        >>> Recipe(llm="Qwen/Qwen3-0.6B", data={"kind": "folder", "path": "pictures"}).mode
        'augment'
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    folder: Path = Field(Path("runs/adapter"), description="where checkpoints, logs, sheets and the adapter go")
    base: str = Field("embedded", description="embedded[-world], a folder, a single-file checkpoint or a Hub id")
    base_config: str | None = Field(None, description="a folder or Hub id of the configs of a single-file checkpoint")
    llm: str = "embedded"
    llm_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the LLM's weights")
    llm_quantization: Quantization | None = Field(None, description="of the LLM, for less memory; adds to its error")
    mode: Literal["augment", "replace"] = "augment"
    reading: ExtractionConfig = ExtractionConfig()
    data: Annotated[Data, Field(discriminator="kind")]
    objective: ObjectiveSettings = ObjectiveSettings()
    refiner: RefinerConfig | None = Field(None, description="blocks in which tokens read each other; not in the paper")
    warm_start: Literal["ridge", "none"] = Field(
        "none", description="ridge fits φ of replace mode to the base model's own text encoder before the first step"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of matrix products in training; auto: bfloat16 where the device has it"
    )
    compile: Literal["auto"] | bool = Field(
        False, description="the denoiser's blocks; auto: where there is a compiler and 500 steps or more to gain by it"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, a third more time")
    lora: LoRASettings | None = Field(None, description="a LoRA on the image model, a part of the adapter")
    heldout: HeldOutSettings = HeldOutSettings()
    samples: list[str] = Field(default_factory=list, description="prompts of the periodic sample sheets")
    loop: LoopSettings = LoopSettings()
    cache: CacheConfig = CacheConfig()

    @property
    def needs_text_encoders(self) -> bool:
        """False where nothing of a run asks the base model's own text encoders."""
        teaches = self.objective.distil or self.objective.distil_layers or self.warm_start == "ridge"
        return bool(self.mode == "augment" or teaches or self.heldout.share)

    @property
    def cache_folder(self) -> Path:
        """The folder of latents and terms: by default beside the run's folder, where other runs find them."""
        return self.cache.folder or self.folder.parent / "cache"

    @property
    def adapter_lora(self) -> LoRAConfig | None:
        """The LoRA as the adapter is made with it, None if none trains."""
        return LoRAConfig(rank=self.lora.rank) if self.lora else None

    @model_validator(mode="before")
    @classmethod
    def _take_old_keys(cls, values: Any) -> Any:
        return with_todays_keys(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _warm_start_has_a_phi(self) -> Self:
        if self.warm_start == "ridge" and self.mode == "augment":
            raise LLMDiffError(
                "warm_start: ridge fits φ, which augment mode lacks: set mode to replace or leave it out."
            )
        return self

    @field_validator("data", mode="before")
    @classmethod
    def _name_mixed(cls, data: Any) -> Any:
        """A list of sources need not say that it is one."""
        return {"kind": "mixed"} | data if isinstance(data, dict) and "sources" in data else data


def load_recipe(source: str, options: list[str] | None = None) -> Recipe:
    """Reads a recipe file, or a preset by its name, and sets `key.sub=value` options in it.

    Raises:
        LLMDiffError: There is no such file, it is not YAML, or a key or value is wrong.

    Example:
        >>> load_recipe("embedded", ["loop.steps=500"]).loop.steps
        500
    """
    values = read_values(source)
    for option in options or []:
        set_option(values, option)
    return recipe_of(values, f"The recipe {_shown(source)}")


def read_values(source: str) -> dict[str, Any]:
    """The settings in a recipe file, or in a preset by its name, under their keys of today.

    Raises:
        LLMDiffError: There is no such file, or it is not YAML.
    """
    return with_todays_keys(_read(source))


def recipe_of(values: dict[str, Any], what: str) -> Recipe:
    """The recipe of such settings.

    Args:
        values: as `read_values` gives them.
        what: its name at the beginning of the sentence that refuses it.

    Raises:
        LLMDiffError: A key or value is wrong.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise LLMDiffError(f"{what} is not valid: {first_problem(error)}.") from error
    if "\\u0000" in recipe.model_dump_json():
        raise LLMDiffError(f"{what} has a NUL character in a text, which no name of a file has.")
    return recipe


def with_todays_keys(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with those of `OLD_KEYS` where they stand now.

    Raises:
        LLMDiffError: A value is given under both names.
    """
    moved = {key: value for key, value in values.items() if key not in OLD_KEYS}
    for key in values.keys() & OLD_KEYS.keys():
        section, name = OLD_KEYS[key].split(".")
        others = moved.get(section, {})
        if not isinstance(others, dict):
            return values  # of which the validation says what is wrong
        if name in others:
            raise LLMDiffError(f"The recipe has both {key!r} and {OLD_KEYS[key]!r}, its name now: take out the first.")
        moved[section] = {**others, name: values[key]}
    return moved


def presets() -> list[str]:
    """Names of the recipes that come with llmdiff.

    Example:
        >>> presets()
        ['embedded', 'sd15', 'sd21', 'sdxl']
    """
    return sorted(path.name.removesuffix(".yaml") for path in _preset_folder().iterdir() if path.name.endswith(".yaml"))


def _preset_folder() -> Any:
    return files("llmdiff.training") / "presets"


def _read(source: str) -> dict[str, Any]:
    if source in presets():
        text = (_preset_folder() / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = read_text(open_regular(Path(source)), LARGEST_YAML)
        except (OSError, ValueError) as error:
            known, why = ", ".join(presets()), why_not(error) if isinstance(error, OSError | UnicodeError) else error
            raise LLMDiffError(
                f"The recipe {_shown(source)} cannot be read ({why}); give a YAML file or a preset ({known})."
            ) from error
    values = parse_yaml(text, f"The recipe {_shown(source)}")
    if not isinstance(values, dict):
        raise LLMDiffError(f"The recipe {_shown(source)} holds no keys; see the preset 'embedded' for an example.")
    return values


def set_option(values: dict[str, Any], option: str) -> None:
    """Puts the value of a `key.sub=value` option into nested settings, in place.

    Raises:
        LLMDiffError: The option is not of this form, or its value is not YAML.
    """
    path, equals, text = option.partition("=")
    shown = _shown(option)
    if not (equals and all(path.split("."))):
        raise LLMDiffError(f"The option '{shown}' is not of the form key=value, loop.steps=500 for instance.")
    value = parse_yaml(text, f"The value of the option '{shown}'", "mend it, or put it in quotes")
    set_value(values, path, value, shown)


def set_value(values: dict[str, Any], path: str, value: Any, shown: str) -> None:
    """Puts a value into nested settings, in place, under a key of the form `key.sub`.

    Args:
        values: of a recipe.
        path: the key.
        value: of it.
        shown: what the user has written, for the sentence that refuses it.

    Raises:
        LLMDiffError: A part of the key is a value with no keys of its own.
    """
    *parents, name = OLD_KEYS.get(path, path).split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise LLMDiffError(f"The option '{shown}' goes into {parent!r}, which has no keys of its own.")
    values[name] = value


def _shown(text: str) -> str:
    """A name or an option as a sentence has it: not too long, and in characters that any terminal and file takes."""
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…").encode(errors="backslashreplace").decode()
