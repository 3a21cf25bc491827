"""Names of cache folders, by all that their entries depend on: the content of models, whatever they are called.

Of weights that a quantisation has packed, or FSDP divided, samples are looked at (`LanguageModel.content`); of all
others every bit counts. Library versions do not: they change last bits, which float16 does not keep.
"""

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmdiff.hashing import json_hash, weights_hash
from llmdiff.language import ExtractionConfig, LanguageModel

_READING = 1  # to be counted up whenever llmdiff reads blocks differently
_ENCODING = 1  # the same of latents


def terms_folder(llm: LanguageModel, reading: ExtractionConfig, count: int) -> str:
    """Name of the folder for `count` terms of each token, as this LLM gives them in this reading."""
    identity = {key: value for key, value in llm.identity().items() if key not in ("name", "revision")}
    return _name(
        "terms",
        version=_READING,
        identity=identity,
        content=llm.content().hex(),
        weights=weights_hash(llm.model),
        tokenizer=tokenizer_hash(llm.tokenizer),
        reading=reading.model_dump(mode="json", exclude={"noise"}),
        count=count,
    )


def latents_folder(vae: Any) -> str:
    """Name of the folder for the latents of this VAE; the pictures' identities say the rest."""
    scale = [vae.config.get(name) for name in ("scaling_factor", "shift_factor")]
    return _name("latents", version=_ENCODING, vae=type(vae).__name__, weights=weights_hash(vae), scale=scale)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of how a tokenizer splits texts and of its special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    how = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of its last call
        how.pop(state, None)
    content = [how, tokenizer.special_tokens_map, tokenizer.chat_template]
    return json_hash(content)


def _name(kind: str, **content: Any) -> str:
    return f"{kind}-{json_hash(content)[:16]}"
