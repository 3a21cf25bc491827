"""Nothing that is among the data is passed over unsaid, and what is meant to be read is read."""

import csv
import io
import json
import os
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

import privileges
from llmdiff.cli import main
from llmdiff.data import Captioned, Data, FolderData, captioned
from llmdiff.data.check import Report, check, data_at
from llmdiff.errors import LLMDiffError

pytestmark = [pytest.mark.fault("data left out"), pytest.mark.filterwarnings("ignore:Passed over")]


def picture(path: Path, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (0, 255, 0)).save(path, "PNG")
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def data(folder: Path, **settings: Any) -> FolderData:
    return FolderData.model_validate({"kind": "folder", "path": folder} | settings)


def pictures(folder: Path, **settings: Any) -> Captioned:
    return captioned(data(folder, **settings), 16)


def report(folder: Path, **settings: Any) -> Report:
    return check(data(folder, **settings), 16)


def passed_over(found: Report, folder: Path) -> set[tuple[str, str]]:
    return {(os.path.relpath(name, folder), str(kind)) for name, kind in found.passed_over}


def faults(found: Report) -> dict[str, str]:
    return {Path(one.name).name: one.kind for one in found.findings if one.bad}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "data" / "a.png", "a")
    return tmp_path / "data"


def test_every_kind_is_counted_and_said_once(folder, capsys):
    picture(folder / "._a.png")
    picture(folder / "__MACOSX" / "b.png", "b")
    picture(folder / "sub" / "@eaDir" / "c.png" / "SYNOPHOTO_THUMB_XL.jpg")
    picture(folder / ".thumbs" / "d.png", "d")
    (folder / ".DS_Store").touch()
    (folder / "Thumbs.db").touch()
    (folder / "a.caption").write_text("another")
    (folder / "a.json").write_text("{}")
    (folder / "gone.txt").write_text("of no picture")
    (folder / "drawing.svg").touch()
    (folder / "noname").write_bytes(picture(folder / "a.png").read_bytes())
    picture(folder.parent / "other" / "e.png", "e")
    (folder / "linked").symlink_to(folder.parent / "other")
    (folder / "circle").symlink_to(folder)
    expected = {
        ("._a.png", "system's own file"), ("__MACOSX", "system's own file"), (".thumbs", "hidden"),
        (os.path.join("sub", "@eaDir"), "system's own file"), (".DS_Store", "system's own file"),  # noqa: PTH118
        ("Thumbs.db", "system's own file"), ("a.caption", "unused captions"), ("a.json", "unused captions"),
        ("gone.txt", "unused captions"), ("drawing.svg", "unknown type"), ("noname", "unknown type"),
        ("linked", "linked folder"), ("circle", "linked folder"),
    }  # fmt: skip
    assert passed_over(report(folder), folder) == expected
    with pytest.warns(UserWarning, match="Passed over") as told:
        assert pictures(folder).captions == [("a",)]
    (line,) = (str(one.message) for one in told)
    assert "5 files of an operating system's own" in line
    assert "2 linked folders, which data.outside lets in" in line
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("over  ") for row in out) == 5
    assert out[-1] == "1 pictures, 0 of them bad; 1 captions; 13 files or folders passed over"
    assert main(["data", "check", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["passed_over"]) == len(expected)


def test_linked_folders_are_read_where_that_is_asked_for(folder):
    picture(folder.parent / "other" / "e.png", "e")
    (folder / "linked").symlink_to(folder.parent / "other")
    (folder / "circle").symlink_to(folder)
    found = report(folder, outside=True)
    assert passed_over(found, folder) == {("circle", "linked folder")}
    assert pictures(folder, outside=True).captions == [("a",), ("e",)]


def test_what_nobody_may_read_is_no_damage(folder):
    picture(folder / "shut" / "b.png", "b")
    picture(folder / "c.png", "c").chmod(0)
    picture(folder / "d.png", "d").with_suffix(".txt").chmod(0)
    (folder / "shut").chmod(0)
    try:
        with privileges.laid_down():
            found = report(folder)
            with pytest.raises(LLMDiffError, match=r"The folder .*shut cannot be read \(no permission\)"):
                pictures(folder)
    finally:
        (folder / "shut").chmod(0o700)
    assert faults(found) == dict.fromkeys(["shut", "c.png", "d.png"], "no permission")
    assert any("c.png cannot be read (no permission); allow it" in one.detail for one in found.findings)
    (folder / "metadata.jsonl").write_text("")
    (folder / "metadata.jsonl").chmod(0)
    with privileges.laid_down(), pytest.raises(LLMDiffError, match=r"metadata\.jsonl cannot be read \(no permission\)"):
        pictures(folder)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "dataset"])
