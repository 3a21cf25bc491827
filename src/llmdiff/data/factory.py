"""Opens the data of a recipe."""

from pathlib import Path

from llmdiff.data.captioned import Captioned
from llmdiff.data.config import Data, DatasetData, FolderData, MixedData, SceneData, ShardData, WorldData
from llmdiff.data.folder import Folder
from llmdiff.data.mixed import Mixed
from llmdiff.data.pictures import Pictures
from llmdiff.data.scenes import Scenes
from llmdiff.data.shards import Shards
from llmdiff.data.store import Store
from llmdiff.data.table import Table, copied
from llmdiff.data.world import World
from llmdiff.files import is_there
from llmdiff.progress import Progress, silent


def captioned(data: Data, resolution: int, report: Progress = silent) -> Captioned:
    """The captioned pictures of a recipe's data.

    Args:
        data: one source, or several.
        resolution: of the base model, in pixels; a source may say another.
        report: called with the progress of a first reading of the pictures, where one is needed.

    Raises:
        LLMDiffError: What is there cannot be used; the sentence names it.

    Example:
        >>> data = captioned(FolderData(kind="folder", path=Path("pictures")), resolution=512)
        >>> data.captions[0], data.pixels(0).shape
        (('a red fox',), torch.Size([3, 512, 512]))
    """
    if isinstance(data, MixedData):
        return Mixed([captioned(source, resolution, report) for source in data.sources])
    if isinstance(data, SceneData):
        return Scenes(data)
    if isinstance(data, WorldData):
        return World(data)
    return Pictures(store_of(data, report), data, resolution, report)


def store_of(data: FolderData | DatasetData | ShardData, report: Progress = silent) -> Store:
    """The store of a source's encoded pictures.

    Raises:
        LLMDiffError: It cannot be found or read.
    """
    if isinstance(data, ShardData):
        return Shards(data.path, data.caption_per)
    if isinstance(data, DatasetData):
        return Shards(str(copied(data, report))) if data.streaming else Table(data)
    return Folder(data)


def is_at_hand(data: Data) -> bool:
    """True if all of it is on this machine already."""
    if isinstance(data, MixedData):
        return all(is_at_hand(source) for source in data.sources)
    return not isinstance(data, DatasetData) or is_there(Path(data.path))
