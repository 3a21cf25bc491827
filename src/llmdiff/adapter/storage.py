"""Adapters on disk and on the Hub: three files, written whole and so that they load again, or not at all."""

import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from safetensors.torch import save
from torch import Tensor

from llmdiff import tensor_files
from llmdiff.adapter.card import model_card
from llmdiff.adapter.config import AdapterConfig
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.finite import first_broken
from llmdiff.headers import read_header
from llmdiff.language import LanguageModel
from llmdiff.language.record import differences
from llmdiff.sources import LOADING_FAULTS, fetch_reason, local_folder, reason
from llmdiff.structured_text import LARGEST_JSON, parse_json

CONFIG = "config.json"
WEIGHTS = "adapter.safetensors"
CARD = "README.md"
CHECKSUM = "crc32"
LORA = "pytorch_lora_weights.safetensors"  # by which name diffusers looks for it
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Weights = dict[str, Tensor]


def save_adapter(
    directory: str | PathLike[str],
    config: AdapterConfig,
    weights: Weights,
    expected: Callable[[AdapterConfig], Weights],
) -> None:
    """Writes the three files of an adapter into a folder, which is made if need be, and reads them again first.

    Args:
        directory: the folder; what was in it stays as it was if anything goes wrong.
        config: of the adapter.
        weights: of the adapter.
        expected: gives the names and shapes of the weights that an adapter of a config has.

    Raises:
        LLMDiffError: if a weight is not finite or not there, the disk refuses, or what is on it would not load again.
    """
    contents = {
        WEIGHTS: _safetensors(weights),
        CONFIG: _signed_json(config).encode(),
        CARD: model_card(config).encode(),
    }

    def check(drafts: dict[str, Path]) -> None:
        again = _parsed(drafts[CONFIG])
        if again.model_dump_json() != config.model_dump_json():
            raise LLMDiffError(f"{CONFIG} reads as another configuration.")
        check_weights(_load(drafts[WEIGHTS]), expected(again))

    _write(Path(directory), contents, check)


def save_lora(directory: str | PathLike[str], denoiser: str, weights: Weights) -> None:
    """Writes a LoRA into a folder in diffusers' layout, so that ``pipe.load_lora_weights`` takes it.

    Args:
        directory: the folder.
        denoiser: name of the denoiser's class.
        weights: ``down`` and ``up`` by the module path of the projection.

    Raises:
        LLMDiffError: as `save_adapter`.
    """
    part = "unet" if "unet" in denoiser.lower() else "transformer"
    names = {".down": ".lora_A.weight", ".up": ".lora_B.weight"}
    renamed = {}
    for name, weight in weights.items():
        path, dot, kind = name.rpartition(".")
        renamed[f"{part}.{path}{names[dot + kind]}"] = weight
    _write(
        Path(directory),
        {LORA: save(_finite(renamed), {"format": "pt"})},
        lambda drafts: check_weights(_load(drafts[LORA]), renamed),
    )


def push(
    repo_id: str,
    config: AdapterConfig,
    weights: Weights,
    expected: Callable[[AdapterConfig], Weights],
    *,
    private: bool | None,
    token: str | None,
    message: str,
) -> str:
    """Uploads the three files of an adapter, see `save_adapter`, to the Hub and returns the commit's address."""
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            save_adapter(folder, config, weights, expected)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message).commit_url)
    except (OSError, ValueError) as error:
        raise LLMDiffError(f"The adapter could not be uploaded to {repo_id}: {reason(error)}.") from error


def locate(name_or_path: str | PathLike[str], revision: str | None) -> Path:
    """The local folder of an adapter, fetched from the Hub if it is a Hub id.

    Raises:
        LLMDiffError: if there is no such folder and nothing to fetch.
    """
    name = os.fspath(name_or_path)
    if folder := local_folder(name, "adapter", CONFIG):
        return folder
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The adapter {name!r} is neither a folder here nor could it be fetched from the Hugging Face Hub: check "
            f"the name and the network ({fetch_reason(error)})."
        ) from error


def read_config(folder: Path) -> AdapterConfig:
    """The configuration of an adapter, from its folder."""
    return _parsed(_existing(folder / CONFIG))


