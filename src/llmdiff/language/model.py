"""An LLM, or another text encoder, with its tokenizer."""

import hashlib
from operator import itemgetter
from typing import Any, Self

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmdiff.errors import LLMDiffError
from llmdiff.hashing import is_divided, weights_hashes
from llmdiff.language.blocks import Architecture, find_architecture, find_blocks, find_stack
from llmdiff.language.cache import EncodingCache
from llmdiff.language.config import ExtractionConfig
from llmdiff.language.facts import Facts
from llmdiff.language.loading import Loading, Placement, move, readable_errors
from llmdiff.language.record import content_record, what_is_computed
from llmdiff.language.transformers_internals import (
    attention_implementation,
    input_device,
    set_attention_implementation,
)
from llmdiff.models import EMBEDDED

_SAMPLES = 64  # weights per parameter that the fingerprint looks at


class LanguageModel:
    """A text model with its tokenizer: frozen, in eval mode.

    Decoder-only LLMs are what llmdiff is about; encoder-only models and the encoders of encoder-decoders are for
    comparison (docs/method.md section 2).

    Example:
        >>> llm = LanguageModel.load("embedded")
        >>> llm.architecture, llm.width, llm.block_count
        ('decoder-only', 576, 30)

    Attributes:
        name: the name it was loaded by.
        revision: the Hub revision asked for, if any.
        quantization: that of its weights, None if they are as they were.
        architecture: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``.
        config: that of its blocks.
        tokenizer: its tokenizer.
        width: D, the width of its hidden states.
        block_count: T, how many blocks it has.
        encodings: a cache of the encodings made last.
        prefixes: a cache of the keys and values of templates' prefixes.
        settled: True where nobody changes its weights any more, which are then looked at once; of a loaded LLM of
            hundreds of megabytes, a look costs as much as to read its memory.
        paired: whether its blocks return pairs (see `llmdiff.language.paired`), of a single prompt (True) and of
            several (False), as far as that is known.
    """

    def __init__(
        self,
        model: PreTrainedModel | PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        revision: str | None = None,
        loading: Loading | None = None,
        facts: Facts | None = None,
    ) -> None:
        """Take a loaded model or, with facts, the configuration of one that is loaded when it is needed."""
        self.name = name
        self.revision = revision
        self.quantization = loading.quantization if loading else None
        self.tokenizer = tokenizer
        self.encodings = EncodingCache()
        self.prefixes: dict[tuple[int, ...], Cache | None] = {}
        self.paired: dict[bool, bool] = {}
        self.settled = False
        self._loading = loading
        self._stack: PreTrainedModel | None = None
        self._home: torch.device | None = None  # where it is to run again, once it has been offloaded
        self._fingerprint: str | None = None
        self._content: bytes | None = None
        self._weights = ""  # the hash of its weights alone, once they have been looked at
        self._record: dict[str, str] | None = None  # of its content, where it is known from when it was loaded before
        self.architecture: Architecture
        self.config: PreTrainedConfig
        if isinstance(model, PreTrainedModel):
            self._stack = _frozen(model)
            self._dtype = self._stack.dtype
            self.architecture = find_architecture(model, self._stack, self.device)
            self.config = self._stack.config.get_text_config()
        else:
            assert facts is not None
            assert loading is not None
            self._home, self._dtype = torch.device(loading.device), getattr(torch, facts.dtype)
            self._fingerprint, self._content = facts.fingerprint, bytes.fromhex(facts.content)
            self._record = facts.record
            self.architecture = facts.architecture
            self.config = model.get_text_config()
            set_attention_implementation(self.config, facts.attention)
        self.width: int = self.config.hidden_size
        self.block_count: int = self.config.num_hidden_layers if self._stack is None else len(self.blocks)

    @classmethod
    def load(
        cls,
        name: str = EMBEDDED,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        device_map: Placement | None = None,
        quantization: str | None = None,
        trust_remote_code: bool = False,
        late: bool = False,
    ) -> Self:
        """Loads a language model.

        Args:
            name: "embedded" for the SmolLM2 of the package index or another name of `llmdiff models list`, a local
                folder, a GGUF file, or a Hub id.
            revision: a Hub branch, tag or commit.
            dtype: of its weights, or, of a quantised one, in which it calculates.
            device: the one it runs on.
            device_map: "auto", or which part goes where, as transformers has it; then ``device`` is not used.
            quantization: "int8" (torchao, any device), "8bit" or "4bit" (bitsandbytes). `llmdiff evaluate fidelity`
                measures what it costs.
            trust_remote_code: run the Python code of the model's repository.
            late: load the weights when they are needed, if they have been loaded from the same files before.

        Raises:
            LLMDiffError: if it cannot be found, fetched or read.
        """
        loading = Loading.of(
            name,
            revision,
            dtype=dtype,
            device=device,
            device_map=device_map,
            quantization=quantization,
            trust_remote_code=trust_remote_code,
        )
        key = loading.key if late else None
        facts = Facts.read(key) if key else None
        model = loading.config() if facts else loading.model()
        tokenizer = loading.tokenizer()
        with readable_errors(loading, "model"):  # it is run, to see whether it is causal
            llm = cls(model, tokenizer, name, loading.revision, loading, facts)
            if key and not facts and llm.architecture == "decoder-only":
                llm._keep_facts(key)
        return llm

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> Self:
        """Returns a language model of what is loaded already, frozen and in eval mode."""
        return cls(model, tokenizer, name)

    @property
    def model(self) -> PreTrainedModel:
        """The stack of blocks with its embeddings and final norm, without a head; brought back if it was offloaded."""
        if self._stack is None:
            assert self._loading is not None
            self._stack = _frozen(self._loading.model())
            self.config = self._stack.config.get_text_config()
        if self._home is not None:
            if self._loading is None or not self._loading.fixed:
                move(self._stack, self._home)
            self._home = None
        return self._stack

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks in the order in which they run."""
        return find_blocks(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights, or in which it calculates with quantised ones."""
        return self._dtype if self._stack is None or self.quantization else self._stack.dtype

    @property
    def device(self) -> torch.device:
        """The device of its input: of an LLM that is offloaded, not that on which its weights wait."""
        if self._home is not None or self._stack is None:
            return self._home or torch.device("cpu")
        return input_device(self._stack)

    def to(self, device: torch.device | str) -> Self:
        """Moves it to a device, in place, and returns it.

        Raises:
            LLMDiffError: if its parts have been placed by a device_map or a quantisation.
        """
        if self._loading is not None and self._loading.fixed:
            if torch.device(device) == self.device:
                return self
            raise LLMDiffError(f"{self.name} is placed already: load it with device={str(device)!r} instead.")
        self.prefixes.clear()
        if self._home is None:
            move(self.model, device)
        else:
            self._home = torch.device(device)
        return self

    def offload(self) -> Self:
        """Gives back the memory that it takes, and returns it; its next use brings it back.

        What was loaded by name is let go, to be loaded again; what was given loaded waits on the CPU.
        """
        if self._home is None:
            self.content()  # this and the next look at the weights
            self.identity()
            self._dtype, self._home = self.dtype, self.device
            self.prefixes.clear()
            if self._loading is not None:
                self._stack = None
            elif self._stack is not None:
                move(self._stack, "cpu")
        return self

    @property
    def is_offloaded(self) -> bool:
        """True if it has been offloaded and not been needed since."""
        return self._home is not None

    def resolve_extraction(self, config: ExtractionConfig | None) -> ExtractionConfig:
        """Returns a config that fits this model: where it chooses no extraction, the default of the architecture.

        That is ``llmdiff`` of a decoder-only LLM, and ``last`` of the others.

        Raises:
            LLMDiffError: if a model of this architecture does not have the extraction.
        """
        config = config or ExtractionConfig()
        if self.architecture != "decoder-only" and "extraction" not in config.model_fields_set:
            config = config.model_copy(update={"extraction": "last"})
        self.check_extraction(config)
        return config

    def check_extraction(self, config: ExtractionConfig) -> None:
        """Raises LLMDiffError if a model of this architecture does not have the config's extraction."""
        if config.extraction != "llmdiff" or self.architecture == "decoder-only":
            return
        why = {
            "encoder-only": "was not trained to generate text, so its blocks have no posterior to read",
            "encoder-decoder": "conditions every decoder block on the encoder's output, which is what is to be read",
        }[self.architecture]
        raise LLMDiffError(
            f"The extraction llmdiff needs a decoder-only LLM, and {self.name} is {self.architecture}: it {why}; "
            "choose the extraction last."
        )

    def identity(self) -> dict[str, Any]:
        """Returns what tells one LLM from another at a glance.

        That is its name, revision, type, width, number of blocks, dtype, quantisation and fingerprint.

        The fingerprint is a hash of the architecture and of a sample of the weights of the first, the middle and the
        last block. It does not depend on where the LLM was loaded from, nor on the dtype as long as that dtype holds
        the checkpoint's values.
        """
        if self._fingerprint is None:
            self._fingerprint = self._hash_sample()
        return {
            "name": self.name,
            "revision": self.revision,
            "type": self.config.model_type,
            "width": self.width,
            "blocks": self.block_count,
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantization": self.quantization,
            "fingerprint": self._fingerprint,
        }

    def record(self) -> dict[str, Any]:
        """Returns what an adapter records of its LLM: `identity`, and hashes of its content (`content_record`)."""
        self.content()
        return self.identity() | (self._record or content_record(self.config, self.tokenizer, self._weights))

    def content(self) -> bytes:
        """Returns a hash of its configuration and of every bit of every weight, as they are now.

        All weights are read each time, since they may be changed in place without a trace, unless the LLM is `settled`.
        What was kept of other weights is dropped then. Of weights that were let go or divided among processes, it is
        the hash of before.
        """
        if self._content is not None and (self.settled or self._stack is None or is_divided(self._stack)):
            return self._content
        hashes = weights_hashes(self._stack or self.model)
        found = hashlib.sha256(f"{what_is_computed(self.config)} {hashes.whole}".encode()).digest()
        self._weights = hashes.parameters
        if self._content not in (None, found):
            self._fingerprint = self._record = None
            self.prefixes.clear()
            self.encodings.clear()
        self._content = found
        return found

    def _keep_facts(self, key: str) -> None:
        identity, content, attention = self.identity(), self.content().hex(), attention_implementation(self.config)
        self._record = content_record(self.config, self.tokenizer, self._weights)
        facts = Facts(self.architecture, attention, identity["dtype"], content, identity["fingerprint"], self._record)
        facts.keep(key)

    def _hash_sample(self) -> str:
        shape = (self.config.model_type, self.width, self.block_count, self.config.vocab_size)
        digest = hashlib.sha256(repr(shape).encode())
        for index in (0, self.block_count // 2, self.block_count - 1):
            for name, module in sorted(self.blocks[index].named_modules(), key=itemgetter(0)):
                with align_module_device(module):  # brings back what accelerate has offloaded
                    for key, weight in sorted(module.named_parameters(recurse=False), key=itemgetter(0)):
                        digest.update(f"{index}.{name}.{key}".encode() + _sample(weight))
        return digest.hexdigest()[:16]


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    return find_stack(model).eval().requires_grad_(False)


def _sample(weight: Tensor) -> bytes:
    """A few values of a weight, on a grid that is coarser than what float16 loses near zero."""
    return (_values(weight).float() * 4096).round().to(torch.int64).numpy().tobytes()


def _values(weight: Tensor) -> Tensor:
    """A few values of a weight."""
    plain = type(weight) in (Tensor, nn.Parameter)
    flat = (weight.detach() if plain or not hasattr(weight, "dequantize") else weight.dequantize()).flatten()
    return flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu()