@pytest.mark.parametrize(("name", "said"), [("shut/data", "no permission"), ("a\0b", ""), ("x" * 300, "")])
def test_a_place_that_cannot_be_looked_at_is_told(folder, kind, name, said):
    (folder / "shut" / "data").mkdir(parents=True)
    (folder / "shut").chmod(0)
    source = TypeAdapter(Data).validate_python({"kind": kind, "path": str(folder / name)})
    try:
        with privileges.laid_down(), pytest.raises(LLMDiffError, match=said) as caught:
            captioned(source, 16)
    finally:
        (folder / "shut").chmod(0o700)
    assert "\n" not in str(caught.value)


def test_files_that_a_list_leaves_out_are_told(folder):
    picture(folder / "sub" / "b.png", "b")
    listed(folder / "metadata.jsonl", {"file_name": "a.png", "text": "listed"})
    listed(folder / "sub" / "metadata.jsonl", {"file_name": "b.png", "text": "b"})
    (folder / "metadata.csv").write_text("file_name,text\n")
    found = report(folder)
    assert found.captions == 1
    assert passed_over(found, folder) == {
        ("a.txt", "unused captions"), ("sub/b.png", "not listed"), ("sub/b.txt", "unused captions"),
        ("sub/metadata.jsonl", "unknown type"), ("metadata.csv", "unknown type"),
    }  # fmt: skip


