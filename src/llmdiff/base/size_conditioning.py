"""The sizes and crops that a denoiser like SDXL's is conditioned on."""

from typing import NamedTuple

Size = tuple[int, int]
"""Height and width in pixels."""


class SizeConditioning(NamedTuple):
    """The size and crop conditioning of one picture (SDXL: Podell et al. 2023, section 2.2), in diffusers' names.

    Example:
        >>> SizeConditioning(original_size=(600, 800), crops_coords_top_left=(0, 85), target_size=(512, 512))
        SizeConditioning(original_size=(600, 800), crops_coords_top_left=(0, 85), target_size=(512, 512))
    """

    original_size: Size
    """The whole picture's, upright."""
    crops_coords_top_left: tuple[int, int]
    """Top and left of what was cut out, in the picture scaled to cover `target_size`."""
    target_size: Size
