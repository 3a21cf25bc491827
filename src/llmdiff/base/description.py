"""The shapes of an image model that an adapter must fit; saved in the adapter's config."""

from typing import Self

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from llmdiff.settings import Settings


class LayerShape(Settings):
    """The shape of a cross-attention layer, as far as the branch that joins it depends on it.

    Attributes:
        query: Q, the width of the image features that the layer takes and gives.
        inner: I, the width of queries, keys and values over all heads.
        heads: number of attention heads; divides ``inner``.
        context: C, the width of the text features that the layer takes.
        bias: True if the layer's query projection has a bias.
        normalise_query: True if the branch must LayerNorm the image features because the denoiser does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: int = Field(ge=1)
    inner: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)
    bias: bool = False
    normalise_query: bool = False

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.inner % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.inner}")
        return self


class BaseDescription(Settings):
    """The image model that an adapter was made for.

    Attributes:
        denoiser: class name of its U-Net or transformer.
        name: where the pipeline came from (a Hub id or a folder's name), if known.
        layers: the cross-attention layers by module path.
        text_width: W, the width of the text features that it takes, which it may project before its layers get
            them; that of the layers if None.
        weights: numbers by which its weights are known again, see `llmdiff.base.weight_samples`; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    denoiser: str
    name: str | None = None
    layers: dict[str, LayerShape] = Field(min_length=1)
    text_width: int | None = Field(None, ge=1)
    weights: tuple[FiniteFloat, ...] | None = Field(None, max_length=10_000)

    @property
    def context_width(self) -> int:
        """W, the width of the text features that the denoiser takes."""
        return self.text_width or next(iter(self.layers.values())).context

    def on_other_weights(self) -> str:
        """What a user is to know whose image model is of this shape and has other weights."""
        return (
            f"The image model has other weights than {self.name or 'the one'} that the adapter was made for: with "
            "fine-tunes of it an adapter usually works, but how well is not measured."
        )
