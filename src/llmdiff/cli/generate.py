"""`llmdiff generate`: prompts in, PNG files out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmdiff.cli import console
from llmdiff.errors import LLMDiffError

if TYPE_CHECKING:
    from llmdiff.generation import Picture

_SLUG_LENGTH = 40  # characters; four bytes each at most, within any file system's limit


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw; several give several.")],
    base: Annotated[
        str, typer.Option(help="Base model: 'embedded', a diffusers folder, a .safetensors checkpoint, or a Hub id.")
    ] = "embedded",
    base_config: Annotated[
        str | None,
        typer.Option(
            help="For a .safetensors checkpoint: a diffusers folder or Hub id of a model of the same shape.",
            show_default="that on the Hub of the model that it looks like",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Adapter: 'embedded', a folder, a Hub id, or 'none' for the base model alone.",
            show_default="embedded, with the embedded base",
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            help="LLM: a name of `llmdiff models list`, a folder, a GGUF file or a Hub id.",
            show_default="the one that the adapter was trained with",
        ),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="Of the LLM: int8 (torchao), 8bit or 4bit (bitsandbytes).", show_default="as the adapter was trained"
        ),
    ] = None,
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = "",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 turns it off.")] = 5.0,
    scale: Annotated[float, typer.Option(help="Strength of the adapter; 0 is the base model.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first picture; the next has the next.", show_default="random")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size in pixels.", show_default="that of the base model")
    ] = None,
    num: Annotated[int, typer.Option(help="Pictures per prompt.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder, or a .png file where there is one result.")] = Path("out"),
    compare: Annotated[
        bool, typer.Option("--compare", help="Put the base model's picture beside each, same seed, on one sheet.")
    ] = False,
    prompt_weights: Annotated[
        bool, typer.Option("--prompt-weights", help="Read (word:1.3), (word) and [word] as weights and not as text.")
    ] = False,
    offload_llm: Annotated[
        bool, typer.Option("--offload-llm", help="Give back the LLM's memory once it has read the prompts.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the fastest")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw pictures from prompts.

    Every PNG carries what it was drawn with: in the `parameters` chunk that many tools read, and in a chunk of ours
    from which `llmdiff regenerate` redraws it pixel for pixel. Files are never overwritten, except one that --out
    names.
    """
    from llmdiff.generation import GenerationRequest

    options = {"seed": seed} if seed is not None else {}
    request = GenerationRequest.model_validate(
        options
        | dict(prompts=prompts, negative=negative, steps=steps, guidance=guidance, scale=scale, size=size, num=num)
        | dict(base=base, base_config=base_config, adapter=adapter, llm=llm, quantization=quantization)
        | dict(compare=compare, device=device, prompt_weights=prompt_weights, offload_llm=offload_llm)
    )
    _check_place(out, 1 if compare else len(prompts) * num)
    console.quiet_hosts()
    from llmdiff.generation import generate as draw

    with console.progress_bar() as progress:
        pictures = draw(request, progress)
    _report(*_write(pictures, out, compare), pictures, as_json)


def _names_file(out: Path) -> bool:
    return out.suffix.lower() == ".png" and not out.is_dir()


def _check_place(out: Path, results: int) -> None:
    """Raises LLMDiffError where the results cannot be written, before any time is spent on them."""
    place = out
    if _names_file(out):
        if results > 1:
            raise LLMDiffError(f"One file, {str(out)!r}, cannot take {results} pictures: give --out a folder.")
        place = out.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise LLMDiffError(f"There is a file {str(place)!r} where --out needs a folder: choose another place.")
    if not os.access(place, os.W_OK):
        raise LLMDiffError(f"No permission to write to {str(place)!r}: choose another place with --out.")


def _write(pictures: Sequence["Picture"], out: Path, compare: bool) -> tuple[list[Path], Path | None]:
    """Write the files; returns those of the pictures, in order, and the comparison sheet."""
    from llmdiff.generation import write_png

    to_file = _names_file(out)
    if compare and to_file:
        return [], _write_sheet(pictures, out)
    paths = []
    for picture in pictures:
        path = out if to_file else _free(out, _name(picture))
        write_png(path, picture.image, picture.document())
        paths.append(path)
        if picture.base is not None:
            write_png(_free(out, f"{path.stem}-base"), picture.base.image, picture.base.document())
    return paths, _write_sheet(pictures, _free(out, f"{paths[0].stem}-compare")) if compare else None


def _write_sheet(pictures: Sequence["Picture"], path: Path) -> Path:
    from llmdiff.generation import Document, comparison_sheet, write_png

    document = Document(kind="comparison", pictures=tuple(picture.metadata for picture in pictures))
    write_png(path, comparison_sheet(pictures), document)
    return path


def _report(paths: Sequence[Path], sheet: Path | None, pictures: Sequence["Picture"], as_json: bool) -> None:
    if not as_json:
        for path in [*paths, *([sheet] if sheet else [])]:
            console.print_line(path)
        return
    files: list[str | None] = [str(path) for path in paths] or [None] * len(pictures)
    described = [
        {"path": file, "metadata": picture.metadata.model_dump(mode="json")}
        for file, picture in zip(files, pictures, strict=True)
    ]
    console.print_json({"pictures": described, "sheet": str(sheet) if sheet else None})


def _name(picture: "Picture") -> str:
    slug = re.sub(r"\W+", "-", picture.prompt.lower()).strip("-")[:_SLUG_LENGTH].rstrip("-")
    return f"{slug or 'picture'}-s{picture.seed}"


def _free(folder: Path, stem: str) -> Path:
    """The first of stem.png, stem-2.png, … that does not exist yet."""
    path, number = folder / f"{stem}.png", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.png", number + 1
    return path
