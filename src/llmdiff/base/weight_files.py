"""Which weights of a model's folder are loaded: in safetensors, plain or of a variant, whole."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmdiff.base.locate import PICKLES
from llmdiff.declared_sizes import Held
from llmdiff.errors import LLMDiffError
from llmdiff.headers import is_lfs_pointer, read_header, shards

DIFFUSERS_STEM = "diffusion_pytorch_model"
TRANSFORMERS_STEM = "model"
_FILE = r"{stem}(?:\.(?P<file>[\w-]+?))?\.safetensors|{stem}\.safetensors\.index(?:\.(?P<index>[\w-]+))?\.json"
_SHARD = re.compile(r"-\d+-of-\d+")
# The order in which variants are taken, after plain files; others follow, then those of before the averaging.
_FIRST = ("fp32", "bf16", "fp16", "ema")
_LAST = "non_ema"


@dataclass(frozen=True)
class Weights:
    """The weights of one model.

    Attributes:
        variant: what stands in the files' names before their ending, ``fp16`` for instance; None if nothing does.
        index: the file that lists the shards, if there are several.
    """

    variant: str | None
    index: str | None = None


def find_weights(names: Iterable[str], stem: str) -> list[Weights]:
    """The sets of weights among the files of a model's folder, the one to take first.

    Args:
        names: of the files in the folder.
        stem: how the files' names begin, by the library of the model.
    """
    pattern = re.compile(_FILE.format(stem=stem))
    found: dict[str | None, Weights] = {}
    for name in sorted(names):
        match = pattern.fullmatch(name)
        if match is None or _SHARD.search(name):
            continue
        is_index = name.endswith(".json")
        variant = match["index"] if is_index else match["file"]
        if not is_index or variant not in found:
            found[variant] = Weights(variant, name if is_index else None)
    return sorted(found.values(), key=_order)


def choose_weights(folder: Path, stem: str) -> Weights:
    """The weights to load from a model's folder, whose files are all there and whole.

    Raises:
        LLMDiffError: There are none in safetensors, a shard is missing, or a file is damaged.
    """
    found = find_weights((file.name for file in folder.iterdir()), stem)
    if not found:
        raise LLMDiffError(_nothing_found(folder, stem))
    fetched = [weights for weights in found if not _is_pointer(folder, weights, stem)]
    chosen = (fetched or found)[0]
    for file in weight_files(folder, chosen, stem):
        if not file.is_file():
            raise LLMDiffError(f"The weights file {str(file)!r} is missing or damaged: fetch it again.")
        read_header(file)
    return chosen


def held_by(folder: Path, weights: Weights, stem: str) -> Held:
    """What the files of a set of weights hold, by their headers."""
    return Held.by(map(read_header, weight_files(folder, weights, stem)))


def weight_files(folder: Path, weights: Weights, stem: str) -> list[Path]:
    """The files of a set of weights."""
    if weights.index is None:
        return [folder / (f"{stem}.{weights.variant}.safetensors" if weights.variant else f"{stem}.safetensors")]
    return shards(folder / weights.index)


def _is_pointer(folder: Path, weights: Weights, stem: str) -> bool:
    return any(file.is_file() and is_lfs_pointer(file) for file in weight_files(folder, weights, stem))


def _order(weights: Weights) -> tuple[int, str]:
    variant = weights.variant
    if variant is None:
        return 0, ""
    if variant in _FIRST:
        return 1 + _FIRST.index(variant), variant
    return (len(_FIRST) + 2 if variant.startswith(_LAST) else len(_FIRST) + 1), variant


def _nothing_found(folder: Path, stem: str) -> str:
    wanted = f"{stem}.safetensors"
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES):
        whole = str(folder.parent)
        return (
            f"The weights in {str(folder)!r} are there only as a pickle ({pickles[0]}), which can run code and is "
            "never loaded: fetch the safetensors version, or convert a model that you trust by diffusers' "
            f"DiffusionPipeline.from_pretrained({whole!r}).save_pretrained(...)."
        )
    if parts := sorted(file.name for file in folder.glob("*.safetensors") if _SHARD.search(file.name)):
        return f"The folder {str(folder)!r} has shards ({parts[0]}, ...) and no {wanted}.index.json: fetch it again."
    return f"The weights in {str(folder)!r} are missing: fetch {wanted} again."
