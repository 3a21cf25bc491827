"""What is trained, and for how long: `full.yaml`, the same on every machine, and `tiny.yaml` for a rehearsal."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmdiff.errors import LLMDiffError
from llmdiff.structured_text import parse_yaml
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.recipe import set_option
from llmdiff.validation_errors import first_problem
from llmdiff.world.things import FIRST, NAMES

UNET_STAGES = ("singles", "scenes", "relations")
STAGES = ("autoencoder", "text", *UNET_STAGES)
"""In their order."""


class StageSettings(LoopSettings):
    """Length and speed of a stage, and of how many pictures it is made."""

    compiled: bool = Field(False, description="by torch.compile, on a machine that is to; a minute, once per slice")
    pictures: int = Field(8192, ge=1, description="that are drawn, each of which comes round again and again")


class UNetSettings(StageSettings):
    """Of a stage of the U-Net."""

    noisiest: float = Field(0.2, ge=0, le=1, description="share of timesteps from the noisiest fifth, beside the rest")
    readout: float = Field(0.05, ge=0, description="weight of the things' readout beside the velocity")


class Settings(BaseModel):
    """All settings of a run."""

    model_config = ConfigDict(extra="forbid")

    things: int = Field(FIRST, ge=1, le=len(NAMES), description="so many things, the first ones, are learned")
    vae_channels: tuple[int, ...] = (16, 48, 96, 144)
    unet_channels: tuple[int, ...] = (128, 256)
    unet_layers: int = Field(2, ge=1)
    text_layers: int = Field(4, ge=1)
    autoencoder: StageSettings
    text: StageSettings
    singles: UNetSettings
    scenes: UNetSettings
    relations: UNetSettings
    evaluate_minutes: float = Field(20, gt=0, description="of training between two scores of the U-Net")
    prompts: int = Field(48, ge=1, description="that are scored, the same every time")
    draw_steps: int = Field(20, ge=1)
    guidance: float = Field(3.0, ge=1)


def load(source: str, options: list[str]) -> Settings:
    """Settings of a YAML file, or of "full" or "tiny", with `key.sub=value` options.

    Raises:
        LLMDiffError: A key or a value is wrong, or there is no such file.
    """
    path = Path(source) if source.endswith(".yaml") else Path(__file__).parent / f"{source}.yaml"
    if not path.is_file():
        raise LLMDiffError(f"There are no settings {source}: give full, tiny, or a YAML file.")
    values = parse_yaml(path.read_text(encoding="utf-8"), f"The file {path}")
    for option in options:
        set_option(values, option)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise LLMDiffError(f"The settings {source} are not valid: {first_problem(error)}.") from error
