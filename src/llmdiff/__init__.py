"""llmdiff: any decoder-only LLM in charge of an existing diffusers text-to-image model.

    from llmdiff import LLMDiffAdapter, LanguageModel, ReadingConfig

The names are imported when they are first used, so that `import llmdiff` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmdiff.adapter import AdapterConfig, LLMDiffAdapter
    from llmdiff.errors import LLMDiffError
    from llmdiff.language import Encoding, LanguageModel, ReadingConfig

__version__ = "0.1.0"

__all__ = ["AdapterConfig", "Encoding", "LLMDiffAdapter", "LLMDiffError", "LanguageModel", "ReadingConfig"]

_HOMES = {
    "AdapterConfig": "llmdiff.adapter",
    "Encoding": "llmdiff.language",
    "LLMDiffAdapter": "llmdiff.adapter",
    "LLMDiffError": "llmdiff.errors",
    "LanguageModel": "llmdiff.language",
    "ReadingConfig": "llmdiff.language",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llmdiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
