"""WebDataset shards: read where they lie, whatever is in them."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from llmdiff.data import Captioned, ShardData, captioned
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
        ([("0.png", b""), ("0.json", "[1")], "0.json cannot be read"),
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
