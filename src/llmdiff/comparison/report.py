"""The report of a comparison: what was done, what is closer to the teacher than what, and how sure that is."""

import json
from collections.abc import Iterator
from pathlib import Path

from llmdiff.comparison import plots
from llmdiff.comparison.cells import cells
from llmdiff.comparison.document import Block, Code, Heading, Paragraph, Picture, Table, markdown, page
from llmdiff.comparison.findings import Estimate, Findings, Row
from llmdiff.errors import LLMDiffError
from llmdiff.files import why_not, written_whole
from llmdiff.plots import check_matplotlib

_NONE = "–"


def write_report(found: Findings, command: str, document: Path | None = None) -> list[Path]:
    """Writes ``report.md``, ``report.html``, ``report.json`` and the pictures into the comparison's folder.

    Args:
        found: the findings, of a whole comparison or of a part.
        command: that makes the report, to be told in it.
        document: a Markdown file to be written too, with its pictures in ``images`` beside it.

    Returns:
        The paths.

    Raises:
        LLMDiffError: The disk refuses, or matplotlib is not installed.
    """
    check_matplotlib()
    folder = found.config.folder / "report"
    blocks = list(_blocks(found, command))
    pictures = [block for block in blocks if isinstance(block, Picture)]
    files = {
        folder / "report.md": markdown(blocks).encode(),
        folder / "report.html": page(found.config.title, blocks).encode(),
    }
    files[folder / "report.json"] = json.dumps(found.as_json(), indent=1).encode() + b"\n"
    files |= {folder / one.name: one.png for one in pictures}
    if document is not None:
        prefix = f"{document.stem}-"
        files[document] = markdown(blocks, f"images/{prefix}").encode()
        files |= {document.parent / "images" / f"{prefix}{one.name}": one.png for one in pictures}
    try:
        for path, content in files.items():
            with written_whole(path) as draft:
                draft.write_bytes(content)
    except OSError as error:
        raise LLMDiffError(f"The report cannot be written ({why_not(error)}): {path}.") from error
    return list(files)


def _blocks(found: Findings, command: str) -> Iterator[Block]:
    config, rows = found.config, found.rows
    yield Heading(config.title, 1)
    if not found.is_whole:
        yield Paragraph(
            f"PARTIAL: {found.done} of {found.total} cells are done. Every condition of one seed is trained before any "
            f"of the next, and what is compared below is compared on the seeds that both have.",
            strong=True,
        )
    yield Paragraph(_conduct(found))
    for note in config.notes:
        yield Paragraph(note)
    yield Code(command)
    if config.claims:
        yield Heading("Claims, and what came of them")
        yield Table(_claims(found))
    yield Heading("Distances")
    yield Paragraph(
        "The distance to the teacher is the squared difference of the base model's prediction under the LLM's words "
        "from its own under the same facts in its own plain words, in units of what the empty prompt gives: 0 where "
        "all is conveyed, 1 where nothing is. The scenes and their captions are in no training set. Less is better."
    )
    if rows:
        yield Picture("distances.png", plots.distances(rows, config.reference), "Distances with their intervals")
        yield Table([*_distances(found)])
    yield from _pictures(found)
    yield Heading("How to read it")
    yield Paragraph(_caveats(found))


def _conduct(found: Findings) -> str:
    config = found.config
    recipe = cells(config)[0].recipe
    return (
        f"{len(config.conditions)} conditions, {len(config.seeds)} training seeds each: {recipe.loop.steps} steps of "
        f"{recipe.loop.batch_size} samples on {recipe.base}, the same data, order, noise and targets in all: a "
        f"condition changes what it names and nothing else. The reference is {config.reference}."
    )


def _claims(found: Findings) -> list[list[str]]:
    rows = [["claim", "difference of distances (95 %)", "seeds", "verdict"]]
    for one in found.claims:
        where = f", {one.claim.wording}" if one.claim.wording else ""
        pair = f"{one.claim.say} ({one.claim.better} – {one.claim.than}{where})"
        rows.append([pair, _estimate(one.difference, sign=True), str(one.seeds), one.word])
    return rows


def _distances(found: Findings) -> Iterator[list[str]]:
    wordings = list(found.rows[0].by_wording)
    reference = found.config.reference
    yield ["condition", "what it is", "seeds", "distance (95 %)", f"less {reference} (95 %)", "verdict",
           *(f"{wording} (95 %)" for wording in wordings), "parameters"]  # fmt: skip
    for row in found.rows:
        own = row.condition == reference
        yield [
            row.condition, row.about, str(len(row.seeds)), _estimate(row.distance),
            _NONE if own else _estimate(row.difference, sign=True), "reference" if own else row.verdict,
            *(_estimate(row.by_wording[wording]) for wording in wordings), f"{row.parameters:,}",
        ]  # fmt: skip


def _pictures(found: Findings) -> Iterator[Block]:
    if not found.drawn:
        return
    settings = found.config.pictures
    yield Heading("Pictures")
    yield Paragraph(
        f"The scene benchmark, {settings.seeds} picture(s) of each prompt, {settings.steps} steps, guidance "
        f"{settings.guidance:g}: the share of pictures that show every fact of their prompt."
    )
    rows = [["condition", "seeds", "all facts right (95 %)", "gain over the base (95 %)", "facts right (95 %)"]]
    for one in found.drawn:
        share, facts = (_estimate(estimate, percent=True) for estimate in (one.share, one.facts))
        gain = _estimate(one.gain, sign=True, percent=True)
        rows.append([one.condition, str(len(one.seeds)) if one.seeds else _NONE, share, gain, facts])
    yield Table(rows)
    folders = {"base": found.config.folder / "base"}
    seeds = {one.condition: one.seeds for one in found.drawn}
    for cell in cells(found.config):
        if cell.seed == found.config.seeds[0] and cell.seed in seeds.get(cell.condition, ()):
            folders[cell.condition] = cell.folder
    png = plots.sheet(found, folders)
    if png is not None:
        yield Picture("sheet.png", png, "The same prompts and noise, condition by condition")


def _caveats(found: Findings) -> str:
    compared = sum(row.difference is not None for row in found.rows)
    sizes = sorted({row.parameters for row in found.rows})
    size = (
        f"Adapters have {sizes[0]:,} to {sizes[-1]:,} parameters: what reads an encoding is as wide as it is. "
        if len(sizes) > 1
        else ""
    )
    return (
        f"Intervals are of the mean over trainings and scenes, both resampled (10,000 draws; of one training, scenes "
        f"alone). Differences are paired: the same seed, the same scenes. With {compared} comparisons with the "
        f"reference, about {compared / 20:.1f} intervals are expected to miss by chance. With fewer than two seeds in "
        f"common nothing is said. {size}Three seeds are few: an interval that just leaves out 0 is a hint."
    )


def _estimate(one: Estimate | None, *, sign: bool = False, percent: bool = False) -> str:
    if one is None:
        return _NONE
    form = f"{'+' if sign else ''}{'.1%' if percent else '.3f'}"
    return f"{one.mean:{form}} ({one.low:{form}} to {one.high:{form}})"


def summary(row: Row, reference: str) -> list[str]:
    """The columns of a condition in the table of the command line."""
    return [
        row.condition,
        str(len(row.seeds)),
        _estimate(row.distance),
        _estimate(row.difference, sign=True),
        "reference" if row.condition == reference else row.verdict,
    ]
