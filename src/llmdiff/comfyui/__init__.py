"""The adapter in ComfyUI, whose models are no diffusers pipelines: the join to their attention and their conditionings.

Nothing of ComfyUI is imported here: its objects are used by what they offer to every node pack. The nodes themselves
are in the folder ``comfyui`` of the repository.
"""

from llmdiff.comfyui.conditioning import condition
from llmdiff.comfyui.model import join_model, set_scale
from llmdiff.comfyui.wrappers import Joint

__all__ = ["Joint", "condition", "join_model", "set_scale"]
