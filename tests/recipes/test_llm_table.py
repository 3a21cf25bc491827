"""The memory table of docs/llms.md is what its recipe counts from the configs."""

import json
from pathlib import Path

import pytest

import llm_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "llms.md"


def test_a_small_config_has_the_weights_that_its_page_states() -> None:
    config = json.loads(Path(llm_table.__file__).with_name("llm_configs.json").read_text("utf-8"))["SmolLM2-135M"]
    llm = llm_table.llm_of(config)
    assert llm.numbers == config["published"]
    assert (llm.width, llm.block_count) == (576, 30)


@pytest.mark.parametrize(
    ("size", "card"), [(5e9, "8 GB"), (22.1e9, "48 GB"), (138e9, "141 GB"), (141.1e9, "2 × 80 GB")]
)
def test_the_smallest_card_is_named(size: float, card: str) -> None:
    assert llm_table._card(size) == card


@pytest.mark.slow
def test_the_table_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    shown = text.partition(llm_table.BEGIN)[2].partition(llm_table.END)[0]
    assert shown.strip() == llm_table.table().strip()
