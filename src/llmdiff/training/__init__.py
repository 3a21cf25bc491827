"""Training: an adapter from captioned pictures, by a recipe (method.md section 4)."""

from llmdiff.training.loop import Interrupted
from llmdiff.training.recipe import Recipe, load_recipe, presets
from llmdiff.training.run import train

__all__ = ["Interrupted", "Recipe", "load_recipe", "presets", "train"]
