"""An LLM with its tokenizer, ready to be read block by block."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import torch
from accelerate.utils import align_module_device
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llmdiff.errors import LLMDiffError
from llmdiff.language.blocks import check_causal, find_blocks, find_decoder
from llmdiff.language.cache import EncodingCache
from llmdiff.models import EMBEDDED, find
from llmdiff.sources import LOADING_FAULTS, local_folder, reason

_SAMPLES = 64
"""Weights per parameter that the fingerprint looks at."""


class LanguageModel:
    """A decoder-only LLM with its tokenizer: frozen, in eval mode.

    Attributes:
        name: the name it was loaded by.
        revision: the Hub revision asked for, if any.
        model: its decoder, without the LM head.
        blocks: the decoder's transformer blocks in the order in which they run.
        tokenizer: its tokenizer.
        width: D, the width of its hidden states.
        block_count: T, how many blocks it has.
        encodings: the encodings it made last.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, revision: str | None = None
    ) -> None:
        self.name = name
        self.revision = revision
        self.model = find_decoder(model).eval().requires_grad_(False)
        self.blocks: nn.ModuleList = find_blocks(self.model)
        check_causal(self.model, self.device)
        self.tokenizer = tokenizer
        self.width: int = self.model.config.get_text_config().hidden_size
        self.block_count: int = len(self.blocks)
        self.encodings = EncodingCache()
        self._fingerprint: str | None = None

    @classmethod
    def load(
        cls,
        name: str = EMBEDDED,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        trust_remote_code: bool = False,
    ) -> Self:
        """Load an LLM.

        Args:
            name: "embedded" for the SmolLM2 of the package index, a local folder, or a Hub id.
            revision: a Hub branch, tag or commit.
            dtype: of its weights.
            device: where it runs.
            trust_remote_code: run the Python code of the model's repository.

        Raises:
            LLMDiffError: if it cannot be found, fetched or read.
        """
        source, revision = _source(name, revision)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        with _told(source, "model"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
        model, info = loaded
        _check_complete(source, model, info["missing_keys"])
        with _told(source, "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        return cls(model, tokenizer, name, revision).to(device)

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> Self:
        """Take an LLM that is loaded already. It is frozen and put in eval mode."""
        return cls(model, tokenizer, name)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Where it takes its input: of an LLM that accelerate has offloaded, not where its weights wait."""
        hooks = (getattr(module, "_hf_hook", None) for module in self.model.modules())
        placed = (getattr(hook, "execution_device", None) for hook in hooks)
        return torch.device(next((device for device in placed if device is not None), self.model.device))

    def to(self, device: torch.device | str) -> Self:
        """Move it to a device, in place."""
        self.model.to(device)
        return self

    def identity(self) -> dict[str, Any]:
        """What an adapter records of its LLM: name, revision, width, blocks, dtype and fingerprint.

        The fingerprint is a hash of the architecture and of a sample of the weights of the first, the middle and the
        last block. It does not depend on where the LLM was loaded from, nor on the dtype as long as that dtype holds
        the checkpoint's values.
        """
        if self._fingerprint is None:
            self._fingerprint = self._hash_sample()
        return {
            "name": self.name,
            "revision": self.revision,
            "width": self.width,
            "blocks": self.block_count,
            "dtype": str(self.dtype).removeprefix("torch."),
            "fingerprint": self._fingerprint,
        }

    def _hash_sample(self) -> str:
        config = self.model.config.get_text_config()
        digest = hashlib.sha256(repr((config.model_type, self.width, self.block_count, config.vocab_size)).encode())
        for index in (0, self.block_count // 2, self.block_count - 1):
            for name, module in sorted(self.blocks[index].named_modules(), key=itemgetter(0)):
                with align_module_device(module):  # brings back what accelerate has offloaded
                    for key, weight in sorted(module.named_parameters(recurse=False)):
                        digest.update(f"{index}.{name}.{key}".encode() + _sample(weight))
        return digest.hexdigest()[:16]


def _sample(weight: Tensor) -> bytes:
    """A few values of a weight, on a grid that is coarser than what float16 loses near zero."""
    flat = weight.detach().flatten()
    chosen = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
    return (chosen.float().cpu() * 4096).round().to(torch.int64).numpy().tobytes()


def _source(name: str, revision: str | None) -> tuple[str, str | None]:
    """The folder or Hub id to load from, with the revision where it means anything."""
    if name == EMBEDDED:
        return str(find("llm").pull()), None
    folder = local_folder(name, "language model", "config.json")
    return (name, revision) if folder is None else (str(folder), None)


def _check_complete(source: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Raises LLMDiffError if the weight file lacks a weight of the decoder, which transformers then makes up.

    The LM head may be missing: it is not read.
    """
    decoder = set(find_decoder(model).parameters())
    made_up = [name for name, weight in model.named_parameters() if name in set(missing) and weight in decoder]
    if made_up:
        raise LLMDiffError(f"The weights in {source} lack {made_up[0]}: they are those of another model.")


@contextmanager
def _told(source: str, part: str) -> Iterator[None]:
    """Turn what transformers raises while it loads the model or the tokenizer into one sentence."""
    try:
        yield
    except LOADING_FAULTS as error:
        raise LLMDiffError(_load_failure(source, part, error)) from error


def _load_failure(source: str, part: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return f"{source} brings its own Python code: read it, then allow it with trust_remote_code=True."
    why = reason(error)
    if isinstance(error, SafetensorError):
        return f"The weights in {source} are damaged ({why}): delete them and fetch them again."
    if isinstance(error, OSError) and not Path(source).is_dir():
        return f"{source} is not in the local cache and could not be fetched from the Hugging Face Hub: {why}"
    if part == "tokenizer":
        return f"The tokenizer in {source} is missing or damaged ({why}); a tokenizer.json belongs there."
    return f"{source} could not be loaded as a decoder-only language model: {why}"
