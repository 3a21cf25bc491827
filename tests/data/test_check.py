"""Every kind of bad file is named, and every good one is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmdiff.data import Data, FolderData, MixedData, SceneData
from llmdiff.data.check import check, data_at


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture of each kind."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    good = Image.fromarray(noise)
    good.save(tmp_path / "good.png")
    good.save(tmp_path / "same.png", compress_level=1)
    good.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    good.save(tmp_path / "moving.gif", save_all=True, append_images=[good.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    good.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-2000])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<html>not found</html>")
    names = ["good.png", "same.png", "cmyk.jpg", "deep.png", "moving.gif", "turned.jpg", "cut.png", "empty.jpg"]
    rows = [{"file_name": name, "text": [f"a {name}", f"b {name}"]} for name in [*names, "page.jpg", "gone.png"]]
    lines = [*map(json.dumps, rows), json.dumps({"file_name": "good.png", "text": " "}), "no json"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


def source(folder: Path, **settings: object) -> Data:
    return FolderData.model_validate({"kind": "folder", "path": folder} | settings)


def test_everything_is_named_by_file_and_kind(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80)
    Image.new("RGB", (200, 100)).save(folder / "huge.png")
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "huge.png", "text": "h"}')
    report = check(source(folder), 64)
    found = {(Path(finding.name).name, finding.kind, finding.bad) for finding in report.findings}
    assert found == {
        ("same.png", "duplicate", False),
        ("cmyk.jpg", "CMYK", False),
        ("deep.png", "16-bit", False),
        ("moving.gif", "animated", True),
        ("turned.jpg", "turned by EXIF", False),
        ("cut.png", "truncated", True),
        ("empty.jpg", "empty file", True),
        ("page.jpg", "not a picture", True),
        ("gone.png", "missing file", True),
        ("good.png", "missing caption", True),
        ("metadata.jsonl", "wrong row", True),
        ("huge.png", "decompression bomb", True),
    }
    assert (report.pictures, report.bad, report.captions) == (13, 8, 10)
    assert report.sizes == {(64, 64): 5}
    assert str(folder / "good.png") in next(one.detail for one in report.findings if one.kind == "duplicate")


@pytest.mark.fault("data left out")
def test_a_picture_that_is_listed_twice_is_noted(folder):
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "same.png", "text": "again"}')
    notes = [Path(one.name).name for one in check(source(folder), 64).findings if one.kind == "duplicate"]
    assert notes == ["same.png", "same.png"]


def test_sizes_are_counted_by_bucket(folder):
    report = check(source(folder, crop="buckets"), 64)
    assert report.sizes == {(56, 72): 4, (72, 56): 1}
    assert report.to_dict()["sizes"][0] == {"height": 56, "width": 72, "pictures": 4}
    json.dumps(report.to_dict())


def test_several_sources_are_checked_together_and_scenes_have_no_faults(folder):
    mixed = MixedData.model_validate(
        {"sources": [source(folder), SceneData(kind="scenes", captions=3, pictures=2)] * 2}
    )
    report = check(mixed, 32)
    assert report.pictures == 2 * (12 + 6)
    assert report.sizes == {(32, 32): 10, (64, 64): 12}
    assert sum(finding.kind == "duplicate" for finding in report.findings) == 2


def test_progress_is_told(folder):
    told: list[float] = []
    check(source(folder), 64, lambda _, share: told.append(share))
    assert told
    assert all(0 <= share <= 1 for share in told)


def test_what_is_at_a_path(tmp_path):
    def make(name: str) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        return str((tmp_path / name).parent)

    found = [data_at(make(name)) for name in ("a/x.png", "b/x.tar", "c/x.parquet", "d/metadata.jsonl")]
    assert [one.kind for one in found] == ["folder", "webdataset", "dataset", "folder"]
    assert [data_at(name).kind for name in ("s/{0..4}.tar", "s/x.parquet")] == ["webdataset", "dataset"]
    assert data_at("embedded") is data_at("my.yaml") is None
