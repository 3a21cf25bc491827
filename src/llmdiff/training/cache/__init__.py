"""What the frozen models say of the data, computed once before training: latents and block terms."""

from llmdiff.training.cache.config import CacheConfig
from llmdiff.training.cache.latents import CachedLatents, Latents, LiveLatents
from llmdiff.training.cache.opening import open_latents, open_terms
from llmdiff.training.cache.store import Store
from llmdiff.training.cache.terms import BlockTerms, LiveTerms, Terms

__all__ = [
    "BlockTerms",
    "CacheConfig",
    "CachedLatents",
    "Latents",
    "LiveLatents",
    "LiveTerms",
    "Store",
    "Terms",
    "open_latents",
    "open_terms",
]
