"""Training: an adapter from captioned pictures, by a recipe (docs/method.md section 4).

The names are imported when they are first used: a process that only reads pictures needs none of the models.
"""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.training.recipe import Recipe, load_recipe, presets
    from llmdiff.training.run import train
    from llmdiff.training.trainer import Interrupted

__all__ = ["Interrupted", "Recipe", "load_recipe", "presets", "train"]

__getattr__ = lazy.names(
    __name__,
    {"trainer": ("Interrupted",), "recipe": ("Recipe", "load_recipe", "presets"), "run": ("train",)},
)
