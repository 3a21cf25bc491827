"""Data sets of Hugging Face `datasets`: parquet files, whole and streamed."""

import base64
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llmdiff.data import Captioned, DatasetData, captioned
from llmdiff.errors import LLMDiffError

datasets = pytest.importorskip("datasets")

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def encoded(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a parquet file of three pictures with captions, in a home of its own."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "table"
    folder.mkdir()
    columns = {
        "image": [{"bytes": encoded(colour), "path": f"{n}.png"} for n, colour in enumerate(COLOURS)],
        "text": ["red", "green", "blue"],
        "more": [["rot", "rouge"], [], None],
        "raw": [encoded(colour) for colour in COLOURS],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "text": datasets.Value("string"),
            "more": datasets.List(datasets.Value("string")),
            "raw": datasets.Value("binary"),
        }
    )
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "train.parquet"))
    return folder


def pictures(path: Path, **settings: Any) -> Captioned:
    return captioned(DatasetData.model_validate({"kind": "dataset", "path": str(path)} | settings), 16)


@pytest.mark.fault("metadata")
def test_why_a_table_cannot_be_loaded_is_told(table, capfd):
    folder = table.with_name("two")
    for column in ("text", "words"):
        rows = datasets.Dataset.from_dict({"image": [encoded(COLOURS[0])], column: ["red"]})
        rows.to_parquet(str(folder / f"{column}.parquet"))
    capfd.readouterr()
    with pytest.raises(LLMDiffError, match=r"cannot be loaded \(.*column names don't match"):
        pictures(folder)
    assert "error" not in capfd.readouterr().err.lower()


def colours(data: Captioned) -> list[list[float]]:
    return [data.pixels(i)[:, 8, 8].tolist() for i in range(len(data))]


WANTED = [[1.0 if c else -1.0 for c in colour] for colour in COLOURS]


@pytest.mark.parametrize("settings", [{}, {"image": "raw"}, {"streaming": True, "limit": 9}])
def test_a_folder_of_parquet_files(table, settings):
    data = pictures(table, text=["text", "more"], **settings)
    assert data.captions == [("red", "rot", "rouge"), ("green",), ("blue",)]
    assert colours(data) == WANTED
    assert data.size_conditioning(0).original_size == (16, 20)
    again = pictures(table, text=["text", "more"], **settings)
    assert [again.identity(i) for i in range(3)] == [data.identity(i) for i in range(3)]
    assert len({data.identity(i) for i in range(3)}) == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_the_first_rows_of_one_file(table, streaming):
    data = pictures(table / "train.parquet", limit=2, streaming=streaming)
    assert data.captions == [("red",), ("green",)]
    assert colours(data) == WANTED[:2]


def test_a_stream_is_read_once(table, monkeypatch):
    first = pictures(table, streaming=True, limit=3)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the stream is read again"))
    second = pictures(table, streaming=True, limit=3)
    assert second.captions == first.captions
    assert torch.equal(second.pixels(1), first.pixels(1))


def test_bad_rows_are_named(table, tmp_path):
    rows = {"image": [b"", encoded((1, 2, 3)), b"no picture"], "text": ["a", None, "c"]}
    path = tmp_path / "bad.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    with pytest.raises(LLMDiffError, match=r"Row 1 of .* has no caption"):
        pictures(path)
    with pytest.warns(UserWarning, match="Left out"), pytest.raises(LLMDiffError, match="None of the 3 pictures"):
        pictures(path, skip_bad=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image": "picture"}, "has no column 'picture'; its columns are image, text, more, raw"),
        ({"text": ["text", "caption"]}, "has no column 'caption'"),
        ({"split": "test"}, "cannot be loaded"),
    ],
)
def test_what_is_not_there_is_told(table, settings, said):
    with pytest.raises(LLMDiffError) as caught:
        pictures(table, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_data_set_and_a_stream_without_an_end_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LLMDiffError, match="cannot be loaded"):
        pictures(tmp_path / "empty")
    with pytest.raises(ValueError, match="streaming needs a limit"):
        DatasetData(kind="dataset", path="x", streaming=True)


