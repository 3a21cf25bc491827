"""From a request to pictures: load the models, draw, write PNG files that can be redrawn, lay out contact sheets."""

from llmdiff.generation.pipeline import load_pipeline
from llmdiff.generation.png import Document, read_png, save_png, write_png
from llmdiff.generation.provenance import Provenance
from llmdiff.generation.record import Models, PictureSettings, Record
from llmdiff.generation.redraw import Redrawn, regenerate
from llmdiff.generation.renderer import Renderer
from llmdiff.generation.request import GenerationRequest, Picture, comparison_sheet, generate
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
    "generate",
    "load_pipeline",
    "read_png",
    "regenerate",
    "save_png",
    "write_png",
]
