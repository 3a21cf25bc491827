"""llmdiff: any decoder-only LLM in charge of an existing diffusers text-to-image model.

    from llmdiff import LLMDiffAdapter, LanguageModel, ExtractionConfig

The names are imported when they are first used, so that `import llmdiff` costs nothing.
"""

from llmdiff import lazy

TYPE_CHECKING = False  # as type checkers know it; importing typing takes longer than all else here
if TYPE_CHECKING:
    from llmdiff.adapter import AdapterConfig, LLMDiffAdapter
    from llmdiff.errors import LLMDiffError
    from llmdiff.language import Encoding, ExtractionConfig, LanguageModel

__version__ = "0.1.0"

__all__ = ["AdapterConfig", "Encoding", "ExtractionConfig", "LLMDiffAdapter", "LLMDiffError", "LanguageModel"]

__getattr__ = lazy.names(
    __name__,
    {
        "adapter": ("AdapterConfig", "LLMDiffAdapter"),
        "errors": ("LLMDiffError",),
        "language": ("Encoding", "LanguageModel", "ExtractionConfig"),
    },
)
