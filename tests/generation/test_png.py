"""PNG files: any prompt survives, other tools can read the settings, and nothing else is taken for one of ours."""

import json
import os
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llmdiff.errors import LLMDiffError
from llmdiff.generation import Document, Models, PictureSettings, Provenance, Record, read_png, write_png
from llmdiff.generation.png import prompt_in

PROVENANCE = Provenance(
    base_hash="0123456789abcdef",
    adapter_hash="fedcba9876543210",
    llm={"name": "embedded", "width": 576},
    scheduler={"_class_name": "EulerDiscreteScheduler", "num_train_timesteps": 1000},
    versions={"llmdiff": "0.1.0", "torch": "2.13.0"},
    device="cpu",
    dtype="float32",
    threads=2,
)
IMAGE = Image.effect_noise((12, 8), 80).convert("RGB")
FIELDS = [
    "Steps: 20, Sampler: Euler a, CFG scale: 7",
    "Negative prompt: cat",
    "Steps: 3\nSeed: 1",
    "a\nNegative prompt: b",
]
AWKWARD = [
    *FIELDS,
    "\ud800",
    "a" * 100_000,
    "\u2028Steps: 3",
    "\rNegative prompt: x",
    "LLMDiff scale: 3, Version: 9",
    "",
    "Negative prompt: a\nSteps: 3, Sampler: x",
    'a "quoted", comma: colon',
    "\r\n\t ",
    "𝔘 👩‍🚀 שלום",
    "\0",
]
ANY = st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"])  # surrogates too
PIECES = st.one_of(st.sampled_from(AWKWARD), st.text(ANY, max_size=80))
TEXT = st.one_of(PIECES, st.lists(PIECES, max_size=4).map("\n".join))


def record(prompt: str = "a red ball", negative: str = "", **options: Any) -> Record:
    picture = PictureSettings(
        prompt=prompt, negative=negative, steps=20, guidance=7.5, scale=0.8, seed=42, width=12, height=8
    )
    models = Models(**({"base": "you/some-base", "adapter": "embedded"} | options))
    return Record(picture=picture, models=models, provenance=PROVENANCE)


def document(*records: Record) -> Document:
    return Document(kind="picture", pictures=records or (record(),))


def parse_parameters(text: str) -> tuple[str, str, dict[str, str]]:
    """Read the chunk as the AUTOMATIC1111 web UI does: settings on the last line, the negative prompt before it."""
    *lines, last = text.strip().split("\n")
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for line in lines:
        if line.startswith("Negative prompt:"):
            target, line = negative, line[len("Negative prompt:") :].strip()
        target.append(line)
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    return "\n".join(prompt), "\n".join(negative), dict(pairs)


@given(prompt=TEXT, negative=TEXT)
@examples(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(tmp_path: Path, prompt: str, negative: str) -> None:
    written = document(record(prompt, negative))
    write_png(tmp_path / "x.png", IMAGE, written)
    image, read = read_png(tmp_path / "x.png")
    assert read == written
    assert image.tobytes() == IMAGE.tobytes()


@pytest.mark.fault("png")
@given(prompt=TEXT, negative=TEXT)
@examples(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_other_tools_read_the_settings_and_take_no_text_for_one(tmp_path: Path, prompt: str, negative: str) -> None:
    write_png(tmp_path / "x.png", IMAGE, document(record(prompt, negative)))
    with Image.open(tmp_path / "x.png") as image:
        text = image.text["parameters"]  # type: ignore[attr-defined]
    read_prompt, read_negative, values = parse_parameters(text)
    assert squeezed(read_prompt) == squeezed(prompt)
    assert squeezed(read_negative) == squeezed(negative)
    assert text.count("Negative prompt:") == bool(negative)
    assert text.count("Steps:") == text.count("Sampler:") == text.count("LLMDiff scale:") == 1
    assert values["Steps"] == "20"
    assert values["Sampler"] == "Euler"
    assert values["CFG scale"] == "7.5"
    assert values["Seed"] == "42"
    assert values["Size"] == "12x8"
    assert values["Model"] == "some-base"
    assert values["LLMDiff scale"] == "0.8"


def squeezed(text: str) -> str:
    """A text without white space, which tools strip, and with what no encoding has replaced."""
    return "".join(text.replace("\0", "").encode(errors="replace").decode().split())


def test_a_prompt_that_looks_like_no_field_is_there_unchanged(tmp_path: Path) -> None:
    prompt = "a portrait: two cats, (one:1.2)\nin the rain"
    write_png(tmp_path / "x.png", IMAGE, document(record(prompt, "steps: many")))
    with Image.open(tmp_path / "x.png") as image:
        text = image.text["parameters"]  # type: ignore[attr-defined]
    assert text.startswith(f"{prompt}\nNegative prompt: steps: many\nSteps: 20, ")


@pytest.mark.fault("png")
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LLMDiffError, match="too long"):
        write_png(tmp_path / "x.png", IMAGE, document(record("é" * 6_000_000)))
    assert not list(tmp_path.iterdir())
    write_png(tmp_path / "x.png", IMAGE, document(record("𝔘" * 1_000_000, "𝔘" * 1_000_000)))
    assert read_png(tmp_path / "x.png")[1] == document(record("𝔘" * 1_000_000, "𝔘" * 1_000_000))


@pytest.mark.fault("png")
@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_changed_byte_gives_other_pixels_or_another_record(tmp_path_factory, place: int, change: int) -> None:
    """Pillow looks at the checksums of a PNG's texts, and not at those of its pixels."""
    path = tmp_path_factory.mktemp("png") / "x.png"
    picture = Image.effect_noise((9, 7), 90).convert("RGB")
    write_png(path, picture, document())
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    with suppress(LLMDiffError):
        pixels, found = read_png(path)
        assert pixels.tobytes() == picture.tobytes()
        assert found == document()


@pytest.mark.fault("png")
@pytest.mark.parametrize(
    ("parameters", "prompt"),
    [
        ('{"prompt": "a red cup", "negative_prompt": "blue", "seed": 1}', "a red cup"),
        ('{"sui_image_params": {"prompt": "a red cup", "seed": 1}, "sui_extra_data": {}}', "a red cup"),
        ('{"prompt": "", "seed": 1}', None),
        ('{"positive": ["a"], "prompt": 7}', None),
        ('{"sui_image_params": []}', None),
        ("{}", None),
        ("{red|blue} cups\nNegative prompt: green\nSteps: 20, Seed: 7", "{red|blue} cups"),
        ('{"a": ' + "[" * 5000, '{"a": ' + "[" * 5000),
        ("a red cup\nSteps: 20, Seed: 7", "a red cup"),
        ("Negative prompt: green\nSteps: 20, Seed: 7", None),
    ],
)
def test_what_other_tools_write_of_a_prompt_is_told_apart(parameters: str, prompt: str | None) -> None:
    assert prompt_in(Path("x.png"), {"parameters": parameters}) == prompt


@pytest.mark.fault("special files")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", Path("/dev/zero")):
        with pytest.raises(LLMDiffError, match="not a picture"):
            read_png(path)


@pytest.mark.fault("picture bombs")
def test_pictures_of_gigabytes_are_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (11_000, 10_000)).save(tmp_path / "x.png")
    with pytest.raises(LLMDiffError, match="11000x10000"):
        read_png(tmp_path / "x.png")


