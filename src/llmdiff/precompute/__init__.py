"""The frozen models' work on the data, done once before training: latents and block terms."""

from llmdiff.precompute.answers import Answers
from llmdiff.precompute.config import CacheConfig
from llmdiff.precompute.factory import open_latents, open_terms
from llmdiff.precompute.latents import CachedLatents, Latents, LiveLatents, check_latents
from llmdiff.precompute.store import Store
from llmdiff.precompute.terms import BlockTerms, LiveTerms, Terms

__all__ = [
    "Answers",
    "BlockTerms",
    "CacheConfig",
    "CachedLatents",
    "Latents",
    "LiveLatents",
    "LiveTerms",
    "Store",
    "Terms",
    "check_latents",
    "open_latents",
    "open_terms",
]
