"""A base model from the Hugging Face Hub: of every part the weights that are loaded, and no others."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from llmdiff.base.locate import INDEX
from llmdiff.base.weight_files import DIFFUSERS_STEM, TRANSFORMERS_STEM, Weights, find_weights
from llmdiff.errors import LLMDiffError
from llmdiff.sources import LOADING_FAULTS, NetworkError, fetch_reason
from llmdiff.structured_text import read_json

_SMALL = (".json", ".txt", ".model")


def fetch_base(name: str) -> Path:
    """The local folder of a base model on the Hub, which is fetched as far as it is not here yet.

    Raises:
        LLMDiffError: There is no such model, or no network; or it is not in the diffusers layout.
    """
    try:
        return _fetch(name)
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The base model {name!r} is neither a folder here nor could it be fetched from the Hugging Face Hub: "
            f"check the name and the network ({fetch_reason(error)})."
        ) from error


def files_to_fetch(files: Iterable[str], index: dict[str, Any]) -> list[str]:
    """The files of a repository that are loaded: indexes, configs, tokenizers, and one set of weights of each part.

    Args:
        files: all files of the repository, by their path in it.
        index: what its ``model_index.json`` holds.
    """
    parts: dict[str, list[str]] = {}
    for file in map(PurePosixPath, files):
        if len(file.parts) == 2 and isinstance(index.get(file.parts[0]), list):
            parts.setdefault(file.parts[0], []).append(file.name)
    wanted = [INDEX]
    for part, names in parts.items():
        small = [name for name in names if name.endswith(_SMALL) and ".index" not in name]
        wanted += [f"{part}/{name}" for name in (*small, *_weights_to_fetch(names))]
    return wanted


def _fetch(name: str) -> Path:
    try:
        files = [file.rfilename for file in HfApi().model_info(name).siblings or []]
    except HfHubHTTPError:
        raise
    except (OfflineModeIsEnabled, NetworkError):
        return Path(snapshot_download(name, local_files_only=True))
    if INDEX not in files:
        raise LLMDiffError(
            f"The repository {name!r} on the Hugging Face Hub holds no base model in the diffusers layout: it has no "
            f"{INDEX}; give one that does, or download its single-file checkpoint and give that file."
        )
    index = read_json(Path(hf_hub_download(name, INDEX)))
    return Path(snapshot_download(name, allow_patterns=files_to_fetch(files, index)))


def _weights_to_fetch(names: list[str]) -> list[str]:
    for stem in (DIFFUSERS_STEM, TRANSFORMERS_STEM):
        if found := find_weights(names, stem):
            return [name for name in names if _belongs(name, found[0], stem)]
    return []


def _belongs(name: str, weights: Weights, stem: str) -> bool:
    """Whether a file is the index of a set of weights, its one file or one of its shards."""
    if weights.index is None:
        return name == (f"{stem}.{weights.variant}.safetensors" if weights.variant else f"{stem}.safetensors")
    if name == weights.index:
        return True
    middle = name.removeprefix(stem).removesuffix(".safetensors")
    is_shard = name.endswith(".safetensors") and name.startswith(stem) and "-of-" in middle
    return is_shard and (f".{weights.variant}" in middle if weights.variant else "." not in middle)