def test_a_name_with_a_comma_does_not_end_its_field(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", IMAGE, document(record(base="a, Steps: 9", adapter=None)))
    with Image.open(tmp_path / "x.png") as image:
        values = parse_parameters(image.text["parameters"])[2]  # type: ignore[attr-defined]
    assert json.loads(values["Model"]) == "a, Steps: 9"
    assert values["Steps"] == "20"
    assert not any(key.startswith("LLMDiff") for key in values)


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    """A path in another encoding reaches Python as lone surrogates."""
    written = document(record(base="models/caf\udce9"))
    write_png(tmp_path / "x.png", IMAGE, written)
    assert read_png(tmp_path / "x.png")[1] == written


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    write_png(path, IMAGE, document())
    before = path.read_bytes()

    def full(self: Image.Image, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_png(path, IMAGE, document())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def save_with(path: Path, chunk: str | None) -> Path:
    info = PngInfo()
    info.add_text("parameters", "a ball\nSteps: 20")
    if chunk is not None:
        info.add_text("llmdiff", chunk)
    IMAGE.save(path, pnginfo=info)
    return path


def valid(**changes: object) -> str:
    return json.dumps(document().model_dump(mode="json") | changes)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (None, "does not say how it was drawn"),
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("null", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]," * 1_000_000, "damaged"),
        (valid(pictures=[]), "damaged"),
        (valid(kind="film"), "damaged"),
        (valid(version=2, shape="new"), "newer llmdiff"),
        (valid().replace('"steps": 20', '"steps": -1'), "damaged"),
        (valid().replace('"guidance": 7.5', '"guidance": NaN'), "damaged"),
        (valid().replace('"seed": 42', f'"seed": {"9" * 5000}'), "damaged"),
        (valid().replace('"steps": 20', '"steps": 1e999'), "damaged"),
        (f"{valid()[:-1]}{' ' * 2**25}}}", "damaged"),
    ],
)
def test_chunks_that_are_not_ours(tmp_path: Path, chunk: str | None, words: str) -> None:
    path = save_with(tmp_path / "x.png", chunk)
    with pytest.raises(LLMDiffError, match=words) as caught:
        read_png(path)
    assert "\n" not in str(caught.value)


def test_a_whole_chunk_is_read(tmp_path: Path) -> None:
    assert read_png(save_with(tmp_path / "x.png", valid()))[1] == document()


def test_files_that_are_no_png(tmp_path: Path) -> None:
    with pytest.raises(LLMDiffError, match="no file"):
        read_png(tmp_path / "missing.png")
    with pytest.raises(LLMDiffError, match="damaged"):
        read_png(tmp_path)
    text = tmp_path / "text.png"
    text.write_text("a red ball")
    with pytest.raises(LLMDiffError, match="not a picture"):
        read_png(text)
    jpeg = tmp_path / "photo.jpg"
    IMAGE.save(jpeg)
    with pytest.raises(LLMDiffError, match="does not say"):
        read_png(jpeg)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.95])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = tmp_path / "x.png"
    write_png(path, IMAGE, document())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LLMDiffError):
        read_png(path)


@given(data=st.data())
@examples(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_a_sentence_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "x.png"
    write_png(path, IMAGE, document())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(LLMDiffError):  # and nothing else
        assert read_png(path)[1].kind == "picture"


def test_a_compression_bomb_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bomb = b"llmdiff\0\0" + zlib.compress(b"[" * 50_000_000, 9)
    size = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    body = chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"zTXt", bomb) + body + chunk(b"IEND", b""))
    with pytest.raises(LLMDiffError):
        read_png(path)
