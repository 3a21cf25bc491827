"""Loading language models with transformers: from a registered name, a folder, a GGUF file, or the Hub."""

import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from llmdiff import folder_checksums
from llmdiff.declared_sizes import Held, check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, why_not
from llmdiff.headers import check_types, readable_headers, shards
from llmdiff.language.blocks import find_blocks, find_stack, is_contrastive, is_encoder_decoder
from llmdiff.language.facts import facts_key
from llmdiff.language.gguf import SUFFIX, held_by, load_gguf
from llmdiff.language.limits import LOADING, within_seconds
from llmdiff.language.quantization import quantization_config
from llmdiff.models import language_model
from llmdiff.sources import LOADING_FAULTS, fetch_reason, is_offline, local_folder, reason, with_classes
from llmdiff.structured_text import read_json
from llmdiff.tokenizer_files import check_growth, check_tokenizer_files

_FETCHING = 3600.0  # seconds for a tokenizer from the Hub
Placement = str | dict[str, Any]
"""transformers' ``device_map``: "auto", or a device for every part."""


@dataclass(frozen=True)
class Loading:
    """The source and the options of a language model, with which it can be loaded again and again.

    Attributes:
        source: the folder or Hub id.
        revision: of the Hub repository.
        gguf: the GGUF file, if it is one.
        dtype: of the weights.
        device: the one it runs on, unless device_map says more.
        device_map: of transformers.
        quantization: see `llmdiff.language.quantization`.
        trust_remote_code: True to run the Python code of its repository.
    """

    source: str
    revision: str | None
    gguf: Path | None
    dtype: torch.dtype
    device: torch.device | str
    device_map: Placement | None
    quantization: str | None
    trust_remote_code: bool

    @classmethod
    def of(cls, name: str, revision: str | None, **options: Any) -> "Loading":
        """Returns the source and the options of the model that a user names.

        Raises:
            LLMDiffError: if it is not there and cannot be fetched.
        """
        known = language_model(name)
        if known:
            return cls(str(known.pull()), None, None, **options)
        path = Path(name).expanduser()
        if path.suffix == SUFFIX:
            return cls(str(path), None, _existing_gguf(path, options["quantization"]), **options)
        folder = local_folder(name, "language model", "config.json")
        if folder is None:
            return cls(name, revision, None, **options)
        folder_checksums.check(folder, f"fetch it again or, if you have changed it, delete its {folder_checksums.NAME}")
        return cls(str(folder), None, None, **options)

    @property
    def fixed(self) -> bool:
        """True if its parts are placed by transformers and may not be moved."""
        return self.device_map is not None or self.quantization is not None

    @property
    def key(self) -> str | None:
        """The key of the `llmdiff.language.facts` of its model; None if all of it need not be in its files."""
        folder = Path(self.source)
        if self.fixed or self.trust_remote_code or self.gguf or not folder.is_dir():
            return None
        return facts_key(folder, [str(self.dtype), str(self.device)])

    def config(self) -> PreTrainedConfig:
        """Loads the configuration.

        Raises:
            LLMDiffError: if it cannot be read.
        """
        with readable_errors(self, "model"):
            return AutoConfig.from_pretrained(self.source, **self._options)

    def model(self) -> PreTrainedModel:
        """Loads the model with its weights, on its device.

        Raises:
            LLMDiffError: if it cannot be read.
        """
        with readable_errors(self, "model"):
            loaded, missing = self._load_gguf(self.gguf) if self.gguf else self._load()
        _check_complete(self.source, loaded, missing)
        if not self.fixed:
            move(find_stack(loaded), self.device)
        return loaded

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Loads the tokenizer.

        Raises:
            LLMDiffError: if it cannot be read.
        """
        what = f"The tokenizer of {self.source}"
        with readable_errors(self, "tokenizer"):
            is_here = self.gguf is not None or Path(self.source).is_dir()
            loaded = within_seconds(what, self._load_tokenizer, LOADING if is_here else _FETCHING)
        check_growth(loaded, what)
        return loaded

    @property
    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        if self.gguf:
            return AutoTokenizer.from_pretrained(self.gguf.parent, gguf_file=self.gguf.name)
        beside = _tokenizer_beside(Path(self.source))
        if beside is not None:
            check_tokenizer_files(beside)
            return AutoTokenizer.from_pretrained(beside)
        check_tokenizer_files(self._folder())
        return AutoTokenizer.from_pretrained(self.source, **self._options)

    def _folder(self) -> Path:
        """The folder with its config, fetched if need be."""
        return Path(cached_file(self.source, CONFIG_NAME, revision=self.revision) or self.source).parent

    def _load_gguf(self, file: Path) -> tuple[PreTrainedModel, list[str]]:
        """The model, and the names of the weights that its file lacks."""
        with held_to(f"The GGUF file {file}", lambda: held_by(file)):
            return load_gguf(file, self.dtype)

    def _load(self) -> tuple[PreTrainedModel, list[str]]:
        """The model, and the names of the weights that its files lack."""
        what = f"The language model {self.source}"
        folder = self._folder()
        config = read_json(folder / CONFIG_NAME)
        check_config(what, config)
        options: dict[str, Any] = {"dtype": self.dtype, "use_safetensors": True, **self._options}
        if self.quantization:
            options["quantization_config"] = quantization_config(self.quantization, self.dtype)
        if self.fixed:
            options["device_map"] = self.device_map or {"": str(self.device)}
        loader = find_loader(AutoConfig.from_pretrained(self.source, **self._options))
        packed = self.quantization is not None or "quantization_config" in config
        _check_weight_files(folder, is_fetched=Path(self.source).is_dir())
        with held_to(
            what,
            lambda: Held.by(readable_headers(folder)) if any(folder.glob("*.safetensors")) else None,
            packed=packed,
        ):
            loaded: Any = loader.from_pretrained(self.source, output_loading_info=True, **options)
        if "quantization_config" not in config:
            check_types(readable_headers(folder))
        _warn_of_unread_blocks(self.source, *loaded)
        return loaded[0], loaded[1]["missing_keys"]


def _tokenizer_beside(folder: Path) -> Path | None:
    """The folder of the tokenizer of a diffusers pipeline's text encoder, whose folder lies beside it."""
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    is_part = folder.name.startswith("text_encoder") and (folder.parent / "model_index.json").is_file()
    return beside if is_part and beside.is_dir() else None


