"""Contact sheets: rows of pictures with their prompts printed underneath."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _FAINT = "#ffffff", "#1c1c1c", "#5f6368"
_GAP = 8  # pixels between pictures, and between picture and caption
_MARGIN = 16  # around every entry
_FONT_SIZE, _HEADING_SIZE, _LINE = 13, 17, 17
_MAX_LINES = 6
_SMALL = 192  # smaller pictures are enlarged to about this width

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetEntry:
    """Pictures of one size that belong side by side, the prompt under them, and the group they belong to."""

    images: tuple[Image.Image, ...]
    caption: str
    group: str = ""


def contact_sheet(entries: Sequence[SheetEntry], *, headings: Sequence[str] = (), across: int = 1) -> Image.Image:
    """Lay entries out in rows of `across`; a new group begins a new row under its title.

    Args:
        entries: at least one; all with the same number of pictures, all pictures of the same size.
        headings: printed over the columns of an entry, one per picture (such as base, adapted).
        across: entries per row.

    Pictures narrower than 192 pixels are enlarged by a whole factor, nearest neighbour, so that pixels stay pixels.

    Example:
        >>> pair = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64))
        >>> contact_sheet([SheetEntry(pair, "a red cup")], headings=("base", "with LLM")).width
        424
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one entry")
    tiles = [_tile(entry, headings) for entry in entries]
    width = tiles[0].width * min(across, len(tiles))
    strips: list[Image.Image] = []
    for group, members in groupby(zip(entries, tiles, strict=True), key=lambda pair: pair[0].group):
        row_tiles = [tile for _, tile in members]
        if group:
            strips.append(_title(group, width))
        strips += [_row(row_tiles[start : start + across], width) for start in range(0, len(row_tiles), across)]
    return _stack(strips, width)


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Break text into lines no wider than `width` pixels, between words where possible; at most 6, then an ellipsis."""
    lines: list[str] = []
    rest = " ".join(text.replace("\0", " ").split())
    while rest and len(lines) < _MAX_LINES:
        fits = _fitting(rest, font, width)
        cut = rest.rfind(" ", 0, fits + 1) if fits < len(rest) else fits
        cut = cut if cut > 0 else fits
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if rest:
        last = lines[-1] + "…"
        while len(last) > 1 and font.getlength(last) > width:
            last = last[:-2] + "…"
        lines[-1] = last
    return lines


def _fitting(text: str, font: Font, width: int) -> int:
    """The number of leading characters that fit into `width` pixels; at least one."""
    low, high = 1, min(len(text), width)  # no glyph of the built-in font is narrower than a pixel
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _tile(entry: SheetEntry, headings: Sequence[str]) -> Image.Image:
    images = [_enlarged(image) for image in entry.images]
    font = ImageFont.load_default(_FONT_SIZE)
    inner = sum(image.width for image in images) + _GAP * (len(images) - 1)
    lines = wrap(entry.caption, font, inner)
    top = _MARGIN + (_LINE + _GAP // 2 if headings else 0)
    height = top + images[0].height + _GAP + _LINE * len(lines) + _MARGIN
    tile = Image.new("RGB", (inner + 2 * _MARGIN, height), _PAPER)
    draw = ImageDraw.Draw(tile)
    left = _MARGIN
    for column, image in enumerate(images):
        if column < len(headings):
            draw.text((left, _MARGIN), headings[column], _FAINT, font=font)
        tile.paste(image, (left, top))
        left += image.width + _GAP
    for number, line in enumerate(lines):
        draw.text((_MARGIN, top + images[0].height + _GAP + _LINE * number), line, _INK, font=font)
    return tile


def _title(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, _HEADING_SIZE + _LINE // 2 + _MARGIN), _PAPER)  # half a line for descenders
    ImageDraw.Draw(strip).text((_MARGIN, _MARGIN), text, _INK, font=ImageFont.load_default(_HEADING_SIZE))
    return strip


def _row(tiles: Sequence[Image.Image], width: int) -> Image.Image:
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), _PAPER)
    for column, tile in enumerate(tiles):
        row.paste(tile, (column * tile.width, 0))
    return row


def _stack(strips: Sequence[Image.Image], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), _PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, round(_SMALL / image.width))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
