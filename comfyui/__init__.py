"""LLMDiff for ComfyUI: an LLM reads the prompt of Stable Diffusion 1.x, 2.x or SDXL."""

from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """What ComfyUI asks a node pack for."""
    from .nodes import LLMDiffExtension

    return LLMDiffExtension()
