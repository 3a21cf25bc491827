"""What decides a picture, in a form that can be stored beside it."""

from pydantic import BaseModel, ConfigDict, Field

from llmdiff.generation.provenance import Provenance


class Models(BaseModel):
    """Which models draw: names as the user gave them (embedded, folder or Hub id)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    adapter: str | None = None  # None: the base model alone
    llm: str | None = None  # None: the LLM that the adapter was trained with


class PictureSettings(BaseModel):
    """What one picture depends on besides the models; its noise comes from a CPU generator seeded with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    negative: str = ""
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=100, allow_inf_nan=False)
    scale: float = Field(ge=-10, le=10, allow_inf_nan=False)
    seed: int = Field(ge=0, lt=2**63)
    width: int = Field(ge=8, le=8192)
    height: int = Field(ge=8, le=8192)


class Record(BaseModel):
    """All that is needed to redraw one picture, and what it was drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: PictureSettings
    models: Models
    provenance: Provenance
