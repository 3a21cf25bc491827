"""The data of a training run: captioned pictures from wherever they are kept, and what of them each step sees."""

from llmdiff.training.data.ahead import Pixels, ReadAhead, worker_deaths_told
from llmdiff.training.data.batches import Batches, Sample
from llmdiff.training.data.captioned import Captioned, Frame, Size, captions_of
from llmdiff.training.data.config import Data, DatasetData, FolderData, MixedData, SceneData, ShardData
from llmdiff.training.data.opening import captioned, is_at_hand

__all__ = [
    "Batches",
    "Captioned",
    "Data",
    "DatasetData",
    "FolderData",
    "Frame",
    "MixedData",
    "Pixels",
    "ReadAhead",
    "Sample",
    "SceneData",
    "ShardData",
    "Size",
    "captioned",
    "captions_of",
    "is_at_hand",
    "worker_deaths_told",
]
