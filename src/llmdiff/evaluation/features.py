"""Features of pictures, by any model of transformers that reads them: SigLIP, CLIP, DINOv2, ViT.

Shapes: N pictures, F features.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor

from llmdiff.declared_sizes import Held, check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.hashing import weights_hash
from llmdiff.headers import readable_headers
from llmdiff.models import EMBEDDED, find
from llmdiff.scenes.vocabulary import IMAGE_SIZE
from llmdiff.sources import LOADING_FAULTS, local_folder, reason
from llmdiff.structured_text import read_json

_BATCH = 16
_LARGEST_SIDE = 4096  # pixels of a side that a model may ask for
_SIDES = ("size", "crop_size")


class Loaded(NamedTuple):
    """A model with what prepares its pictures.

    Attributes:
        model: Of transformers.
        images: Its image processor.
        source: The folder or Hub id that both are from.
        revision: The commit on the Hub, or the hash of the weights of a folder.
    """

    model: Any
    images: Any
    source: str
    revision: str


def load_scoring_model(name: str, device: str | None, what: str, kinds: Collection[str] | None = None) -> Loaded:
    """Loads a model that reads pictures, no larger than its weight files and from safetensors only.

    Args:
        name: "embedded", a folder in transformers' layout, or a Hub id.
        device: Where it computes.
        what: The kind of model, in errors.
        kinds: Of models, as their configs say; any if None.

    Raises:
        LLMDiffError: It cannot be loaded, is of another kind, or declares more than its files hold.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel
    from transformers.utils import cached_file

    folder = find("siglip").pull() if name == EMBEDDED else local_folder(name, what, "config.json")
    source, declared = str(folder or name), f"The {what} {name!r}"
    try:
        place = folder or Path(cached_file(source, "config.json") or source).parent
        _check_declared(place, declared)
        config = AutoConfig.from_pretrained(source)
        if kinds is not None and config.model_type not in kinds:
            raise LLMDiffError(
                f"{name!r} is a model of the kind {config.model_type!r}: give one of {', '.join(kinds)}."
            )
        with held_to(declared, lambda: Held.by(readable_headers(place))):
            model, info = AutoModel.from_pretrained(
                source, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
        images = AutoImageProcessor.from_pretrained(source)
    except LOADING_FAULTS as error:
        raise LLMDiffError(f"{declared} cannot be loaded: {reason(error)}.") from error
    if missing := sorted(info["missing_keys"]):
        raise LLMDiffError(f"{declared} lacks the weights {missing[0]!r}: fetch it again.")
    try:
        model = model.to(device or "cpu").eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:
        raise LLMDiffError(f"{declared} cannot be moved to device {device!r}: {reason(error)}.") from error
    revision = None if folder else getattr(config, "_commit_hash", None)
    return Loaded(model, images, source, revision or weights_hash(model))


class VisionModel:
    """A model of pictures, with what prepares them.

    Attributes:
        name: As it was asked for.
        revision: The commit on the Hub, or the hash of the weights of a folder.
    """

    def __init__(self, loaded: Loaded, name: str) -> None:
        self._model, self._images = loaded.model, loaded.images
        self.name, self.revision = name, loaded.revision

    @classmethod
    def load(cls, name: str, device: str | None = None) -> Self:
        """Loads any model that makes one vector of a picture.

        Args:
            name: "embedded", a folder in transformers' layout, or a Hub id, such as facebook/dinov2-large.
            device: Where it computes.

        Raises:
            LLMDiffError: It cannot be loaded, or makes no such vector.

        Example:
            >>> VisionModel.load("my-siglip").embed([Image.new("RGB", (64, 64))]).shape
            torch.Size([1, 32])
        """
        model = cls(load_scoring_model(name, device, "model of pictures"), name)
        with usable(name):
            model.embed([Image.new("RGB", (64, 48))])
        return model

    def check_domain(self, images: Sequence[Image.Image]) -> None:
        """Makes sure that pictures can be of the domain of the model.

        Raises:
            LLMDiffError: The model is the embedded one, and a picture has not the size of its scenes.
        """
        sizes = {image.size for image in images} - {(IMAGE_SIZE, IMAGE_SIZE)}
        if self.name == EMBEDDED and sizes:
            width, height = min(sizes)
            raise LLMDiffError(
                f"The embedded SigLIP knows picture-book scenes of {IMAGE_SIZE}x{IMAGE_SIZE} pixels alone, and nothing "
                f"of a picture of {width}x{height}: name another model."
            )

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """The features of pictures as the model gives them: (N, F), float32, on the CPU."""
        found = []
        for first in range(0, len(images), _BATCH):
            batch = [image.convert("RGB") for image in images[first : first + _BATCH]]
            inputs = self._images(images=batch, return_tensors="pt").to(self._model.device)
            read = getattr(self._model, "get_image_features", self._model)
            found.append(pooled(read(**inputs)))
        return torch.cat(found)


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Within it a model reads its first input: what its config or its image processor makes it fail at is told.

    Raises:
        LLMDiffError: It fails.
    """
    try:
        yield
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The model {name!r} cannot read a picture or text, a file of it is damaged or it is of another kind: "
            f"{reason(error)}."
        ) from error


def pooled(output: Any) -> Tensor:
    """The one vector of each input, float32, on the CPU: of and to (N, F)."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features.float().cpu()


def _check_declared(folder: Path, what: str) -> None:
    """Raises LLMDiffError if a config, or what prepares pictures, asks for more than any model does."""
    check_config(what, read_json(folder / "config.json"))
    processor = folder / "preprocessor_config.json"
    if not processor.is_file():
        return
    content = read_json(processor)
    for name in _SIDES:
        value = content.get(name)
        numbers = value.values() if isinstance(value, dict) else [value]
        if any(isinstance(one, int | float) and one > _LARGEST_SIDE for one in numbers):
            raise LLMDiffError(f"{what} asks for pictures of {name} {value}: its preprocessor_config.json is damaged.")
