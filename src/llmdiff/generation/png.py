"""PNG files that say how they were made.

Two text chunks: `parameters`, in the format of the AUTOMATIC1111 web UI that many tools read, and `llmdiff`, a
versioned JSON document with everything that a redraw needs. The second is pure ASCII: any prompt survives it unchanged.
"""

import io
import json
import re
import sys
import warnings
import zlib
from pathlib import Path, PurePath
from typing import Literal

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.generation.record import Record
from llmdiff.structured_text import parse_json

CHUNK = "llmdiff"
FORMAT_VERSION: Literal[1] = 1
_LONGEST = 32 * 2**20  # characters of our chunk: what JSON of that length takes of memory stays under a gigabyte
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_MOST_PIXELS = 100_000_000  # as RGBA and as RGB, 0.7 GB

_NEGATIVE = "Negative prompt"
# Names of schedulers in the web UI, where they differ from the class name without its ending.
_SLUG_LENGTH = 40  # characters; four bytes each at most, within any file system's limit
_SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "KDPM2DiscreteScheduler": "DPM2",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}


class Document(BaseModel):
    """Content of the `llmdiff` chunk: one picture, or the rows of a comparison sheet (base beside adapted)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = FORMAT_VERSION
    kind: Literal["picture", "comparison"]
    pictures: tuple[Record, ...] = Field(min_length=1)


def file_stem(prompt: str, seed: int) -> str:
    """The name of a picture's file without its ending, in letters that the file system has.

    Example:
        >>> file_stem("A red cup, please!", 7)
        'a-red-cup-please-s7'
    """
    letters = re.NOFLAG if sys.getfilesystemencoding() == "utf-8" else re.ASCII
    slug = re.sub(r"\W+", "-", prompt.lower(), flags=letters).strip("-")[:_SLUG_LENGTH].rstrip("-")
    return f"{slug or 'picture'}-s{seed}"


def write_png(path: Path, image: Image.Image, document: Document, *, replace: bool = True) -> None:
    """Write a PNG with both chunks, in one step: the file is there whole or not at all.

    Raises:
        FileExistsError: there is a file of that name, and it is not to be replaced.
        LLMDiffError: the document is too long to be read again.

    Example:
        >>> request = GenerationRequest(prompts=["a red cup"], base="my-sd", adapter="my-adapter", steps=2)
        >>> picture = generate(request)[0]
        >>> write_png(Path("cup.png"), picture.image, picture.document())
        >>> read_png(Path("cup.png"))[1].pictures[0].picture.prompt
        'a red cup'
    """
    save_png(path, image, _chunks(document, str(path)), replace=replace)


def png_bytes(image: Image.Image, document: Document) -> bytes:
    """The bytes of the file that `write_png` writes.

    Raises:
        LLMDiffError: the document is too long to be read again.

    Example:
        >>> request = GenerationRequest(prompts=["a red cup"], base="my-sd", adapter="my-adapter", steps=2)
        >>> picture = generate(request)[0]
        >>> png_bytes(picture.image, picture.document())[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=_chunks(document, "the picture"))
    return buffer.getvalue()


def save_png(path: Path, image: Image.Image, info: PngInfo | None = None, *, replace: bool = True) -> None:
    """Write a PNG, making its folder if needed, in one step; raises FileExistsError as `write_png` does."""
    with written_whole(path, replace=replace) as draft:
        image.save(draft, format="PNG", pnginfo=info)


def read_png(path: Path) -> tuple[Image.Image, Document]:
    """The picture and what it was made with.

    Raises:
        LLMDiffError: no such file, not a readable PNG, one of more than 100 million pixels, no chunk of ours, or one of
            a newer format.
    """
    pixels, chunks = read_picture(path)
    if CHUNK not in chunks:
        raise LLMDiffError(
            f"The file {str(path)!r} does not say how it was drawn (no {CHUNK!r} chunk): "
            "only PNG files written by llmdiff, and not edited since, can be redrawn."
        )
    return pixels, _parse(path, chunks[CHUNK])


def read_picture(path: Path) -> tuple[Image.Image, dict[str, str]]:
    """The pixels of a picture file of any kind, and the text chunks of a PNG.

    Raises:
        LLMDiffError: no such file, not a readable picture, or one of more than 100 million pixels.
    """
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise LLMDiffError(f"There is no file {str(path)!r}.") from error
    except PermissionError as error:
        raise LLMDiffError(f"No permission to read the file {str(path)!r}.") from error
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise LLMDiffError(f"The file {str(path)!r} is not a picture that can be read, or it is damaged.") from error


