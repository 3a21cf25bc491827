"""Nothing that is among the data is passed over unsaid, and what is meant to be read is read."""

import json
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter

import privileges
from data.folders import faults, listed, passed_over, picture, pictures, report
from llmdiff.cli import main
from llmdiff.data import Data, captioned
from llmdiff.errors import LLMDiffError

pytestmark = [pytest.mark.fault("data left out"), pytest.mark.filterwarnings("ignore:Passed over")]


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
