"""From a request to pictures: load the models, draw, write PNG files that can be redrawn, lay out contact sheets.

The names are imported when they are first used: a mistake in a request is reported before torch is loaded.
"""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.base.loading import load_pipeline
    from llmdiff.generation.bulk import draw_listed, listed, share_of_process
    from llmdiff.generation.found import pictures_in, prompt_of
    from llmdiff.generation.picture import Picture, comparison_sheet, generate, generate_each
    from llmdiff.generation.png import Document, file_stem, png_bytes, read_picture, read_png, save_png, write_png
    from llmdiff.generation.prompt_file import read_prompt_file
    from llmdiff.generation.record import Models, PictureSettings, Provenance, Record
    from llmdiff.generation.redraw import Redrawn, regenerate
    from llmdiff.generation.renderer import Renderer
    from llmdiff.generation.request import GenerationRequest
    from llmdiff.generation.sheet import SheetEntry, contact_sheet

__all__ = [
    "Document",
    "GenerationRequest",
    "Models",
    "Picture",
    "PictureSettings",
    "Provenance",
    "Record",
    "Redrawn",
    "Renderer",
    "SheetEntry",
    "comparison_sheet",
    "contact_sheet",
    "draw_listed",
    "file_stem",
    "generate",
    "generate_each",
    "listed",
    "load_pipeline",
    "pictures_in",
    "png_bytes",
    "prompt_of",
    "read_picture",
    "read_png",
    "read_prompt_file",
    "regenerate",
    "save_png",
    "share_of_process",
    "write_png",
]

__getattr__ = lazy.names(
    __name__,
    {
        "bulk": ("draw_listed", "listed", "share_of_process"),
        "picture": ("Picture", "comparison_sheet", "generate", "generate_each"),
        "found": ("pictures_in", "prompt_of"),
        "png": ("Document", "file_stem", "png_bytes", "read_picture", "read_png", "save_png", "write_png"),
        "prompt_file": ("read_prompt_file",),
        "record": ("Models", "PictureSettings", "Provenance", "Record"),
        "redraw": ("Redrawn", "regenerate"),
        "renderer": ("Renderer", "load_pipeline"),
        "request": ("GenerationRequest",),
        "sheet": ("SheetEntry", "contact_sheet"),
    },
)
