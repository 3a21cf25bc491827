"""Names of cache folders, by all that their entries depend on: the content of models, whatever they are called.

Every bit of a weight counts. Library versions do not: they change last bits, which float16 does not keep.
"""

import hashlib
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmdiff.hashing import json_hash, weights_hash
from llmdiff.language import ExtractionConfig, LanguageModel

_READING = 1  # to be counted up whenever llmdiff reads blocks differently
_ENCODING = 1  # the same of latents
_CALLS = ("verbose", "_in_target_context_manager")  # of a tokenizer: not how it splits texts
_PROBES = ("A red Cup, 2 × 3!", "\n  Ça\u0301 <|im_end|> ﬁ杯")  # what its rules may treat in ways of their own


def terms_folder(llm: LanguageModel, reading: ExtractionConfig, count: int) -> str:
    """Name of the folder for `count` terms of each token, as this LLM gives them in this reading."""
    identity = {key: value for key, value in llm.identity().items() if key not in ("name", "revision")}
    return _name(
        "terms",
        version=_READING,
        identity=identity,
        content=llm.content().hex(),
        tokenizer=tokenizer_hash(llm.tokenizer),
        reading=reading.model_dump(mode="json", exclude={"noise", "fixed_g"}),
        count=count,
    )


def latents_folder(vae: Any) -> str:
    """Name of the folder for the latents of this VAE; the pictures' identities say the rest."""
    config = {key: value for key, value in vae.config.items() if not key.startswith("_")}  # but where it came from
    tiles = {key: value for key, value in vars(vae).items() if key.startswith(("use_", "tile_"))}
    kind = type(vae).__name__
    return _name("latents", version=_ENCODING, vae=kind, weights=weights_hash(vae), config=config, tiles=tiles)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of how a tokenizer splits texts: vocabulary, rules, special tokens, template, limits and switches."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    how = _files(tokenizer) if backend is None else json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of its last call
        how.pop(state, None)
    numbers = {key: value for key, value in vars(tokenizer).items() if isinstance(value, bool | int | float)}
    settings = {key: value for key, value in numbers.items() if key not in _CALLS}
    probes = [tokenizer(text)["input_ids"] for text in _PROBES]
    content = [how, tokenizer.special_tokens_map, tokenizer.chat_template, settings, probes]
    return json_hash(content)


def _files(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The vocabulary of a tokenizer that is Python code, and what it would save of its rules."""
    rules: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(NotImplementedError):
        for path in map(Path, tokenizer.save_vocabulary(folder)):
            rules[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"vocabulary": tokenizer.get_vocab(), "rules": rules}


def _name(kind: str, **content: Any) -> str:
    return f"{kind}-{json_hash(content)[:16]}"
