"""What an app is started with."""

from dataclasses import dataclass, field
from pathlib import Path

from llmdiff.models import EMBEDDED
from llmdiff.proxy import ProxyConfig

MOST_PIXELS = 4
"""A picture may have as many times the pixels that the base model was trained on."""
MOST_STEPS = 200
MOST_PICTURES = 64
"""Pictures of one sweep at most."""
LONGEST_PROMPT = 20_000
"""Characters of a prompt."""
LARGEST_UPLOAD = 32 * 2**20
"""Bytes of a file that is read back."""


@dataclass(frozen=True)
class AppSettings:
    """Models, folders and bounds of an app; nothing of it can be changed from the page.

    Attributes:
        base: the base model.
        base_config: of a single-file base: the folder or Hub id of its configs.
        adapters: those that the page offers, the first one at the start.
        llm: None takes the one that each adapter was trained with.
        out: the folder that pictures are written to, and that the gallery shows.
        runs: the folder whose training runs are shown.
        device: None takes the fastest one here.
        proxy: rewrites the prompts of visitors who ask for that; None offers it to nobody.
    """

    base: str = EMBEDDED
    base_config: str | None = None
    adapters: tuple[str, ...] = (EMBEDDED,)
    llm: str | None = None
    out: Path = field(default_factory=lambda: Path("out"))
    runs: Path = field(default_factory=lambda: Path("runs"))
    device: str | None = None
    proxy: ProxyConfig | None = None
