"""What is damaged, and who reads it: a reader takes a file, or raises the project's own error."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from fuzzing.mutations import mutated, with_valid_checksums, with_valid_ends, with_valid_headers
from llmdiff.adapter.storage import WEIGHTS, read_config, read_weights
from llmdiff.data import DatasetData, FolderData, ShardData, captioned
from llmdiff.generation.png import read_png
from llmdiff.training import load_recipe

_FIRST_VERSION = Path(__file__).parents[2] / "tests" / "first_version"
_PRESETS = Path(__file__).parents[2] / "src" / "llmdiff" / "training" / "presets"
_PICTURES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {"transparency": 3}), ("PNG", "1", {}), ("PNG", "I;16", {}),
    ("PNG", "LA", {}), ("JPEG", "RGB", {}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"progressive": True}), ("MPO", "RGB", {"save_all": True}), ("GIF", "P", {}), ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}), ("AVIF", "RGB", {"speed": 10}), ("TIFF", "RGB", {}), ("TIFF", "CMYK", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "1", {"compression": "group4"}), ("TIFF", "I;16", {"compression": "tiff_adobe_deflate"}),
    ("BMP", "RGB", {}), ("BMP", "P", {}), ("DIB", "RGB", {}), ("PPM", "RGB", {}), ("PPM", "1", {}),
    ("JPEG2000", "RGB", {}), ("TGA", "RGBA", {"compression": "tga_rle"}), ("PCX", "P", {}), ("SGI", "RGB", {}),
    ("QOI", "RGB", {}),
)  # fmt: skip
_RECIPE = "base: &base {name: x}\ndata: {kind: folder, path: ./pictures}\nmore: [1, 2.5, null, true, 2026-01-01]\n"


def _same(content: bytes) -> bytes:
    return content


@dataclass(frozen=True)
class Target:
    """A kind of files.

    Attributes:
        count: of damaged files in a whole run.
        originals: whole files to start from.
        read: takes a file and a folder to write it into; raises LLMDiffError if it cannot be used.
        mended: makes checksums right, so that half of the damage gets past them.
    """

    count: int
    originals: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]
    mended: Callable[[bytes], bytes] = _same

    def damaged(self, originals: list[bytes], seed: int, number: int) -> bytes:
        """Damaged file number `number` of a run."""
        content = mutated(originals[number % len(originals)], np.random.default_rng((seed, number)), originals)
        return self.mended(content) if number // len(originals) % 2 else content


def _pictures() -> list[bytes]:
    return [_encoded(mode, form, options) for form, mode, options in _PICTURES]


def _encoded(mode: str, form: str, options: dict[str, Any]) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    noise[8:] = noise[8:9]
    image = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, form, **options | ({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "AVIF") else {}))
    return file.getvalue()


def _read_picture(content: bytes, folder: Path) -> None:
    (folder / "a.png").write_bytes(content)
    (folder / "a.txt").write_text("a caption")
    captioned(FolderData(kind="folder", path=folder, crop="buckets"), 64).pixels(0)


def _tars() -> list[bytes]:
    return [_tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def _tar(form: int) -> bytes:
    file = io.BytesIO()
    picture = _encoded("RGB", "JPEG", {})
    with tarfile.open(fileobj=file, mode="w", format=form) as shard:
        for name in ("1", "2.5", "long" * 20 if form == tarfile.USTAR_FORMAT else "lång" * 60):
            for suffix, content in ((".jpg", picture), (".txt", b"a\nb\n"), (".json", b'{"caption": "c"}')):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return file.getvalue().rstrip(b"\0") + bytes(1024)


def _read_tar(content: bytes, folder: Path) -> None:
    (folder / "0.tar").write_bytes(content)
    data = captioned(ShardData(kind="webdataset", path=str(folder / "0.tar"), skip_bad=100), 64)
    for number in range(len(data)):
        data.pixels(number)


def _tables() -> list[bytes]:
    return [_table(compression) for compression in ("none", "snappy", "zstd")]


def _table(compression: str) -> bytes:
    import pyarrow
    from pyarrow import parquet

    picture = _encoded("RGB", "JPEG", {})
    columns = {
        "image": [{"bytes": picture, "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None] * 2,
        "text": ["a", "ü 杯", None] * 2,
        "more": [["b", "c"], [], None] * 2,
    }
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, compression=compression, row_group_size=4)
    return file.getvalue()


def _read_table(content: bytes, folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    (folder / "x.parquet").write_bytes(content)
    with mock.patch.multiple(datasets.config, HF_DATASETS_CACHE=folder / "cache"):
        data = captioned(
            DatasetData(kind="dataset", path=str(folder / "x.parquet"), text=["text", "more"], skip_bad=9), 64
        )
        for number in range(len(data)):
            data.pixels(number)


def _weights() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_FIRST_VERSION.glob(f"*/{WEIGHTS}"))]


def _read_weights(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    read_weights(folder)


def _lists() -> list[bytes]:
    """A damaged line is refused, and the list with it unless others are left: long ones, of few pictures."""
    rows: list[dict[str, Any]] = [
        {"file_name": "a.png", "text": ["a", "b"], "score": 0.5}, {"file_name": "é/b.png", "caption": "ü 杯"},
    ]  # fmt: skip
    lists = [[*rows] * 20, [rows[1]] * 20, [rows[0] | {"more": {"deep": [[1, -2.5e3, None, True]] * 30}}]]
    return [
        "\n".join(json.dumps(row, ensure_ascii=number == 0) for row in one).encode() for number, one in enumerate(lists)
    ]


def _read_list(content: bytes, folder: Path) -> None:
    for name in ("a.png", "é/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_encoded("L", "PNG", {}))
    (folder / "metadata.jsonl").write_bytes(content)
    captioned(FolderData(kind="folder", path=folder, skip_bad=10), 64)


def _configs() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_FIRST_VERSION.glob("*/config.json"))]


def _read_config(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    read_config(folder)


def _recipes() -> list[bytes]:
    return [*(path.read_bytes() for path in sorted(_PRESETS.glob("*.yaml"))), _RECIPE.encode()]


def _read_recipe(content: bytes, folder: Path) -> None:
    (folder / "x.yaml").write_bytes(content)
    load_recipe(str(folder / "x.yaml"))


def _drawn() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_FIRST_VERSION.glob("*.png"))]


def _read_drawn(content: bytes, folder: Path) -> None:
    (folder / "x.png").write_bytes(content)
    read_png(folder / "x.png")


TARGETS = {
    "pictures": Target(30_000, _pictures, _read_picture, with_valid_checksums),
    "tar shards": Target(5_000, _tars, _read_tar, with_valid_headers),
    "parquet tables": Target(500, _tables, _read_table, with_valid_ends),
    "safetensors of adapters": Target(500, _weights, _read_weights),
    "JSON lists of pictures": Target(500, _lists, _read_list),
    "JSON of adapters": Target(500, _configs, _read_config),
    "YAML recipes": Target(500, _recipes, _read_recipe),
    "PNGs of ours": Target(500, _drawn, _read_drawn, with_valid_checksums),
}
