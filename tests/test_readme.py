"""What the README shows, run as it stands on local models."""

import re
from pathlib import Path
from typing import Any

from tiny_base import Places

README = Path(__file__).parents[1] / "README.md"


def test_the_five_lines_work(places: Places) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for loader, folder in (
        ("StableDiffusionPipeline.from_pretrained", places.base),
        ("LanguageModel.load", places.llm),
    ):
        code, count = re.subn(rf'{re.escape(loader)}\("[^"]+"\)', f"{loader}({str(folder)!r})", code)
        assert count == 1
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["image"].size == (16, 16)
    names["adapter"].detach()
