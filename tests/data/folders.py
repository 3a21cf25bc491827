"""Folders of pictures with captions, and what is found in them."""

import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

from llmdiff.data import Captioned, FolderData, captioned
from llmdiff.data.check import Report, check


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


def listed(path: Path, *rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
