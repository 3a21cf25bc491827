"""The frozen image model: what a pipeline's denoiser is made of, takes and predicts."""

from llmdiff.base.description import BaseDescription, LayerShape
from llmdiff.base.image_model import ImageModel, Inputs
from llmdiff.base.size_conditioning import SizeConditioning

__all__ = ["BaseDescription", "ImageModel", "Inputs", "LayerShape", "SizeConditioning"]