def of_column(folder: Path, cells: list[Any], name: str = "image", **settings: Any) -> Captioned:
    """The pictures of a table in a folder of its own, beside which there is another picture."""
    folder = folder.parent / "named"
    (folder / "sub").mkdir(parents=True)
    for place in (folder / "sub" / "a.png", folder.parent / "outside.png"):
        place.write_bytes(encoded((255, 0, 0)))
    datasets.Dataset.from_dict({name: cells, "text": ["x"] * len(cells)}).to_parquet(str(folder / "x.parquet"))
    return pictures(folder, **settings)


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("streaming", [{}, {"streaming": True, "limit": 5}])
@pytest.mark.parametrize("cell", ["sub/a.png", "sub\\a.png", {"bytes": None, "path": "sub/a.png"}])
def test_names_of_files_in_cells_are_read_from_the_tables_folder_on(table, cell, streaming):
    assert colours(of_column(table, [cell], **streaming)) == WANTED[:1]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("written", ["{0}", "data:image/x;base64,{0}", " {0}\n", "bytes"])
def test_pictures_in_base64_are_read(table, form, written):
    file = io.BytesIO()
    Image.effect_noise((20, 16), 60).convert("RGB").save(file, form)
    text = ("{0}" if written == "bytes" else written).format(base64.b64encode(file.getvalue()).decode())
    data = of_column(table, [{"bytes": text, "path": "a.png"} if written == "bytes" else text])
    found = data.pixels(0)
    shutil.rmtree(table.parent / "named")
    assert torch.equal(found, of_column(table, [file.getvalue()]).pixels(0))


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("change", [lambda text: text[: len(text) // 2], lambda text: text[:300] + "!" + text[300:]])
def test_damaged_base64_is_an_empty_or_a_damaged_picture(table, change):
    file = io.BytesIO()
    Image.effect_noise((60, 60), 60).save(file, "PNG")
    with pytest.raises(LLMDiffError, match="cannot be read"):
        of_column(table, [change(base64.b64encode(file.getvalue()).decode())]).pixels(0)


@pytest.mark.fault("paths")
@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "sub/../../outside.png", "sub/link.png"])
def test_names_that_lead_out_of_the_folder_are_refused(table, name):
    data = of_column(table, [name])
    (table.parent / "named" / "sub" / "link.png").symlink_to("../../outside.png")
    with pytest.raises(LLMDiffError, match=r"outside of its folder; copy it there, or set data.outside to true\.$"):
        data.pixels(0)


@pytest.mark.fault("paths")
def test_names_that_lead_out_of_the_folder_are_read_where_that_is_asked_for(table):
    assert colours(of_column(table, ["../outside.png"], outside=True)) == WANTED[:1]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["https://example.org/a.png"], "an address; download the pictures first"),
        (["gone.png"], r"row 0 of .* cannot be read \(missing file: it is not there\)"),
        (["a\0b.png"], "not a file"),
        (["sub"], r"cannot be read \(no file: it is a folder\)"),
        ([5], "has no pictures but values of type int64"),
        ([[1, 2]], "has no pictures but values of type List"),
        ([None], "has no pictures but values of type null"),
        ([{"a": 1}], "has no pictures but values of type dict"),
    ],
)
def test_cells_without_pictures_are_told(table, cells, said):
    with pytest.raises(LLMDiffError, match=said):
        of_column(table, cells).pixels(0)


@pytest.mark.fault("special files")
@pytest.mark.timeout(20)
def test_a_table_that_is_no_file_is_told_at_once(table):
    os.mkfifo(table / "more.parquet")
    for path in (table, table / "more.parquet"):
        with pytest.raises(LLMDiffError, match=r"more\.parquet is a device, a FIFO or a socket"):
            pictures(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 200 + b"PAR1", b"x" * 5000])
def test_a_damaged_table_is_told(table, content):
    (table / "train.parquet").write_bytes(content)
    with pytest.raises(LLMDiffError, match="cannot be loaded"):
        pictures(table)