def move(module: nn.Module, device: torch.device | str) -> None:
    """Moves a model to a device, in place."""
    module.to(device)


def find_loader(config: PreTrainedConfig) -> Any:
    """Returns transformers' class that loads as little of a model as reads a prompt, by its config.

    Encoder-decoders are loaded without their decoder, where transformers knows how, and image-text models of the
    contrastive kind without their image part; other vision-language models are loaded whole.
    """
    kind, text = type(config), config.get_text_config()
    if is_encoder_decoder(config):
        return AutoModelForTextEncoding if kind in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    if is_contrastive(config.model_type) and type(text) in MODEL_MAPPING:
        return MODEL_MAPPING[type(text)]
    if kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return AutoModel
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForImageTextToText
    foreign = getattr(config, "auto_map", None) or {}
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in foreign
    return AutoModelForCausalLM if causal else AutoModel


def _existing_gguf(path: Path, quantization: str | None) -> Path:
    if not path.is_file():
        raise LLMDiffError(f"There is no GGUF file at {str(path)!r}: give an existing one.")
    if quantization:
        raise LLMDiffError(
            f"A GGUF file is dequantised when it is loaded: leave out quantization={quantization!r}, or load the "
            "original model with it."
        )
    return path


def _check_complete(source: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Raises LLMDiffError if the weight file lacks a weight that is read, which transformers then makes up.

    The LM head and the pooler of an encoder may be missing: they are not read.
    """
    stack = find_stack(model)
    pooled = {weight for name, weight in stack.named_parameters() if name.startswith("pooler.")}
    read = set(stack.parameters()) - pooled
    lacking = set(missing)
    made_up = [name for name, weight in model.named_parameters() if name in lacking and weight in read]
    if made_up:
        raise LLMDiffError(f"The weights in {source} lack {made_up[0]}: they are those of another model.")


def _check_weight_files(folder: Path, is_fetched: bool) -> None:
    """Raises LLMDiffError if weights are no file, or are said to be anywhere but in the model's folder.

    Args:
        folder: of the model.
        is_fetched: whether all of them must be there.
    """
    whole, index = folder / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME
    files = shards(index) if index.exists() and not whole.exists() else [whole]
    for file in files:
        try:
            open_regular(file).close()
        except FileNotFoundError as error:
            if is_fetched and file != whole:
                raise LLMDiffError(f"The weights file {str(file)!r} is not there: fetch the model again.") from error
        except OSError as error:
            raise LLMDiffError(
                f"The weights file {str(file)!r} cannot be read ({why_not(error)}): fetch the model again."
            ) from error


def _warn_of_unread_blocks(source: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Warns of the weights of blocks that a decoder-only LLM's config does not have."""
    if type(model.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    stack = find_stack(model)
    blocks = find_blocks(stack)
    path = next(name for name, part in stack.named_modules() if part is blocks)
    place = re.compile(rf"(?:^|\.){re.escape(path)}\.(\d+)\.")
    found = {int(match[1]) for key in info["unexpected_keys"] if (match := place.search(key))}
    if unread := sorted(number for number in found if number >= len(blocks)):
        warnings.warn(
            f"The weights in {source} are of a larger model than its config: blocks from {unread[0]} on are not read; "
            "if the folder was not made so, fetch it again.",
            stacklevel=6,
        )


@contextmanager
def readable_errors(loading: Loading, part: str) -> Iterator[None]:
    """Within this context, what transformers raises at loading the model or the tokenizer becomes one sentence."""
    try:
        with with_classes():
            yield
    except (*LOADING_FAULTS, struct.error) as error:  # the last: of a GGUF file
        raise LLMDiffError(_load_failure(loading, part, error)) from error


def _load_failure(loading: Loading, part: str, error: Exception) -> str:
    source, why = loading.source, reason(error)
    if "trust_remote_code" in str(error):
        return f"{source} brings its own Python code: read it, then allow it with trust_remote_code=True."
    if loading.gguf:
        return f"The GGUF file {source} is cut short, damaged or of an unknown kind ({why}): fetch it again."
    if isinstance(error, SafetensorError):
        return f"The weights in {source} are damaged ({why}): delete them and fetch them again."
    if not Path(source).is_dir() and (isinstance(error, OSError) or is_offline(error)):
        why = fetch_reason(error)
        return f"{source} is not in the local cache and could not be fetched from the Hugging Face Hub: {why}."
    if part == "tokenizer":
        return f"The tokenizer in {source} is missing or damaged ({why}); a tokenizer.json belongs there."
    return f"{source} could not be loaded as a language model: {why}."
