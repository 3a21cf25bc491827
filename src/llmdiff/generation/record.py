"""All that decides a picture, in a form that can be stored beside it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llmdiff.models import Quantization
from llmdiff.proxy.rewriting import Rewriting
from llmdiff.settings import Settings

_SHOWN, _MOST = 40, 10  # characters of what has changed, and how much of it is told: a file may say anything
_HASH = 12  # characters of a hash


class Models(Settings):
    """Which models draw: names as the user gave them (embedded, folder, single file or Hub id)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    base_config: str | None = None  # of a single-file base: the folder or Hub id of its configs
    adapter: str | None = None  # None: the base model alone
    llm: str | None = None  # None: the LLM that the adapter was trained with
    quantization: Quantization | None = None  # None: that in which the adapter was trained


class PictureSettings(Settings):
    """All that one picture depends on besides the models; its noise comes from a CPU generator seeded with `seed`.

    A proxy's rewriting, if there is one, takes the place of the prompt: `texts` are what the models read.

    Example:
        >>> PictureSettings(prompt="a cup", steps=20, guidance=5, scale=1, seed=7, width=512, height=512).negative
        ''
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    negative: str = ""
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=100, allow_inf_nan=False)
    scale: float = Field(ge=-10, le=10, allow_inf_nan=False)
    seed: int = Field(ge=0, lt=2**63)
    width: int = Field(ge=8, le=8192)
    height: int = Field(ge=8, le=8192)
    prompt_weights: bool = False
    rewriting: Rewriting | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """What is drawn: the prompt, or what a proxy made of it; of several, the mean of their predictions."""
        return self.rewriting.texts if self.rewriting else (self.prompt,)


class Provenance(BaseModel):
    """The circumstances of a picture; two equal ones give the same pixels on the same kind of processor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_hash: str
    adapter_hash: str | None = None
    llm: dict[str, Any] | None = None  # LanguageModel.identity()
    scheduler: dict[str, Any]  # class name as "_class_name", and its config
    versions: dict[str, str]
    device: str
    dtype: str
    threads: int

    def changed_weights(self, now: "Provenance") -> list[tuple[str, str | None, str | None]]:
        """The models whose weights are not the same now, in words, with their hashes then and now."""
        pairs: list[tuple[str, str | None, str | None]] = [
            ("the base model's weights", self.base_hash, now.base_hash),
            ("the adapter's weights", self.adapter_hash, now.adapter_hash),
            ("the LLM", (self.llm or {}).get("fingerprint"), (now.llm or {}).get("fingerprint")),
        ]
        return [pair for pair in pairs if pair[1] != pair[2]]

    def changes(self, now: "Provenance") -> list[str]:
        """The differences between this (then) and `now`, as short phrases; none if they are equal."""
        others = [
            *((library, then, now.versions.get(library)) for library, then in self.versions.items()),
            ("the device", self.device, now.device),
            ("the number type", self.dtype, now.dtype),
        ]
        differing = [(what, str(then)[:_HASH], str(today)[:_HASH]) for what, then, today in self.changed_weights(now)]
        differing += [
            (what[:_SHOWN], str(then)[:_SHOWN], str(today)[:_SHOWN]) for what, then, today in others if then != today
        ]
        return [f"{what} ({then} then, {today} now)" for what, then, today in differing[:_MOST]]


class Record(BaseModel):
    """All that is needed to redraw one picture, and what it was drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: PictureSettings
    models: Models
    provenance: Provenance
