"""WebDataset shards: read where they lie, whatever is in them."""

import io
import json
import os
import tarfile
import time
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

import privileges
from llmdiff.data import Captioned, ShardData, captioned
from llmdiff.data.check import check
from llmdiff.errors import LLMDiffError


def encoded(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: list[tuple[str, bytes | str]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def pictures(path: Path | str, **settings: int) -> Captioned:
    return captioned(ShardData.model_validate({"kind": "webdataset", "path": str(path)} | settings), 16)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards, of three pictures and one."""
    red, green, blue = encoded((255, 0, 0)), encoded((0, 255, 0)), encoded((0, 0, 255))
    first = [("a/0.png", red), ("a/0.txt", "red\nrot\n"), ("a/0.json", '{"text": "not read"}'), ("a/0.npy", b"x")]
    first += [("a/1.json", json.dumps({"caption": "green", "w": 3})), ("a/1.PNG", green), ("b/1.png", blue)]
    write(tmp_path / "s-00.tar", [*first, ("b/1.txt", "blue")])
    write(
        tmp_path / "s-01.tar",
        [("2.seg.jpg", red), ("2.jpg", green), ("2.json", '{"text": ["g", "v"]}'), ("3.txt", "x")],
    )
    return tmp_path


@pytest.mark.fault("data left out")
def test_a_shard_that_is_not_there_and_companions_are_told(shards):
    (shards / "._s-00.tar").write_bytes(b"of a Mac")
    found = check(ShardData(kind="webdataset", path=str(shards)), 16)
    assert [(Path(name).name, str(kind)) for name, kind in found.passed_over if "._" in name] == [
        ("._s-00.tar", "system's own file")
    ]
    found = check(ShardData(kind="webdataset", path=f"{shards}/s-{{00..03}}.tar"), 16)
    absent = [Path(name).name for name, kind in found.passed_over if kind == "missing shard"]
    assert (absent, found.bad) == (["s-02.tar", "s-03.tar"], 0)


@pytest.mark.fault("data left out")
@pytest.mark.parametrize("padding", [0, 512, 10_240])
def test_what_follows_the_end_of_a_shard_is_told(shards, padding):
    """As of shards that were joined by cat, of which tar reads the first alone."""
    whole = (shards / "s-01.tar").read_bytes()
    (shards / "s-01.tar").write_bytes(whole + bytes(padding) + (shards / "s-00.tar").read_bytes())
    found = check(ShardData(kind="webdataset", path=f"{shards}/s-01.tar"), 16)
    assert [one.detail for one in found.findings if one.kind == "unreadable shard" and "several in one" in one.detail]
    (shards / "s-01.tar").write_bytes(whole + bytes(padding))
    assert check(ShardData(kind="webdataset", path=f"{shards}/s-01.tar"), 16).bad == 0


def test_a_shard_in_a_folder_whose_name_looks_like_a_pattern_is_found(shards):
    (shards / "x[1]").mkdir()
    (shards / "s-00.tar").rename(shards / "x[1]" / "s-00.tar")
    assert len(pictures(f"{shards}/x[1]/s-{{00..00}}.tar")) == 3


@pytest.mark.parametrize("pattern", ["", "s-*.tar", "s-{00..01}.tar", "s-{00..07}.tar", "s-0{0..1}.tar"])
def test_shards_are_read_in_any_order(shards, pattern):
    data = pictures(f"{shards}/{pattern}")
    assert data.captions == [("red", "rot"), ("green",), ("blue",), ("g", "v")]
    colours = {3: (-1, 1, -1), 0: (1, -1, -1), 2: (-1, -1, 1), 1: (-1, 1, -1)}
    for index, colour in colours.items():
        assert torch.equal(data.pixels(index)[:, 8, 8], torch.tensor(colour).float())
    assert data.size_conditioning(0).original_size == (16, 20)
    assert [data.identity(i) == data.identity(1) for i in range(4)] == [False, True, False, True]  # two are green


def test_one_shard_and_the_numbers_of_a_range(shards):
    assert pictures(shards / "s-01.tar").captions == [("g", "v")]
    assert pictures(f"{shards}/s-{{01..01}}.tar").captions == [("g", "v")]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("0.png", b"")], "has no caption"),
        ([("0.png", b""), ("0.txt", " \n")], "has no caption"),
        ([("0.png", b""), ("0.json", "{}")], "has no caption"),
        ([("0.png", b""), ("0.json", '{"text": 5}')], "is not text or a list of it"),
        ([("0.png", b""), ("0.json", "[1")], "0.json is not usable JSON"),
        ([("0.png", b""), ("0.txt", b"\xff\xfe")], "0.txt cannot be read"),
        ([("0.txt", "a")], "have no pictures"),
        ([], "have no pictures"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, members, said):
    path = write(tmp_path / "x.tar", members)
    with pytest.raises(LLMDiffError) as caught:
        pictures(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_compressed_or_missing_shard_is_named(tmp_path):
    write(tmp_path / "z.tar", [("0.png", encoded((1, 2, 3))), ("0.txt", "x")], "w:gz")
    with pytest.raises(LLMDiffError, match=r"z\.tar cannot be read .* uncompressed"):
        pictures(tmp_path / "z.tar")
    with pytest.raises(LLMDiffError, match="No shard matches"):
        pictures(tmp_path / "t.tar")


@pytest.mark.parametrize("damage", ["in a header", "in a picture", "a header of garbage"])
def test_a_damaged_shard_is_named_and_read_as_far_as_it_goes(shards, damage):
    path = shards / "s-00.tar"
    with tarfile.open(path) as file:
        green = file.getmember("a/1.PNG")
    content = path.read_bytes()
    cut = green.offset + 100 if damage == "in a header" else green.offset_data + 20
    path.write_bytes(content[:cut] if damage != "a header of garbage" else content[: green.offset] + b"x" * 512)
    with pytest.raises(LLMDiffError) as caught:
        pictures(shards)
    assert f"The shard {path} cannot be read" in str(caught.value)
    with pytest.warns(UserWarning, match=rf"Left out: .*{path}"):
        data = pictures(shards, skip_bad=2)
    assert data.captions == [("red", "rot"), ("g", "v")]


@pytest.mark.fault("data left out")
@pytest.mark.parametrize(
    ("names", "captions", "over"),
    [
        ("my.photo.jpg my.photo.txt", "my.photo.txt", {}),
        ("1.5.jpg 1.5.txt 1.6.jpg 1.6.txt", "1.5.txt 1.6.txt", {}),
        ("1.jpg 1.txt 1.5.jpg 1.5.txt", "1.txt 1.5.txt", {}),
        ("v1.0/a.b/2.jpg v1.0/a.b/2.txt", "v1.0/a.b/2.txt", {}),
        ("2.image.jpg 2.txt", "2.txt", {}),
        ("2.jpg 2.seg.png 2.txt", "2.txt", {"2.seg.png": "second picture"}),
        ("2.jpg 2.png 2.txt", "2.txt", {"2.png": "second picture"}),
        ("2.a.jpg 2.b.jpg 2.txt 3.jpg 3.txt", "3.txt",
         {"2.a.jpg": "second picture", "2.b.jpg": "second picture", "2.txt": "unused captions"}),
        ("1.jpg 2.jpg 1.txt 2.txt", "1.txt 2.txt", {}),
        ("1.jpg 1.txt 1.json 1.cls 7.txt", "1.txt",
         {"1.json": "unused captions", "1.cls": "unknown type", "7.txt": "unused captions"}),
        ("1.JPG 1.TXT", "1.TXT", {}),
        ("1.jfif 1.caption", "1.caption", {}),
        ("./._1.jpg ./1.jpg ./1.txt __MACOSX/._1.jpg .DS_Store .git/x", "./1.txt",
         {"./._1.jpg": "system's own file", "__MACOSX/._1.jpg": "system's own file",
          ".DS_Store": "system's own file", ".git/x": "hidden"}),
        ("1.jpg 1.txt 1.svg noname", "1.txt", {"1.svg": "unknown type", "noname": "unknown type"}),
    ],
)  # fmt: skip
def test_members_are_told_apart_as_webdataset_has_them(tmp_path, names, captions, over):
    """Each caption is the name of its member; what is no part of a sample is told."""
    red = encoded((255, 0, 0))
    path = write(tmp_path / "x.tar", [(n, n if n.lower().endswith(("txt", "caption")) else red) for n in names.split()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pictures(path).captions == [(name,) for name in captions.split()]
    found = check(ShardData(kind="webdataset", path=str(path)), 16)
    assert found.bad == 0
    assert {name.partition(": ")[2]: kind for name, kind in found.passed_over} == over


@pytest.mark.fault("data left out")
def test_what_lies_beside_shards_is_told(shards):
    (shards / "more").mkdir()
    (shards / "s-02.tar.gz").touch()
    found = check(ShardData(kind="webdataset", path=str(shards)), 16)
    assert [(Path(name).name, kind) for name, kind in found.passed_over if ": " not in name] == [
        ("more", "subfolder"), ("s-02.tar.gz", "unknown type"),
    ]  # fmt: skip


@pytest.mark.fault("data left out")
def test_a_text_member_may_be_one_caption(tmp_path):
    path = write(tmp_path / "x.tar", [("0.png", encoded((1, 2, 3))), ("0.txt", "one\n\ntwo\n")])
    data = ShardData(kind="webdataset", path=str(path), caption_per="file")
    assert captioned(data, 16).captions == [("one\n\ntwo",)]
    assert [one.kind for one in check(ShardData(kind="webdataset", path=str(path)), 16).findings] == ["paragraphs"]


@pytest.mark.fault("data left out")
@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_a_linked_picture_is_told(tmp_path, kind):
    path = write(tmp_path / "x.tar", [("0.png", encoded((1, 2, 3))), ("0.txt", "x")])
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = kind, "0.png"
        file.addfile(link)
    write_more(path, [("1.txt", "x")])
    (finding,) = check(ShardData(kind="webdataset", path=str(path)), 16).findings
    assert "1.png cannot be read (no file: it is a link or a sparse file, not a plain one)" in finding.detail


def write_more(path: Path, members: list[tuple[str, bytes | str]]) -> None:
    write(path, members, "a")


@pytest.mark.fault("special files")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_shard_that_is_no_file_is_told_at_once(shards, kind):
    path = shards / "s-02.tar"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(LLMDiffError, match=r"s-02\.tar cannot be read \(it is a"):
        pictures(shards)


@pytest.mark.fault("special files")
def test_a_shard_that_nobody_may_read_is_no_damage(shards):
    (shards / "s-01.tar").chmod(0)
    with privileges.laid_down(), pytest.raises(LLMDiffError, match=r"s-01\.tar cannot be read \(no permission\)"):
        pictures(shards)
    shards.chmod(0o300)
    for path in (shards, shards / "s-*.tar"):
        with privileges.laid_down(), pytest.raises(LLMDiffError, match=r"The folder .* cannot be read \(no permission"):
            pictures(path)
    shards.chmod(0o700)


@pytest.mark.fault("hostile tar")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [-1024, -512, 2**62, 2**33])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_no_length_in_a_header_is_trusted(shards, kind, size):
    """Negative ones led back to where the header was, and large ones were allocated."""
    member = tarfile.TarInfo("5.png")
    member.type = kind
    header = bytearray(member.tobuf())
    header[124:136] = (
        b"\xff\xff" * 2 + size.to_bytes(8, "big", signed=True)
        if size < 0
        else (b"\x80\0\0\0" + size.to_bytes(8, "big"))
    )
    header[148:156] = f"{sum(header[:148]) + 256 + sum(header[156:512]):06o}\0 ".encode()
    path = shards / "s-01.tar"
    path.write_bytes(path.read_bytes()[:-10240].rstrip(b"\0") + b"\0" * 1024)
    content = path.read_bytes()
    path.write_bytes(bytes(header) * 3 + content)
    found = check(ShardData(kind="webdataset", path=str(path)), 16)
    assert found.bad


@pytest.mark.fault("hostile tar")
def test_digits_in_a_header_take_no_time(tmp_path):
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 200_000
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf() + b"1" * 200_192 + b"\0" * 1024)
    start = time.monotonic()
    with pytest.raises(LLMDiffError, match="a number of 300 digits"):
        pictures(path)
    assert time.monotonic() - start < 2


def test_a_pattern_of_any_length_is_refused():
    with pytest.raises(LLMDiffError, match="stands for more than 1,000,000 shards"):
        pictures("x-{0000..9999}-{0000..9999}.tar")
    with pytest.raises(LLMDiffError, match="No shard matches"):
        pictures("x-{0002..0001}.tar")
