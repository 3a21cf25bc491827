"""Lists of pictures with their captions, as people write them and where they keep them."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.folders import faults, listed, passed_over, picture, pictures, report
from llmdiff.data import FolderData
from llmdiff.data.check import data_at
from llmdiff.errors import LLMDiffError

pytestmark = [pytest.mark.fault("data left out"), pytest.mark.filterwarnings("ignore:Passed over")]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    "content",
    [
        [{"file_name": "a.png", "text": "green"}],
        {"a.png": "green"},
        {"a.png": {"caption": "green", "tags": "x"}},
        {"a": {"caption": "green", "train_resolution": [64, 64]}},
        {"a.png": ["green"]},
    ],
)
def test_a_list_in_one_json_is_read(folder: Path, content: object) -> None:
    (folder / "metadata.json").write_text(json.dumps(content))
    data = pictures(folder)
    assert data.captions == [("green",)]
    assert len(data) == 1


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("content", [{"version": 2}, {"a": 1}, 7, "a.png"])
def test_another_json_of_that_name_is_none(folder: Path, content: object) -> None:
    before = pictures(folder).captions
    (folder / "metadata.json").write_text(json.dumps(content))
    assert pictures(folder).captions == before


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 9999, b"[" + b" " * 5_000_000 + b"]", b"[]"])
def test_a_damaged_json_list_is_told(folder: Path, content: bytes) -> None:
    (folder / "metadata.json").write_bytes(content)
    with pytest.raises(LLMDiffError, match=r"metadata\.json"):
        pictures(folder)


@pytest.mark.fault("metadata")
def test_lists_of_subfolders_are_read(folder):
    """As `datasets` has them for its splits; elsewhere texts stand beside the pictures."""
    picture(folder / "train" / "1.png")
    picture(folder / "test" / "deep" / "2.png")
    listed(folder / "train" / "metadata.jsonl", {"file_name": "1.png", "text": "one"})
    (folder / "test" / "metadata.csv").write_text('file_name,caption\ndeep/2.png,"two, with\n\na second paragraph"\n')
    assert pictures(folder).captions == [("two, with\n\na second paragraph",), ("one",), ("a",)]
    assert passed_over(report(folder), folder) == set()
    assert isinstance(data_at(str(folder / "test")), FolderData)


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("key", ["text", "caption", "prompt"])
@pytest.mark.parametrize("name_key", ["file_name", "image", "path"])
def test_usual_keys_are_known(folder, key, name_key):
    listed(folder / "metadata.jsonl", {name_key: "a.png", key: "green", "score": float("nan")})
    assert pictures(folder).captions == [("green",)]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("sub/é.png", unicodedata.normalize("NFD", "sub/é.png")),
        (unicodedata.normalize("NFD", "é/ö.png"), "é/ö.png"),
        ("sub/b.png", "sub\\b.png"),
        ("sub/b.PNG", "sub/b.png"),
        ("sub/b.png", "./sub/../sub/b.png"),
        (".hidden/b.png", ".hidden/b.png"),
        ("back\\slash.png", "back\\slash.png"),
    ],
)
def test_names_are_found_however_they_are_written(folder, on_disk, written):
    on_disk = unicodedata.normalize("NFC", on_disk) if "sub/é" in on_disk else on_disk
    picture(folder / on_disk)
    listed(folder / "metadata.jsonl", {"file_name": written, "text": "b"})
    found = report(folder)
    assert (found.captions, faults(found)) == (1, {})


@pytest.mark.fault("metadata")
def test_an_absolute_name_within_the_folder_is_one(folder, monkeypatch):
    listed(folder / "metadata.jsonl", {"file_name": str(folder / "a.png"), "text": "b"})
    assert pictures(folder).captions == [("b",)]
    monkeypatch.chdir(folder.parent)
    assert pictures(Path("data")).captions == [("b",)]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.png", "correct its name, from the list's folder on"),
        ("https://example.org/x.png", "download the picture"),
        ("a\0.png", "which is not a file"),
        ("x" * 5000, "which is not a file"),
        ("C:\\pictures\\a.png", "which is not a file"),
        (".", "which is not a file"),
        ("", "is not of the form"),
    ],
)
def test_names_of_nothing_are_told_with_the_remedy(folder, name, said):
    listed(folder / "metadata.jsonl", {"file_name": name, "text": "b"})
    with pytest.raises(LLMDiffError) as caught:
        pictures(folder)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"file_name;text\na.png;b\n", "Line 2 of .* it has file_name;text"),
        (b"file_name,text\na.png\n", "has no caption"),
        (b"file_name,text\n", "lists no pictures"),
        (b"file_name,text\na.png,gr\xfcn\n", "it is not UTF-8"),
        (b"file_name,text\na.png,a fox, red, in the snow\n", "Line 2 of .* has more values than columns"),
        (b"file_name,text,Text\na.png,b,c\n", "the column 'text' stands twice"),
        (b"file_name,text\na.png,b\0\n", "it has NUL characters"),
        (b"file_name,caption_en\na.png,b\n", "Line 2 of .*, which has file_name, caption_en: .* has no caption"),
        (b"url,text\nhttps://x.org/a.png,b\n", "Line 2 of .* has the address .*; download the picture"),
        (b'file_name,text\na.png,"b\n', "unexpected end of data"),
        (b"\xff\xfef\0i\0", "it is not UTF-8"),
    ],
)
def test_wrong_tables_are_told(folder, content, said):
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(LLMDiffError, match=said):
        pictures(folder)


@pytest.mark.fault("metadata")
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), min_size=1), min_size=1
    ),
    st.sampled_from(["file_name,text", " File_Name , TEXT", "\ufeffpath,caption,note"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_table_is_read_as_spreadsheets_write_it(folder, texts, header, end):
    """With any header's letters, any ends of lines, spaces behind commas, and rows of nothing."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for text in texts:
        writer.writerow(["a.png", f" {text}"])
    lines = f"{header}\n{table.getvalue()},\n\n".replace("\n", end)
    (folder / "metadata.csv").write_bytes(lines.replace(',"', ', "').encode())
    expected = [(text.strip(),) for text in texts]
    if any(text.isspace() for text in texts):
        with pytest.raises(LLMDiffError, match="has no caption"):
            pictures(folder)
    else:
        assert pictures(folder).captions == expected


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    "row", [{"text": None, "caption": "b"}, {"text": "", "prompt": "b"}, {"Caption": "b"}, {"TEXT ": "b"}]
)
@pytest.mark.parametrize(
    "name", [{"image_path": "a.png"}, {"file_name": None, "image": "a.png"}, {"Filename": "a.png"}]
)
def test_a_value_is_found_beside_empty_ones_however_its_key_is_written(folder, row, name):
    listed(folder / "metadata.jsonl", name | row)
    assert pictures(folder).captions == [("b",)]


@pytest.mark.fault("metadata")
@pytest.mark.parametrize(
    "content", ["a fox".encode("utf-16"), "a fox".encode("utf-16-le"), bytes(300), b"a\0fox", b"\xff"]
)
@pytest.mark.parametrize("name", ["a.txt", "a.json", "metadata.jsonl", "metadata.csv"])
def test_a_text_that_is_none_is_never_a_caption(folder, name, content):
    """As editors of Windows save it, and as a disk has it after a crash."""
    (folder / "a.txt").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(LLMDiffError, match=rf"{name}.* \((it is not UTF-8|it has NUL characters.*)\)"):
        pictures(folder)