def prompt_in(path: Path, chunks: dict[str, str]) -> str | None:
    """The prompt of a picture by its text chunks, ours or those that the web UI and its kin write; None if it has none.

    Raises:
        LLMDiffError: the chunk of ours is damaged.

    Example:
        >>> prompt_in(Path("cup.png"), {"parameters": "a red cup\\nNegative prompt: blue\\nSteps: 20, Seed: 7"})
        'a red cup'
    """
    if CHUNK in chunks:
        return _parse(path, chunks[CHUNK]).pictures[0].picture.prompt
    if "parameters" not in chunks:
        return None
    text = chunks["parameters"]
    found = _json_prompt(text) if text.startswith("{") else None
    if found is None:
        found = re.split(rf"(?:^|\n)(?:{_NEGATIVE}|Steps): ", text)[0]
    return found.strip() or None


def _json_prompt(text: str) -> str | None:
    """The prompt in parameters that are JSON, as Fooocus and SwarmUI write them; None of any other text."""
    try:
        content = parse_json(text, "it")
    except LLMDiffError:  # a prompt that begins so: {red|blue} balls
        return None
    settings = content.get("sui_image_params", content)
    prompt = settings.get("prompt") if isinstance(settings, dict) else None
    return prompt if isinstance(prompt, str) else ""


def _chunks(document: Document, name: str) -> PngInfo:
    """The text chunks of a PNG."""
    text = json.dumps(document.model_dump(mode="json"), ensure_ascii=True)
    if len(text) > _LONGEST:
        raise LLMDiffError(
            f"The prompts of {name!r} are together too long to be kept in a PNG: draw fewer to one file, or shorten "
            "them."
        )
    info = PngInfo()
    info.add_text("parameters", parameters_text(document.pictures[0]))
    info.add_text(CHUNK, text)
    return info


def _read(path: Path) -> tuple[Image.Image, dict[str, str]]:
    """The pixels of a picture file, and the text chunks of a PNG."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")  # a pipe would be waited for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a sentence is enough
        with Image.open(path, formats=_FORMATS) as image:
            image.verify()  # the checksums of a PNG's chunks, which are not looked at where it is decoded
        opened = Image.open(path, formats=_FORMATS)
    with opened as image:
        if image.width * image.height > _MOST_PIXELS:
            raise LLMDiffError(
                f"The file {str(path)!r} has {image.width}x{image.height} pixels, which is more than is read."
            )
        image.load()
        chunks = dict(image.text) if isinstance(image, PngImageFile) else {}
        return image.convert("RGB"), chunks


def parameters_text(record: Record) -> str:
    """The `parameters` chunk: prompt, negative prompt and one line of settings, as the web UI writes them.

    Its prompt is what was drawn: a proxy's rewriting, if there is one, beside which the user's own is a setting. The
    format has no quoting for prompts. What looks like one of its fields in a prompt gets a space before its colon,
    "Steps : 20", so that no reader takes it for one; the `llmdiff` chunk has the prompt as it is.
    """
    picture, provenance = record.picture, record.provenance
    settings: dict[str, object] = {
        "Steps": picture.steps,
        "Sampler": _sampler(provenance.scheduler),
        "CFG scale": f"{picture.guidance:g}",
        "Seed": picture.seed,
        "Size": f"{picture.width}x{picture.height}",
        "Model hash": provenance.base_hash[:10],
        "Model": PurePath(record.models.base).name,
    }
    if record.models.adapter is not None:
        settings["LLMDiff adapter"] = record.models.adapter
        settings["LLMDiff adapter hash"] = (provenance.adapter_hash or "")[:10]
        settings["LLMDiff scale"] = f"{picture.scale:g}"
    if picture.rewriting is not None:
        settings["LLMDiff prompt"] = picture.prompt
        settings["LLMDiff proxy"] = picture.rewriting.model
    settings["Version"] = f"llmdiff {provenance.versions.get('llmdiff', '')}"
    fields = re.compile(rf"({'|'.join((_NEGATIVE, *settings))}):")
    prompt, negative = (fields.sub(r"\1 :", text) for text in (picture.texts[0], picture.negative))
    lines = [prompt, f"{_NEGATIVE}: {negative}"] if negative else [prompt]
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()))
    return "\n".join(lines).replace("\0", "").encode(errors="replace").decode()


def _parse(path: Path, text: str | bytes) -> Document:
    try:
        if len(text) > _LONGEST:
            raise ValueError("longer than any that is written")
        content = json.loads(text)
        if (
            isinstance(content, dict)
            and isinstance(content.get("version"), int)
            and content["version"] > FORMAT_VERSION
        ):
            raise LLMDiffError(f"The file {str(path)!r} was drawn by a newer llmdiff: upgrade to redraw it.")
        return Document.model_validate(content)
    except (ValueError, RecursionError, ValidationError) as error:
        raise LLMDiffError(f"The {CHUNK!r} chunk of {str(path)!r} is damaged.") from error


def _sampler(scheduler: dict[str, object]) -> str:
    name = str(scheduler["_class_name"])
    return _SAMPLERS.get(name, name.removesuffix("Scheduler").removesuffix("Discrete"))


def _quoted(value: object) -> str:
    """A value as the web UI writes it: in JSON quotes where a comma, colon or line break would end it early."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n\r"') else text
