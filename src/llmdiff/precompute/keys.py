"""Names of cache folders, by all that their entries depend on: the content of models, whatever they are called.

Every bit of a weight counts. Library versions do not: they change last bits, which float16 does not keep.
"""

from typing import Any

from llmdiff.hashing import json_hash, weights_hash
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.language.record import tokenizer_hash

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


def _name(kind: str, **content: Any) -> str:
    return f"{kind}-{json_hash(content)[:16]}"
