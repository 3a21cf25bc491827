"""Draws the atlas of the world's things from Fluent Emoji: `python recipes/world/build_atlas.py`.

The art is fetched with npm, in the versions that `sources.py` pins, and rasterised by resvg, in the version that the
group `world` of `pyproject.toml` pins: the same files come out byte for byte.
"""

import io
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from llmdiff.world.atlas import COLUMNS, STYLES, sheet_name
from llmdiff.world.things import THINGS
from llmdiff.world.vocabulary import SIZES
from world.sources import FLAT, SHADED, fetch, member

FOLDER = Path(__file__).parents[2] / "src" / "llmdiff" / "world"
_SHARE = 15 / 16  # of the frame that the longer side of the art takes
_FINE = 256  # side of the drawing that sprites are made smaller from, in pixels
_VISIBLE = 16  # opacity from which on a pixel counts as art


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the sheets.")] = FOLDER,
    cache: Annotated[Path, typer.Option(help="Folder of the fetched packages.")] = Path("build/world"),
) -> None:
    """Writes one sheet of each style and size."""
    out.mkdir(parents=True, exist_ok=True)
    for style, source in zip(STYLES, (FLAT, SHADED), strict=True):
        icons = json.loads(member(fetch(source, cache), "icons.json"))
        art = [rasterised(icons["icons"][thing.art]["body"], icons["height"]) for thing in THINGS]
        for side in SIZES.values():
            path = out / sheet_name(style, side)
            sheet([sprite(image, side) for image in art], side).save(path, optimize=True)
            typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def rasterised(body: str, width: int) -> Image.Image:
    """An icon whose drawing is `width` units wide: RGBA, `_FINE` pixels wide."""
    import resvg_py

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {width}">{body}</svg>'
    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, width=_FINE, height=_FINE))).convert("RGBA")


def sprite(art: Image.Image, side: int) -> Image.Image:
    """A thing's art, as large as its frame allows and in the middle of it: RGBA, side×side."""
    visible = art.getchannel("A").point(lambda opacity: 255 * (opacity >= _VISIBLE))
    box = visible.getbbox()
    assert box is not None
    left, top, right, bottom = box
    frame = round(max(right - left, bottom - top) / _SHARE)
    x, y = (left + right - frame) // 2, (top + bottom - frame) // 2
    framed = Image.new("RGBA", (frame, frame))
    framed.paste(art, (-x, -y))
    return framed.convert("RGBa").resize((side, side), Image.Resampling.BOX).convert("RGBA")


def sheet(sprites: list[Image.Image], side: int) -> Image.Image:
    """The sprites in rows of `COLUMNS`."""
    rows = -(-len(sprites) // COLUMNS)
    image = Image.new("RGBA", (COLUMNS * side, rows * side))
    for i, part in enumerate(sprites):
        # What nobody sees has no colour: such pixels cost nothing in the file.
        pixels = np.array(part)
        pixels[pixels[..., 3] == 0] = 0
        image.paste(Image.fromarray(pixels), (i % COLUMNS * side, i // COLUMNS * side))
    return image


if __name__ == "__main__":
    typer.run(main)
