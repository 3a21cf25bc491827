"""The packages that the world is made from, fetched with npm or apt and checked against known contents."""

import hashlib
import io
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


KEYWORDS = Source(
    "emojibase-data@17.0.0",
    "emojibase-data-17.0.0.tgz",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
DEFINITIONS = Source(
    "wordnet-base=1:3.0-37",
    "wordnet-base_1%3a3.0-37_all.deb",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
)
_CLIENTS = {".tgz": ("npm", "pack", "--silent"), ".deb": ("apt-get", "download", "-qq")}


def fetch(source: Source, folder: Path) -> Path:
    """The package's archive in `folder`, fetched with npm, or apt, if it is not there.

    Raises:
        SystemExit: The client fails, or the archive is not the one that the world was made from.
    """
    path = folder / source.archive
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        client = _CLIENTS[path.suffix]
        done = subprocess.run([*client, source.package], cwd=folder, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(f"{client[0]} does not get {source.package}; put {source.archive} into {folder}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise SystemExit(f"{path} is not the archive that the world was made from; remove it.")
    return path


def member(archive: Path, name: str) -> str:
    """The text of one file of an npm package."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{name}")
        assert file is not None
        return file.read().decode()


def debian_member(archive: Path, name: str) -> bytes:
    """One file that a Debian package installs."""
    files = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        file = tar.extractfile(f"./{name}")
        assert file is not None
        return file.read()