def read_weights(folder: Path) -> Weights:
    """The weights of an adapter, from its folder.

    Raises:
        LLMDiffError: if the file is damaged, or a weight is not finite or of a type that no adapter is saved in.
    """
    weights = _load(_existing(folder / WEIGHTS))
    if odd := next((name for name, weight in weights.items() if weight.dtype not in _DTYPES), None):
        raise LLMDiffError(
            f"In {folder / WEIGHTS}, {odd} is of type {weights[odd].dtype}, which no adapter's is: fetch it again."
        )
    if broken := first_broken(weights.items()):
        raise LLMDiffError(
            f"In {folder / WEIGHTS}, {broken} is not finite: fetch it again, or train it again with a lower learning "
            "rate."
        )
    return weights


def check_sizes(folder: Path, config: AdapterConfig, expected: Callable[[AdapterConfig], Weights]) -> None:
    """Raises LLMDiffError unless an adapter's configuration is that of the weights beside it, by their header alone.

    Anybody may have written a configuration, and asked for terabytes.

    Args:
        folder: that of the adapter.
        config: what is in it.
        expected: gives the names and shapes of the weights of a configuration, without allocating them.
    """
    path = _existing(folder / WEIGHTS)
    try:
        shapes = read_header(path).shapes
    except LLMDiffError as error:
        if not isinstance(error.__cause__, Exception):
            raise
        raise LLMDiffError(f"{path} is damaged or incomplete ({reason(error.__cause__)}): fetch it again.") from error
    parts = len(config.base.layers) + (config.refiner.blocks if config.refiner else 0)
    parts += len(config.lora.projections) if config.lora else 0
    if parts > len(shapes):
        raise LLMDiffError(f"{CONFIG} names {parts:,} parts, for which {WEIGHTS} has too few weights: fetch it again.")
    try:
        weights = expected(config)
    except (RuntimeError, ValueError, TypeError, OverflowError, AssertionError, IndexError, KeyError) as error:
        raise LLMDiffError(f"The adapter's {CONFIG} is not usable ({reason(error)}): fetch it again.") from error
    check_weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, weights)


def _signed_json(config: AdapterConfig) -> str:
    """A configuration with the checksum of all else in it, which whoever edits the file takes out."""
    content = config.model_dump(mode="json")
    return json.dumps({**content, CHECKSUM: _checksum(content)}, indent=2, ensure_ascii=False) + "\n"


def _parsed(path: Path) -> AdapterConfig:
    """The configuration in a file that is what was written, or has no checksum."""
    try:
        text = read_text(open_regular(path), LARGEST_JSON)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"{path} cannot be read ({why_not(error)}): fetch it again.") from error
    content = parse_json(text, f"The adapter's {CONFIG}", "fetch it again")
    expected = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
    if expected is not None and expected != _checksum(content):
        raise LLMDiffError(
            f"{path} is not what was written: fetch it again or, if you have edited it, take out its line {CHECKSUM!r}."
        )
    return AdapterConfig.from_content(content)


def _checksum(content: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _load(path: Path) -> Weights:
    try:
        return tensor_files.read(path, tensor_files.CHECKSUM)[0]
    except tensor_files.DAMAGE as error:
        raise LLMDiffError(f"{path} is damaged or incomplete ({reason(error)}): fetch it again.") from error


def check_weights(found: Weights, expected: Weights) -> None:
    """Raises LLMDiffError, naming the first difference, unless names and shapes are those expected."""
    if missing := sorted(expected.keys() - found.keys()):
        raise LLMDiffError(f"{WEIGHTS} lacks {missing[0]}: it does not belong to the {CONFIG} beside it.")
    if unexpected := sorted(found.keys() - expected.keys()):
        raise LLMDiffError(f"{WEIGHTS} has an unknown {unexpected[0]}: it does not belong to the {CONFIG} beside it.")
    for name, weight in expected.items():
        if found[name].shape != weight.shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(weight.shape)}"
            raise LLMDiffError(f"In {WEIGHTS}, {name} has the shape {shapes}: it does not belong to its {CONFIG}.")


