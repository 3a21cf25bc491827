"""Writes the memory table of docs/llms.md: `python recipes/llm_table.py docs/llms.md`.

Every figure is counted on torch's meta device, from the configs in `llm_configs.json` by the functions that
`llmdiff train --dry-run` uses. `published` is the number of weights that a model's own page states: the config of a
model that does not have that many is wrong.
"""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import typer
from diffusers import DDIMScheduler, UNet2DConditionModel

from llmdiff.bench.shapes import DENOISERS
from llmdiff.language import ExtractionConfig
from llmdiff.language.text_encoding import term_count
from llmdiff.precompute.terms import term_bytes
from llmdiff.training import load_recipe
from llmdiff.training.costs import TOKENS, llm_bytes
from llmdiff.training.meta import meta_adapter, meta_llm

BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
_CONFIGS = Path(__file__).with_name("llm_configs.json")
_FORMATS = {"bfloat16": None, "int8": "int8", "4bit": "4bit"}
_CARDS = (8, 12, 16, 24, 48, 80, 141)  # GB
_LEFT = 2e9  # bytes beside the weights: what torch itself takes, a batch that is read
_KEPT = (("norm-mean", None), ("llmdiff", None), ("llmdiff", 8))  # extraction and groups
_HEADINGS = (
    "LLM", "weights", "blocks × width", "bfloat16", "int8", "4bit", "a card for bfloat16 / int8 / 4bit",
    "terms of a caption: `norm-mean` / `llmdiff` / in 8 groups", "adapter on SD 1.5", "its training state",
)  # fmt: skip


def rows() -> list[list[str]]:
    """The rows of the table."""
    recipe = load_recipe("sd15")
    with torch.device("meta"):
        unet = UNet2DConditionModel(**DENOISERS["sd15"])
    pipe = SimpleNamespace(unet=unet, components={"unet": unet}, vae_scale_factor=8, scheduler=DDIMScheduler())
    found = []
    for name, config in json.loads(_CONFIGS.read_text("utf-8")).items():
        llm = llm_of(config)
        assert llm.numbers == config["published"], name
        with torch.device("meta"):
            adapter = meta_adapter(recipe, pipe, llm)
        trained = sum(p.numel() for p in adapter.parameters())
        sizes = [llm_bytes(llm, "bfloat16", quantization) for quantization in _FORMATS.values()]
        terms = [
            term_bytes(TOKENS, term_count(ExtractionConfig(extraction=name), llm.block_count, groups), llm.width)
            for name, groups in _KEPT
        ]
        found.append(
            [
                name, _billions(llm.numbers), f"{llm.block_count} × {llm.width:,}", *map(_gigabytes, sizes),
                " / ".join(map(_card, sizes)), " / ".join(f"{size / 1e6:.1f} MB" for size in terms),
                _billions(trained), _gigabytes(16 * trained),
            ]
        )  # fmt: skip
    return found


def llm_of(config: dict[str, Any]) -> Any:
    """Width, blocks and numbers of a config's model."""
    with tempfile.TemporaryDirectory() as folder, torch.device("meta"):
        content = {key: value for key, value in config.items() if key != "published"}
        Path(folder, "config.json").write_text(json.dumps(content), encoding="utf-8")
        return meta_llm(folder)


def table() -> str:
    """The table in Markdown."""
    lines = [_HEADINGS, ["---"] * len(_HEADINGS), *rows()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(document: Path) -> None:
    """Write the table into a document, between its marks."""
    text = document.read_text("utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    document.write_text(before + BEGIN + "\n" + table() + "\n" + END + after, encoding="utf-8")


def _billions(numbers: int) -> str:
    return f"{numbers / 1e9:.2f} B" if numbers >= 1e9 else f"{numbers / 1e6:.0f} M"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _card(size: float) -> str:
    """The smallest card that holds so many bytes and what is beside them."""
    fitting = [card for card in _CARDS if size + _LEFT <= card * 1e9]
    return f"{fitting[0]} GB" if fitting else f"{-int(-(size + _LEFT) // (_CARDS[-2] * 1e9))} × {_CARDS[-2]} GB"


if __name__ == "__main__":
    typer.run(main)
