"""Captioned pictures: drawn scenes, and folders in every state that users have them in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.scenes.checker import read
from llmdiff.scenes.facts import all_hold
from llmdiff.scenes.phrasing import contains_held_out
from llmdiff.training.data import Folder, Scenes, captioned
from llmdiff.training.recipe import FolderData, SceneData
from scenes.grammar import facts_of


def as_image(pixels: torch.Tensor) -> np.ndarray:
    """(3, H, W) in -1..1 to uint8 (H, W, 3)."""
    return ((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_scenes_are_a_function_of_seed_and_number():
    few, many = Scenes(SceneData(kind="scenes", captions=4)), Scenes(SceneData(kind="scenes", captions=8))
    other = Scenes(SceneData(kind="scenes", captions=4, seed=5))
    assert few.captions[:4] == many.captions[:4] != other.captions[:4]
    again = Scenes(SceneData(kind="scenes", captions=4))
    assert all(torch.equal(few.pixels(n), again.pixels(n)) for n in (3, 0, 9))


def test_pictures_show_what_their_captions_say():
    data = Scenes(SceneData(kind="scenes", captions=6, pictures=3, plain=1.0))
    assert len(data) == len(data.captions) == 18
    assert data.captions[:6] == data.captions[6:12] == data.captions[12:]
    for n in range(len(data)):
        scene = read(as_image(data.pixels(n))).scene
        assert all_hold(facts_of(data.captions[n]), scene), (data.captions[n], scene)


def test_the_base_model_is_told_the_same_in_its_own_words():
    data = Scenes(SceneData(kind="scenes", captions=12, pictures=2, plain=0.0))
    assert data.captions != data.base_captions
    for n in range(len(data)):
        assert all_hold(facts_of(data.base_captions[n]), read(as_image(data.pixels(n))).scene)
    plain = Scenes(SceneData(kind="scenes", captions=12, pictures=2, plain=1.0))
    assert plain.captions == plain.base_captions


def test_pictures_of_one_caption_differ():
    data = Scenes(SceneData(kind="scenes", captions=5, pictures=2))
    assert all(not torch.equal(data.pixels(n), data.pixels(n + 5)) for n in range(5))


@pytest.mark.parametrize(("plain", "low", "high"), [(0.0, 0, 0.2), (0.5, 0.35, 0.75), (1.0, 1, 1)])
def test_the_share_of_plain_captions(plain, low, high):
    captions = Scenes(SceneData(kind="scenes", captions=150, pictures=1, plain=plain)).captions
    assert not any(contains_held_out(text) for text in captions)

    def is_plain(text: str) -> bool:
        try:
            return bool(facts_of(text))
        except (AssertionError, KeyError, IndexError):
            return False

    assert low <= sum(map(is_plain, captions)) / 150 <= high


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
    data = captioned(FolderData(kind="folder", path=folder), 16)
    assert data.captions == ["red and blue", "grün \u2028 杯"]
    assert len(data) == 2
    pixels = data.pixels(0)
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[:, 8, 2], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(pixels[:, 8, 13], torch.tensor([-1.0, -1.0, 1.0]))


def test_the_recipe_may_say_another_resolution(folder):
    assert captioned(FolderData(kind="folder", path=folder, resolution=24), 16).pixels(1).shape == (3, 24, 24)


def test_a_byte_order_mark_and_windows_lines_are_read(folder):
    rows = '{"file_name": "wide.png", "text": "a"}\r\n{"file_name": "green.png", "text": "b"}\r\n'
    (folder / "metadata.jsonl").write_text(rows, encoding="utf-8-sig", newline="")
    assert Folder(folder, 16).captions == ["a", "b"]


def test_pictures_are_turned_as_their_exif_says(folder):
    """A camera on its side: the left half of what is stored is the top of what is shown."""
    image = Image.open(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif, quality=100, subsampling=0)
    listed(folder, {"file_name": "turned.jpg", "text": "x"})
    pixels = Folder(folder, 16).pixels(0)
    assert pixels[0, :6].mean() > 0.9
    assert pixels[2, 10:].mean() > 0.9


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1", "LA"])
def test_pictures_in_any_mode_are_read(folder, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.open(folder / "green.png").convert(mode).save(folder / f"other.{suffix}")
    listed(folder, {"file_name": f"other.{suffix}", "text": "x"})
    pixels = Folder(folder, 16).pixels(0)
    assert pixels.shape == (3, 16, 16)
    if mode in ("CMYK", "P", "RGBA"):
        assert torch.allclose(pixels[:, 8, 8], torch.tensor([-1.0, 1.0, -1.0]), atol=0.1)


def complaint(folder: Path, number: int | None = None) -> str:
    with pytest.raises(LLMDiffError) as caught:
        Folder(folder, 16) if number is None else Folder(folder, 16).pixels(number)
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


def test_a_folder_without_a_list_or_with_an_empty_or_foreign_one(folder):
    (folder / "metadata.jsonl").write_text("\n \n")
    assert complaint(folder).endswith("lists no pictures.")
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe{\x00")
    assert "cannot be read" in complaint(folder)
    (folder / "metadata.jsonl").unlink()
    assert "cannot be read" in complaint(folder)
    assert "cannot be read" in complaint(folder / "missing")
