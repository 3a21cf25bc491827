"""Closed language models, by proxy: any OpenAI-compatible endpoint rewrites the prompt that the open LLM then reads.

Importing the package imports no HTTP client; asking does.
"""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.proxy.config import ProxyConfig
    from llmdiff.proxy.instruction import default_instruction
    from llmdiff.proxy.rewriter import Rewriter
    from llmdiff.proxy.rewriting import Rewriting

__all__ = ["ProxyConfig", "Rewriter", "Rewriting", "default_instruction"]

__getattr__ = lazy.names(
    __name__,
    {
        "config": ("ProxyConfig",),
        "instruction": ("default_instruction",),
        "rewriter": ("Rewriter",),
        "rewriting": ("Rewriting",),
    },
)
