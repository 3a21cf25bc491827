"""Folders of pictures, in every state that users have them in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from llmdiff.data import Captioned, FolderData, SizeConditioning, captioned, captions_of
from llmdiff.errors import LLMDiffError


def pictures(folder: Path, resolution: int = 16, **settings: object) -> Captioned:
    return captioned(FolderData.model_validate({"kind": "folder", "path": folder} | settings), resolution)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two captioned pictures: one wide and half red, half blue, one square."""
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, :20], wide[:, 20:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.new("RGB", (20, 20), (0, 255, 0)).save(tmp_path / "green.png")
    listed(
        tmp_path,
        {"file_name": "wide.png", "text": "red and blue"},
        {"file_name": "green.png", "text": "grün \u2028 杯"},
    )
    return tmp_path


def listed(folder: Path, *rows: object) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def test_a_folder_of_pictures(folder):
    data = pictures(folder)
    assert data.captions == data.teacher_captions == [("red and blue",), ("grün \u2028 杯",)]
    assert len(data) == 2
    pixels = data.pixels(0)
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[:, 8, 2], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(pixels[:, 8, 13], torch.tensor([-1.0, -1.0, 1.0]))


def test_the_recipe_may_say_another_resolution(folder):
    assert pictures(folder, resolution=24).pixels(1).shape == (3, 24, 24)


def test_a_byte_order_mark_and_windows_lines_are_read(folder):
    rows = '{"file_name": "wide.png", "text": "a"}\r\n{"file_name": "green.png", "text": "b"}\r\n'
    (folder / "metadata.jsonl").write_text(rows, encoding="utf-8-sig", newline="")
    assert pictures(folder).captions == [("a",), ("b",)]


def test_pictures_are_turned_as_their_exif_says(folder):
    """A camera on its side: the left half of what is stored is the top of what is shown."""
    image = Image.open(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif, quality=100, subsampling=0)
    listed(folder, {"file_name": "turned.jpg", "text": "x"})
    pixels = pictures(folder).pixels(0)
    assert pixels[0, :6].mean() > 0.9
    assert pixels[2, 10:].mean() > 0.9


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1", "LA"])
def test_pictures_in_any_mode_are_read(folder, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.open(folder / "green.png").convert(mode).save(folder / f"other.{suffix}")
    listed(folder, {"file_name": f"other.{suffix}", "text": "x"})
    pixels = pictures(folder).pixels(0)
    assert pixels.shape == (3, 16, 16)
    if mode in ("CMYK", "P", "RGBA"):
        assert torch.allclose(pixels[:, 8, 8], torch.tensor([-1.0, 1.0, -1.0]), atol=0.1)


def complaint(folder: Path, number: int | None = None) -> str:
    with pytest.raises(LLMDiffError) as caught:
        pictures(folder) if number is None else pictures(folder).pixels(number)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_truncated_picture_is_named(folder):
    path = folder / "wide.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert str(path) in complaint(folder, 0)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(9)])
def test_what_is_no_picture_is_named(folder, content):
    (folder / "wide.png").write_bytes(content)
    assert str(folder / "wide.png") in complaint(folder, 0)


def test_a_picture_that_is_listed_but_missing_is_named(folder):
    (folder / "green.png").unlink()
    assert f"lists {folder / 'green.png'}, which is not a file" in complaint(folder)


@pytest.mark.parametrize(
    "row",
    [
        '{"file_name": "wide.png", "text"', "[1]", "3", "null", '{"file_name": "wide.png"}', '{"text": "a"}',
        '{"file_name": "wide.png", "text": null}', '{"file_name": 5, "text": "a"}',
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_by_its_number(folder, row):
    listed(folder, {"file_name": "wide.png", "text": "a"}, row)
    assert complaint(folder).startswith(f"Line 2 of {folder / 'metadata.jsonl'}")


def test_an_empty_or_foreign_list_and_a_missing_folder(folder):
    (folder / "metadata.jsonl").write_text("\n \n")
    assert complaint(folder).endswith("lists no pictures.")
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe{\x00")
    assert "cannot be read" in complaint(folder)
    assert "is not there" in complaint(folder / "missing")


def test_a_picture_that_has_gone_is_told_when_it_is_identified(folder):
    data = pictures(folder)
    (folder / "wide.png").unlink()
    with pytest.raises(LLMDiffError, match=r"wide\.png cannot be read \(missing file"):
        data.identity(0)


def test_other_pixels_have_another_identity(folder):
    small, large = pictures(folder), pictures(folder, 24)
    before = {one.identity(i) for one in (small, large) for i in range(2)}
    assert len(before) == 4
    Image.new("RGB", (20, 20), (0, 0, 9)).save(folder / "wide.png")
    assert small.identity(0) not in before
    assert small.identity(1) in before
    for data in (small, large):
        assert data.pixels(1).shape == (3, *data.size(1))


def test_several_captions_of_a_picture(folder):
    listed(folder, {"file_name": "wide.png", "text": ["red", " ", "blue "]}, {"file_name": "green.png", "text": "g"})
    data = pictures(folder)
    assert data.captions == [("red", "blue"), ("g",)]
    assert captions_of(data) == {"red", "blue", "g"}


def test_text_files_beside_the_pictures(folder):
    (folder / "metadata.jsonl").unlink()
    (folder / "wide.txt").write_text("red and blue\r\nzwei Farben 杯\n\n", encoding="utf-8-sig", newline="")
    (folder / "green.txt").write_text("green")
    (folder / "more").mkdir()
    (folder / "green.png").rename(folder / "more" / "A.PNG")
    (folder / "green.txt").rename(folder / "more" / "A.txt")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.md").write_text("no picture")
    data = pictures(folder)
    assert data.captions == [("green",), ("red and blue", "zwei Farben 杯")]
    assert torch.equal(data.pixels(0)[:, 8, 8], torch.tensor([-1.0, 1.0, -1.0]))


@pytest.mark.parametrize("text", [None, "", " \n\n", b"\xff\xfe"])
def test_a_picture_without_a_caption_is_named(folder, text):
    (folder / "metadata.jsonl").unlink()
    (folder / "wide.txt").write_text("a")
    if text is not None:
        (folder / "green.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert str(folder / "green.") in complaint(folder)


def test_a_folder_without_pictures_is_named(tmp_path):
    said = f"The folder {tmp_path} has no pictures, nor a metadata.jsonl, metadata.csv or metadata.json that lists some"
    assert complaint(tmp_path) == f"{said}."
    (tmp_path / "x.svg").touch()
    assert complaint(tmp_path) == f"{said} (but x.svg)."


def test_bad_pictures_are_left_out_up_to_a_limit(folder):
    green = Image.open(folder / "green.png")
    for n in range(4):
        green.save(folder / f"{n}.png")
    (folder / "1.png").write_bytes(b"hello")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    listed(folder, *({"file_name": f"{n}.png", "text": f"{n}"} for n in range(4)), "[1]")
    with pytest.warns(UserWarning, match="Left out") as told:
        data = pictures(folder, skip_bad=3)
    assert data.captions == [("0",), ("3",)]
    assert len(data) == len(data.weights) == 2
    assert [str(folder / "1.png") in data.skipped[0], str(folder / "2.png") in data.skipped[1]] == [True, True]
    assert data.skipped[2].startswith("Line 5 of")
    unlisted, *named, counted = (str(one.message) for one in told)
    assert "2 pictures that the metadata file does not list" in unlisted
    assert named == [f"Left out: {one}" for one in data.skipped]
    assert counted == "3 of 5 pictures are left out, 3 may be."
    assert torch.equal(data.pixels(1)[:, 8, 8], torch.tensor([-1.0, 1.0, -1.0]))
    with (
        pytest.warns(UserWarning, match="Left out"),
        pytest.raises(LLMDiffError, match="More than skip_bad = 2 pictures are bad"),
    ):
        pictures(folder, skip_bad=2)
    with pytest.raises(LLMDiffError, match="Line 5 of"):
        pictures(folder)


def test_a_folder_of_bad_pictures_only_is_refused(folder):
    for name in ("wide.png", "green.png"):
        (folder / name).write_bytes(b"x")
    with (
        pytest.warns(UserWarning, match="Left out"),
        pytest.raises(LLMDiffError, match="None of the 2 pictures can be used"),
    ):
        pictures(folder, skip_bad=9)


def test_buckets_have_the_pictures_own_aspect_ratio(folder):
    data = pictures(folder, 64, crop="buckets")
    assert [data.size(n) for n in range(2)] == [(48, 80), (64, 64)]
    assert data.size_conditioning(0) == SizeConditioning((20, 40), (0, 8), (48, 80))
    assert data.pixels(0).shape == (3, 48, 80)
    assert torch.equal(data.pixels(0)[:, 24, 70], torch.tensor([-1.0, -1.0, 1.0]))


def test_the_frame_is_what_was_cut(folder):
    """SDXL's conditioning: the whole picture's size, and the corner in the scaled picture."""
    data = pictures(folder, 16)
    assert data.size_conditioning(0) == SizeConditioning((20, 40), (0, 8), (16, 16))
    assert data.size_conditioning(1) == SizeConditioning((20, 20), (0, 0), (16, 16))
