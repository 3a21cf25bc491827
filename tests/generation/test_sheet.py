"""Contact sheets: every picture is on it, unharmed and where it belongs, and captions fit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from llmdiff.generation import SheetEntry, contact_sheet
from llmdiff.generation.sheet import wrap

FONT = ImageFont.load_default(13)


def colour(red: int, green: int, side: int = 64) -> Image.Image:
    """A picture in one colour that text and paper do not have."""
    return Image.new("RGB", (side, side), (red, green, 200))


def boxes(sheet: Image.Image, pictures: list[Image.Image]) -> list[tuple[int, int, int, int]]:
    """Frame of every picture's colour on the sheet, as (left, top, right, bottom)."""
    array = np.asarray(sheet)
    frames = []
    for picture in pictures:
        rows, columns = np.nonzero((array == np.asarray(picture)[0, 0]).all(-1))
        frames.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return frames


def test_pictures_stand_in_reading_order_and_keep_every_pixel() -> None:
    pictures = [colour(10 * i, 20 * i) for i in range(1, 9)]
    entries = [SheetEntry((pictures[i], pictures[i + 1]), f"prompt {i}") for i in range(0, 8, 2)]
    sheet = contact_sheet(entries, headings=("base", "adapted"), across=2)
    frames = boxes(sheet, pictures)
    assert {(right - left, bottom - top) for left, top, right, bottom in frames} == {(192, 192)}
    assert frames == sorted(frames, key=lambda frame: (frame[1], frame[0]))
    assert len({frame[1] for frame in frames}) == 2
    assert len({frame[0] for frame in frames}) == 4


def test_small_pictures_are_enlarged_by_whole_factors_and_large_ones_left_alone() -> None:
    for side, shown in [(16, 192), (64, 192), (100, 200), (192, 192), (512, 512)]:
        picture = colour(10, 20, side)
        ((left, top, right, bottom),) = boxes(contact_sheet([SheetEntry((picture,), "x")]), [picture])
        assert (right - left, bottom - top) == (shown, shown)


def test_a_new_group_begins_a_new_row() -> None:
    pictures = [colour(10 * i, 20 * i) for i in range(1, 5)]
    entries = [SheetEntry((picture,), "p", group) for picture, group in zip(pictures, "aabb", strict=True)]
    tops = [top for _, top, _, _ in boxes(contact_sheet(entries, across=3), pictures)]
    assert tops[0] == tops[1] < tops[2] == tops[3]


def test_captions_and_headings_are_printed() -> None:
    picture = colour(10, 20)
    bare = contact_sheet([SheetEntry((picture,), "")])
    captioned = contact_sheet([SheetEntry((picture,), "a red ball")])
    headed = contact_sheet([SheetEntry((picture,), "a red ball")], headings=("base",))
    titled = contact_sheet([SheetEntry((picture,), "a red ball", "counting")], headings=("base",))
    ink = [int((np.asarray(sheet) < 128).all(-1).sum()) for sheet in (bare, captioned, headed, titled)]
    assert ink == sorted(set(ink))
    other = contact_sheet([SheetEntry((picture,), "a red bell")])
    assert other.size == captioned.size
    assert other.tobytes() != captioned.tobytes()


def test_no_entries() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


@given(text=st.text(max_size=400), width=st.integers(60, 400))
@settings(deadline=None, max_examples=100)
def test_lines_fit_and_lose_nothing_but_the_end(text: str, width: int) -> None:
    lines = wrap(text, FONT, width)
    assert len(lines) <= 6
    assert all(FONT.getlength(line) <= width for line in lines)
    printed = "".join("".join(lines).split())
    expected = "".join(text.replace("\0", " ").split())
    if printed != expected:
        assert len(lines) == 6
        assert printed.endswith("…")
        assert expected.startswith(printed[:-1])


def test_words_are_kept_whole_where_they_fit() -> None:
    text = "a small red ball left of two blue cups at night"
    lines = wrap(text, FONT, 120)
    assert len(lines) > 1
    assert [word for line in lines for word in line.split()] == text.split()
    assert all(FONT.getlength(f"{line} {following.split()[0]}") > 120 for line, following in pairwise(lines))


def test_a_five_thousand_word_caption_is_quick_and_short() -> None:
    lines = wrap("word " * 5000, FONT, 200)
    assert len(lines) == 6
    assert lines[-1].endswith("…")
