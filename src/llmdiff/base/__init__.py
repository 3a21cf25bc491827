"""The frozen image model: the stock text-to-image model of diffusers that an adapter is made for.

The names are imported when they are first used: where a model lies is found out without torch.
"""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.base.description import BaseDescription, LayerShape
    from llmdiff.base.image_model import ImageModel, Inputs
    from llmdiff.base.size_conditioning import SizeConditioning

__all__ = ["BaseDescription", "ImageModel", "Inputs", "LayerShape", "SizeConditioning"]

__getattr__ = lazy.names(
    __name__,
    {
        "description": ("BaseDescription", "LayerShape"),
        "image_model": ("ImageModel", "Inputs"),
        "size_conditioning": ("SizeConditioning",),
    },
)
