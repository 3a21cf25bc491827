"""A document of headings, paragraphs, tables and pictures, written as Markdown and as a page that stands alone."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } td, th { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid #e2e8f0; } img { max-width: 100%; } div { overflow-x: auto; }"""


@dataclass(frozen=True)
class Heading:
    """A title, or a part's at level 2."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Words; emphasised ones are a warning."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Code:
    """Commands."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, the head first."""

    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG, and the name of its file."""

    name: str
    png: bytes
    alt: str


Block = Heading | Paragraph | Code | Table | Picture


def markdown(blocks: Sequence[Block], pictures: str = "") -> str:
    """The document as Markdown.

    Args:
        blocks: of the document.
        pictures: what stands before the names of pictures, ``images/`` say.
    """
    return "\n".join(_markdown(block, pictures) for block in blocks)


def _markdown(block: Block, pictures: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}\n"
        case Paragraph(text, strong):
            return f"**{text}**\n" if strong else f"{text}\n"
        case Code(text):
            return f"```sh\n{text}\n```\n"
        case Picture(name, _, alt):
            return f"![{alt}]({pictures}{name})\n"
        case Table(rows):
            head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
            lines = [head, ["---"] * len(head), *body]
            return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def page(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page with its pictures in it."""
    body = "\n".join(map(_html, blocks))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>
<style>{_STYLE}</style>
{body}
</html>
"""


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text, strong):
            return f"<p><b>{escape(text)}</b></p>" if strong else f"<p>{escape(text)}</p>"
        case Code(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(_, png, alt):
            return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        case Table(rows):
            head, *body = rows
            lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
            lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
            return f"<div><table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table></div>"
