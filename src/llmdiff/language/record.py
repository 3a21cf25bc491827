"""Hashes of all that an LLM's encodings depend on besides torch: what adapters record, and caches are named by."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmdiff.hashing import json_hash, text_hash

RECORDED = ("weights", "settings", "tokenizer", "template", "transformers")
"""The keys of a record, each with a text."""

_BOOKKEEPING = ("_name_or_path", "architectures", "dtype", "transformers_version")  # where a model came from
_CALLS = ("verbose", "_in_target_context_manager")  # of a tokenizer: not how it splits texts
_PROBES = ("A red Cup, 2 × 3!", "\n  Ça\u0301 <|im_end|> ﬁ杯")  # what its rules may treat in ways of their own
_LENGTH = 16  # characters of a hash


def content_record(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, weights: str) -> dict[str, str]:
    """The hashes by which `differences` finds out that an LLM is another one than an adapter was made with.

    Args:
        config: of its blocks.
        tokenizer: its tokenizer.
        weights: the hash of its weights, `llmdiff.hashing.WeightsHashes.parameters`.
    """
    return {
        "weights": weights[:_LENGTH],
        "settings": text_hash(what_is_computed(config))[:_LENGTH],
        "tokenizer": json_hash(_how_it_splits(tokenizer))[:_LENGTH],
        "template": text_hash(str(tokenizer.chat_template))[:_LENGTH],
        "transformers": transformers.__version__,
    }


def differences(recorded: Mapping[str, Any], given: Mapping[str, Any], *, chats: bool) -> list[str]:
    """What of an LLM is not as it was recorded, in words; nothing of what the record does not have.

    Weights are compared where they are of one dtype and not quantised, settings and tokenizer where one version of
    transformers, which has its own forms of both, has read them.

    Args:
        recorded: `LanguageModel.record` of then, or of an older version, which has fewer keys.
        given: that of now.
        chats: whether the prompts go into the chat template.

    Example:
        >>> differences({"template": "1"}, {"template": "2"}, chats=True)
        ['chat template']
    """
    numbers = ("dtype", "quantization")
    is_plain = given.get("quantization") is None and all(recorded.get(key) == given.get(key) for key in numbers)
    is_same_reader = recorded.get("transformers") == given.get("transformers")
    compared = {
        "weights": ("weights", is_plain),
        "settings": ("settings", is_same_reader),
        "tokenizer": ("tokenizer", is_same_reader),
        "template": ("chat template", chats),
    }
    return [
        words
        for key, (words, is_comparable) in compared.items()
        if is_comparable and key in recorded and recorded[key] != given.get(key)
    ]


def what_is_computed(config: PreTrainedConfig) -> str:
    """A configuration as text, without what saving and loading a model write into it."""

    def without(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {str(key): without(part) for key, part in value.items() if key not in _BOOKKEEPING}

    return json.dumps(without(config.to_dict()), sort_keys=True, default=str)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of how a tokenizer splits texts: vocabulary, rules, special tokens, template, limits and switches."""
    how, tokens, settings, probes = _how_it_splits(tokenizer)
    return json_hash([how, tokens, tokenizer.chat_template, settings, probes])


def _how_it_splits(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any, Any, Any]:
    """Vocabulary and rules, special tokens, limits and switches, and what becomes of some texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    how = _files(tokenizer) if backend is None else json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of its last call
        how.pop(state, None)
    numbers = {key: value for key, value in vars(tokenizer).items() if isinstance(value, bool | int | float)}
    settings = {key: value for key, value in numbers.items() if key not in _CALLS}
    probes = [tokenizer(text)["input_ids"] for text in _PROBES]
    return how, tokenizer.special_tokens_map, settings, probes


def _files(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The vocabulary of a tokenizer that is Python code, and what it would save of its rules."""
    rules: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(NotImplementedError):
        for path in map(Path, tokenizer.save_vocabulary(folder)):
            rules[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"vocabulary": tokenizer.get_vocab(), "rules": rules}
