"""Captions in files of their own, as people write them."""

import time
import unicodedata

import pytest

from data.folders import listed, picture, pictures, report
from llmdiff.errors import LLMDiffError

pytestmark = [pytest.mark.fault("data left out"), pytest.mark.filterwarnings("ignore:Passed over")]


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
