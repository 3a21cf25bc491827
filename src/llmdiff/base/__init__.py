"""The frozen image model: the stock text-to-image model of diffusers that an adapter is made for."""

from llmdiff.base.description import BaseDescription, LayerShape
from llmdiff.base.image_model import ImageModel, Inputs
from llmdiff.base.size_conditioning import SizeConditioning

__all__ = ["BaseDescription", "ImageModel", "Inputs", "LayerShape", "SizeConditioning"]