def listed(path: Path, *rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


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


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("text", ["", " \r\n\t", "\u200b", "\ufeff\n\u00a0\u3000", "\x1b\x07", "\0"])
def test_a_caption_of_nothing_to_see_is_none(folder, text):
    listed(folder / "metadata.jsonl", {"file_name": "a.png", "text": text})
    with pytest.raises(LLMDiffError, match="has no caption"):
        pictures(folder)


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("joined", ["a\rb\r", "a\r\nb", "\ufeffa\n\ufeffb\n", "\n\n a \n\n\rb"])
def test_lines_end_and_files_are_joined_as_every_system_does_it(folder, joined):
    (folder / "a.txt").write_bytes(joined.encode())
    assert pictures(folder).captions == [("a", "b")]


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize("text", ["a " * 1_900_000, "\n" * 3_900_000 + "a", "\n \t" * 1_300_000 + "a"])
@pytest.mark.parametrize("per", ["line", "file"])
def test_a_caption_of_any_length_takes_no_time(folder, text, per):
    (folder / "a.txt").write_text(text)
    began = time.process_time()
    assert pictures(folder, caption_per=per).captions[0][0][0] == "a"
    assert time.process_time() - began < 5


@pytest.mark.fault("metadata")
@pytest.mark.parametrize("name", ["a.TXT", "a.caption", "a.png.txt", "a.json"])
def test_captions_are_found_under_usual_names(folder, name):
    (folder / "a.txt").unlink()
    (folder / name).write_text('{"caption": "found"}' if name == "a.json" else "found")
    assert pictures(folder).captions == [("found",)]


@pytest.mark.fault("metadata")
def test_captions_are_found_in_another_unicode_form(folder):
    picture(folder / unicodedata.normalize("NFD", "grün.png"))
    (folder / unicodedata.normalize("NFC", "grün.txt")).write_text("found")
    picture(folder / "A.png", "of another picture than a.png")
    assert pictures(folder).captions == [("of another picture than a.png",), ("a",), ("found",)]


def test_paragraphs_may_be_one_caption_and_are_told_where_they_are_not(folder):
    text = "A fox.\r\n\r\nIt is red,\nin the rain.\r\n"
    (folder / "a.txt").write_bytes(text.encode("utf-8-sig"))
    assert pictures(folder, caption_per="file").captions == [("A fox.\n\nIt is red,\nin the rain.",)]
    assert pictures(folder).captions == [("A fox.", "It is red,", "in the rain.")]
    (finding,) = report(folder).findings
    assert (finding.kind, finding.bad) == ("paragraphs", False)
    assert "caption_per" in finding.detail
    assert report(folder, caption_per="file").findings == []
    (folder / "a.txt").write_text("one\n\n\n")
    assert report(folder).findings == []


@pytest.mark.fault("paths")
@pytest.mark.parametrize("way", ["../other/b.png", "absolute", "link.png", "sub/link.png", "linked/b.png"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_nothing_outside_is_read_unless_that_is_asked_for(folder, way, is_listed):
    outer = picture(folder.parent / "other" / "b.png", "b")
    (folder / "sub").mkdir()
    for link in (folder / "link.png", folder / "sub" / "link.png"):
        link.symlink_to(outer)
        link.with_suffix(".txt").write_text("b")
    (folder / "linked").symlink_to(outer.parent)
    if is_listed:
        name = str(outer) if way == "absolute" else way
        listed(folder / "metadata.jsonl", {"file_name": name, "text": "b"})
    with pytest.raises(LLMDiffError, match=r"leads out of the folder .* set data.outside to true"):
        pictures(folder)
    assert set(faults(report(folder)).values()) == {"outside the data"}
    assert ("b",) in pictures(folder, outside=True).captions


@pytest.mark.fault("paths")
@pytest.mark.parametrize("name", ["a.txt", "metadata.jsonl", "metadata.csv"])
def test_texts_outside_are_not_read(folder, name):
    (folder.parent / "secret").write_text("secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../secret")
    with pytest.raises(LLMDiffError, match="leads out of the folder"):
        pictures(folder)


@pytest.mark.fault("paths")
def test_links_within_the_folder_are_read(folder):
    picture(folder / "sub" / "b.png", "b")
    for name in ("c.png", "c.txt"):
        (folder / name).symlink_to(Path("sub") / name.replace("c", "b"))
    assert pictures(folder).captions == [("a",), ("b",), ("b",)]


@pytest.mark.fault("special files")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["b.png", "a.txt", "metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize("kind", ["fifo", "device", "loop"])
def test_what_is_no_file_is_told_at_once(folder, name, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else name)
    (folder / "b.txt").write_text("b")
    with pytest.raises(LLMDiffError, match=rf"{name} cannot be read"):
        [pictures(folder, outside=True).pixels(index) for index in range(2)]


@pytest.mark.fault("special files")
def test_folders_may_have_the_names_of_pictures(folder):
    picture(folder / "b.png" / "c.png", "c")
    (folder / "a.txt").unlink()
    (folder / "a.txt").mkdir()
    with pytest.raises(LLMDiffError, match=r"a\.txt cannot be read \(it is a folder\)"):
        pictures(folder)
    assert (report(folder).pictures, report(folder).bad) == (2, 1)


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize(
    "row",
    ["[" * 9000, '{"file_name": "a.png", "text": "\\ud800"}', '{"file_name": "a.png", "text": ' + "9" * 5000 + "}",
     '{"text": "b", "file_name": "a.png", "text": "c"}', '{"file_name": "\\udc00.png", "text": "b"}',
     '{"file_name": {"a": 1}, "text": "b"}'],
)  # fmt: skip
def test_a_hostile_row_is_one_sentence(folder, row):
    (folder / "metadata.jsonl").write_text(row)
    with pytest.raises(LLMDiffError, match=r"^Line 1 of .*metadata\.jsonl is not ") as caught:
        pictures(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.fault("hostile text")
def test_a_list_of_any_length_is_refused(folder):
    with (folder / "metadata.jsonl").open("wb") as file:
        file.truncate(900_000_000)
    with pytest.raises(LLMDiffError, match="it has a line of more than 4 MB"):
        pictures(folder)
    with (folder / "metadata.jsonl").open("wb") as file:
        file.truncate(10**13)
    with pytest.raises(LLMDiffError, match="it has 10 TB"):
        pictures(folder)
