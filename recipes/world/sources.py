"""The packages that the world is made from, fetched with npm and checked against known contents."""

import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One package of one version."""

    package: str
    archive: str
    """Name of the file that the client saves."""
    sha256: str


FLAT = Source(
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "iconify-json-fluent-emoji-flat-1.2.6.tgz",
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
)
SHADED = Source(
    "@iconify-json/fluent-emoji@1.2.7",
    "iconify-json-fluent-emoji-1.2.7.tgz",
    "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
)


def fetch(source: Source, folder: Path) -> Path:
    """The package's archive in `folder`, fetched with npm if it is not there.

    Raises:
        SystemExit: npm fails, or the archive is not the one that the world was made from.
    """
    path = folder / source.archive
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if subprocess.run(
            ["npm", "pack", "--silent", source.package], cwd=folder, stdout=subprocess.DEVNULL
        ).returncode:
            raise SystemExit(f"npm does not get {source.package}; put {source.archive} into {folder}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise SystemExit(f"{path} is not the archive that the world was made from; remove it.")
    return path


def member(archive: Path, name: str) -> str:
    """The text of one file of an npm package."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{name}")
        assert file is not None
        return file.read().decode()
