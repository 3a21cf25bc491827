"""The `data` of a recipe: the sources of captioned pictures, and how they are cut."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from llmdiff.settings import Settings
from llmdiff.world.mix import Mix
from llmdiff.world.things import FIRST, NAMES
from llmdiff.world.vocabulary import MAX_THINGS

CaptionPer = Literal["line", "file"]
"""What is one caption in a text file: each line, or all of it."""

_OUTSIDE = "read files outside of the data's folder too, to which links, ../ and absolute paths lead"


class SourceSettings(Settings):
    """Settings of every source of pictures."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    weight: float = Field(1.0, ge=1e-6, le=1000, description="how often an epoch has each of its pictures")


class DrawnData(SourceSettings):
    """Settings of every source of scenes that are drawn as they are needed."""

    captions: int = Field(7000, ge=1, le=10**7, description="captions, each read by the LLM once")
    pictures: int = Field(
        4, ge=1, le=10**4, description="pictures of each caption: what it leaves open is drawn by lot"
    )
    seed: int = Field(31, ge=0)


class SceneData(DrawnData):
    """Drawn picture-book scenes with captions: the embedded domain."""

    kind: Literal["scenes"]
    plain: float = Field(0.25, ge=0, le=1, description="share of captions in the base model's own plain wording")
    detail: Literal["usual", "short", "long"] = Field(
        "usual", description="what captions say of a scene: little, all there is, or by lot between the two"
    )


class WorldData(DrawnData):
    """Drawn scenes of real things with captions of all kinds: the domain of `llmdiff.world`."""

    kind: Literal["world"]
    things: int = Field(FIRST, ge=MAX_THINGS, le=len(NAMES), description="so many of the things, the first ones")
    mix: Mix = Field(Mix(), description="how often each kind of caption comes")


class StoredData(SourceSettings):
    """Settings of every source of stored pictures."""

    resolution: int | None = Field(
        None, ge=8, le=2**14, description="side in pixels; the base model's own if not given"
    )
    crop: Literal["centre", "buckets"] = Field(
        "centre", description="squares from the centre, or about as many pixels in the picture's own aspect ratio"
    )
    bucket_step: int | None = Field(
        None, ge=8, multiple_of=8, description="the sides of buckets are its multiples; if not given, 64 at most"
    )
    bucket_ratio: float = Field(2.0, ge=1, le=16, description="largest ratio of a bucket's sides")
    skip_bad: int = Field(
        0, ge=0, description="pictures that may be left out because they cannot be used; one more stops the run"
    )


class FolderData(StoredData):
    """A folder of pictures, listed in a `metadata.jsonl`, `.csv` or `.json`, or with a text file beside each."""

    kind: Literal["folder"]
    path: Path
    caption_per: CaptionPer = Field("line", description="what is one caption of a text file: a line, or the whole file")
    outside: bool = Field(False, description=_OUTSIDE)


class DatasetData(StoredData):
    """A data set that Hugging Face `datasets` loads: a Hub id, a parquet file, or a folder of them."""

    kind: Literal["dataset"]
    path: str = Field(min_length=1)
    name: str | None = Field(None, description="the configuration, where the data set has several")
    split: str = "train"
    revision: str | None = Field(None, description="of a data set on the Hub")
    image: str = Field("image", description="the column of pictures")
    text: str | list[str] = Field("text", description="the column of captions, or several such columns")
    streaming: bool = Field(False, description="copy only the first `limit` rows, instead of fetching all there are")
    limit: int | None = Field(None, ge=1, description="only that many rows, the first ones")
    outside: bool = Field(False, description=_OUTSIDE)

    @model_validator(mode="after")
    def _check_limit(self) -> Self:
        if self.streaming and self.limit is None:
            raise ValueError("streaming needs a limit, the number of rows to copy")
        return self


class ShardData(StoredData):
    """WebDataset shards: tar files in which `1.jpg` is captioned by `1.txt` or `1.json`."""

    kind: Literal["webdataset"]
    path: str = Field(min_length=1, description="a tar file, a folder of them, or a pattern: shards/{0000..0099}.tar")
    caption_per: CaptionPer = Field("line", description="what is one caption of a text file: a line, or the whole file")


Source = Annotated[SceneData | WorldData | FolderData | DatasetData | ShardData, Field(discriminator="kind")]


class MixedData(Settings):
    """Several sources together."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: Literal["mixed"] = "mixed"
    sources: list[Source] = Field(min_length=1)


Data = SceneData | WorldData | FolderData | DatasetData | ShardData | MixedData
"""One source, or several; `kind` tells them apart."""
