"""Files that are there whole or not at all, and reading that ends."""

import os
import socket
from pathlib import Path

import pytest

import privileges
from llmdiff.files import DRAFTS, drafts, open_regular, read_text, readable, why_not, written_whole


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bin"
    with written_whole(path) as draft:
        draft.write_bytes(b"whole")
        assert not path.exists()
        assert list(path.parent.glob(DRAFTS)) == [draft]
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with written_whole(path) as draft:
            draft.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".png")
    with written_whole(path) as draft:
        draft.write_bytes(b"x")
    assert path.is_file()


@pytest.mark.fault("lost work")
def test_a_file_that_somebody_else_has_written_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"

    def write() -> None:
        with written_whole(path, replace=False) as draft:
            draft.write_bytes(b"mine")
            path.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        write()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_the_drafts_of_a_file_are_known_whoever_has_left_them(tmp_path: Path) -> None:
    mine, other = tmp_path / "x.bin", tmp_path / "y.bin"
    with written_whole(mine) as draft, written_whole(other) as foreign:
        draft.write_bytes(b"half")
        foreign.write_bytes(b"half")
        left = draft.with_name(draft.name.replace(f".{os.getpid()}-", ".99999999-"))
        left.write_bytes(b"half")
        assert set(drafts(mine)) == {draft, left}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (3.9e9, "3.9 GB"), (2e15, "2e+03 TB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert readable(size) == text


@pytest.mark.fault("special files")
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "link to a fifo", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind in ("fifo", "link to a fifo"):
            os.mkfifo(tmp_path / "fifo")
            path.symlink_to(tmp_path / "fifo")
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else path)
        with pytest.raises(OSError) as caught:
            open_regular(path)
    assert str(path) not in why_not(caught.value)


def test_texts_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("grün", encoding="utf-8-sig")
    assert read_text(open_regular(path), 8) == "grün"
    assert refusal(path, 7) == "it has more than 7 bytes"
    path.write_bytes(b"\xff")
    assert refusal(path, 8) == "it is not UTF-8"
    path.chmod(0)
    with privileges.laid_down():
        assert refusal(path, 8) == "no permission"
    assert refusal(tmp_path / "y", 8) == "it is not there"
    assert refusal(tmp_path, 8) == "it is a folder"


def refusal(path: Path, most: int) -> str:
    with pytest.raises((OSError, UnicodeError)) as caught:
        read_text(open_regular(path), most)
    return why_not(caught.value)
