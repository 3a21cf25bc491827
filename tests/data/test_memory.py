"""Pictures that are small files and large in memory: decoded one after the other, smaller, or not at all."""

import io
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmdiff.data import FolderData, captioned, decoding, memory
from llmdiff.data.check import check
from llmdiff.data.errors import Kind, PictureError
from llmdiff.data.memory import Budget
from llmdiff.data.store import Entry

pytestmark = pytest.mark.fault("picture bombs")
MB = 1_000_000


class Held:
    """Encoded pictures in memory."""

    def __init__(self, *contents: bytes) -> None:
        self.entries = [Entry("it", ("a caption",)) for _ in contents]
        self.contents = contents

    def open(self, index: int) -> io.BytesIO:
        return io.BytesIO(self.contents[index])


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> int:
    """10 MB, so that a test need not fill the memory of a machine."""
    monkeypatch.setattr(memory, "BUDGET", 10 * MB)
    monkeypatch.setattr(decoding, "_budget", Budget(10 * MB))
    return 10 * MB


def test_no_more_is_lent_than_there_is_and_all_of_it_in_the_end() -> None:
    budget, lock, used, most = Budget(100), threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal used, most
        with suppress(ZeroDivisionError), budget.lent(size):
            with lock:
                used += min(size, 100)
                most = max(most, used)
            time.sleep(0.001)
            with lock:
                used -= min(size, 100)
            _ = 1 // (size % 2)  # errors give back what they have taken, too

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [60, 30, 100, 1, 10, 500, 41, 7] * 10))
    assert used == 0
    assert 60 <= most <= 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is Linux's")
def test_pictures_of_all_threads_together_fit_into_the_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Six of 120 MB, of which one is decoded at a time; the allocator may keep some of what is given back."""
    monkeypatch.setattr(decoding, "_budget", Budget(150 * MB))
    for number in range(6):
        Image.new("1", (4900, 4900)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("a")
        assert (tmp_path / f"{number}.png").stat().st_size < 5000
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = peak()
    assert check(FolderData(kind="folder", path=tmp_path), 16).bad == 0
    assert peak() - before < 450 * MB


def peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1000


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA"])
def test_what_takes_more_is_refused_by_its_header(budget: int, form: str) -> None:
    with (
        pytest.raises(PictureError, match=r"4000 × 4000 pixels, which take .* MB of memory, more than 10 MB") as caught,
        decoding.decoded(Held(encoded(Image.new("L" if form == "GIF" else "RGB", (4000, 4000)), form)), 0),
    ):
        pass
    assert caught.value.kind == Kind.BOMB


@pytest.mark.parametrize(("side", "seen"), [(2200, 2200), (3000, 1500), (7000, 1750)])
def test_large_jpegs_are_decoded_smaller(budget: int, side: int, seen: int) -> None:
    content = encoded(Image.new("RGB", (side, side // 2), (10, 200, 30)), "JPEG")
    with decoding.decoded(Held(content), 0) as picture:
        assert picture.image.size == (seen, seen // 2)
        assert picture.original == (side // 2, side)
        assert np.abs(np.asarray(picture.image.resize((2, 1)), int) - (10, 200, 30)).max() < 8


def test_coefficients_of_progressive_jpegs_count(budget: int) -> None:
    content = encoded(Image.new("RGB", (1400, 1400)), "JPEG", progressive=True)
    with pytest.raises(PictureError, match="which take"), decoding.decoded(Held(content), 0):
        pass


def test_a_large_jpeg_is_trained_on_in_its_own_bucket(budget: int, tmp_path: Path) -> None:
    Image.new("RGB", (6000, 3000), (10, 200, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("a")
    source = FolderData(kind="folder", path=tmp_path, crop="buckets")
    data = captioned(source, 64)
    assert data.size(0) == (48, 80)
    assert data.size_conditioning(0).original_size == (3000, 6000)
    assert data.pixels(0).shape == (3, 48, 80)
    assert check(source, 64).sizes == {(48, 80): 1}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_strips_are_laid_on_white_as_the_whole_is(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1000, 4), np.uint8)
    options: dict[str, Any] = {} if mode.endswith("A") else {"transparency": (3, 3, 3) if mode == "RGB" else 3}
    content = encoded(Image.fromarray(noise).convert(mode), **options)
    with Image.open(io.BytesIO(content)) as image:
        seen = image.convert("RGBA")
    wanted = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    with decoding.decoded(Held(content), 0) as picture:
        assert picture.image.tobytes() == wanted.tobytes()


def test_a_file_of_any_length_is_not_read(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (8, 8)), "WEBP")
    with (tmp_path / "a.webp").open("wb") as file:
        file.write(whole)
        file.truncate(10**12)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(PictureError, match="decompression bomb: it has 1 TB"):
        captioned(FolderData(kind="folder", path=tmp_path), 16).pixels(0)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"8BPS\0\1" + bytes(40)])
def test_programs_are_no_pictures(content: bytes) -> None:
    with pytest.raises(PictureError, match="not a picture"), decoding.decoded(Held(content), 0):
        pass


def test_texts_within_pictures_are_bounded() -> None:
    """A PNG's compressed profile of 20 MB."""
    packer = zlib.compressobj(9)
    profile = b"".join(packer.compress(bytes(MB)) for _ in range(20)) + packer.flush()
    chunk = b"iCCP" + b"x\0\0" + profile
    whole = encoded(Image.new("RGB", (4, 4)))
    content = whole[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]
    with suppress(PictureError), decoding.decoded(Held(content), 0) as picture:
        assert "icc_profile" not in picture.image.info or len(picture.image.info["icc_profile"] or b"") <= MB