def load_llm(
    recorded: dict[str, Any],
    llm: LanguageModel | str | None,
    device: torch.device | str | None,
    quantization: str | None,
) -> LanguageModel:
    """The given LLM, or the one of training, in the same dtype and, unless another is given, the same quantisation."""
    if isinstance(llm, LanguageModel):
        if quantization not in (None, llm.quantization):
            raise LLMDiffError(f"The LLM {llm.name} is loaded already: load it with quantization={quantization!r}.")
        return llm
    revision = recorded.get("revision") if llm is None else None
    if llm is None and "name" not in recorded:
        raise LLMDiffError(f"The adapter's {CONFIG} does not name its LLM: give it with --llm.")
    dtype = getattr(torch, str(recorded.get("dtype")), torch.float32)
    return LanguageModel.load(
        llm or recorded["name"],
        revision=revision,
        dtype=dtype,
        device=device or "cpu",
        quantization=quantization or recorded.get("quantization"),
        late=True,
    )


def check_llm(config: AdapterConfig, llm: LanguageModel) -> None:
    """Compares the LLM that an adapter was made for with the one given.

    Another shape or type is an error. Another fingerprint, dtype or quantisation is a warning, and so are other
    weights, settings, another tokenizer, or another chat template where the adapter uses it; another name alone is a
    copy, and fine. What older versions of llmdiff did not record is not compared.

    Raises:
        LLMDiffError: if width, block count or type differ.
    """
    recorded, given = config.llm, llm.record()
    if any(recorded.get(key) != given[key] for key in ("width", "blocks")) or _known_apart("type", recorded, given):
        raise LLMDiffError(
            f"The adapter was made for {_shape(recorded)}, and {_shape(given)} does not fit: give the LLM it was made "
            "for."
        )
    changed = _changed(recorded, given)
    for key in changed:
        warnings.warn(
            f"The adapter was made with {recorded.get('name')} ({key} {recorded.get(key)}), and runs with "
            f"{given['name']} ({key} {given[key]}): its pictures will differ.",
            stacklevel=3,
        )
    found = differences(recorded, given, chats=config.reading.template == "chat")
    if parts := [part for part in found if not (part == "weights" and "fingerprint" in changed)]:
        warnings.warn(
            f"The {' and the '.join(parts)} of {given['name']} are not as they were when the adapter was made: its "
            "pictures may differ; give the LLM as it was then.",
            stacklevel=3,
        )


def _changed(recorded: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """The keys that decide an LLM's numbers and are not as recorded; of another quantisation, that alone."""
    if recorded.get("quantization") != given["quantization"]:
        return ["quantization"]
    return [key for key in ("fingerprint", "dtype") if recorded.get(key) != given[key]]


def _known_apart(key: str, recorded: dict[str, Any], given: dict[str, Any]) -> bool:
    """True if both records have a value, and not the same."""
    return key in recorded and recorded[key] != given[key]


def _shape(llm: dict[str, Any]) -> str:
    kind = f" of type {llm['type']}" if "type" in llm else ""
    return f"{llm.get('name')} ({llm.get('blocks')} blocks of width {llm.get('width')}{kind})"


def _safetensors(weights: Weights) -> bytes:
    """The content of a file of weights, with its checksum."""
    tensors = _finite(weights)
    return save(tensors, tensor_files.signed(tensors, tensor_files.CHECKSUM))


def _finite(weights: Weights) -> Weights:
    """The weights, contiguous and on the CPU.

    Raises:
        LLMDiffError: if one is not finite or not there.
    """
    if any(weight.is_meta for weight in weights.values()):
        raise LLMDiffError("The adapter's weights are offloaded: save it before enabling offloading.")
    if broken := first_broken(weights.items()):
        raise LLMDiffError(
            f"The adapter is not saved, since its {broken} is not finite: go back to a checkpoint from before that and "
            "train on with a lower learning rate."
        )
    return {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise LLMDiffError(f"{path.parent} is no adapter: there is no {path.name} in it.")
    return path


def _write(folder: Path, contents: dict[str, bytes], check: Callable[[dict[str, Path]], None]) -> None:
    """Writes files, which take the place of those in the folder only when all drafts are written and checked.

    Raises:
        LLMDiffError: if the disk refuses, or the check does.
    """
    try:
        with ExitStack() as stack:
            drafts = {name: stack.enter_context(written_whole(folder / name)) for name in contents}
            for name, draft in drafts.items():
                draft.write_bytes(contents[name])
            try:
                check(drafts)
            except LLMDiffError as error:
                raise LLMDiffError(f"The adapter is not saved, since it would not load again: {error}") from error
    except OSError as error:
        raise LLMDiffError(f"The adapter could not be written to {folder}: {error}.") from error
