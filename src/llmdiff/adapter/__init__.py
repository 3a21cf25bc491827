"""The adapter: from an LLM's encoding to the cross-attention of an image model (docs/method.md section 3)."""

from llmdiff.adapter.config import AdapterConfig, LoRAConfig
from llmdiff.adapter.model import LLMDiffAdapter
from llmdiff.adapter.refiner import RefinerConfig

__all__ = ["AdapterConfig", "LLMDiffAdapter", "LoRAConfig", "RefinerConfig"]
