"""The data of a training run: captioned pictures from wherever they are kept, and what of them each step sees."""

from llmdiff.data.batches import Batches, Sample
from llmdiff.data.captioned import Captioned, Size, SizeConditioning, captions_of
from llmdiff.data.config import Data, DatasetData, FolderData, MixedData, SceneData, ShardData, WorldData
from llmdiff.data.factory import captioned, is_at_hand
from llmdiff.data.prefetch import Pixels, Prefetcher, explained_worker_deaths

__all__ = [
    "Batches",
    "Captioned",
    "Data",
    "DatasetData",
    "FolderData",
    "MixedData",
    "Pixels",
    "Prefetcher",
    "Sample",
    "SceneData",
    "ShardData",
    "Size",
    "SizeConditioning",
    "WorldData",
    "captioned",
    "captions_of",
    "explained_worker_deaths",
    "is_at_hand",
]
