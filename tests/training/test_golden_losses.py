"""The numbers of training are those of before: twenty losses of every family, within what processors differ by."""

import json
from pathlib import Path

import pytest

from llmdiff.language import LanguageModel
from training.golden import FAMILIES, FOLDER, STEPS, losses_of, mode_of, path_of


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_losses_are_those_that_were_written_down(family: str, tiny_llm: LanguageModel, tmp_path: Path) -> None:
    """If they are meant to be others now: `python -m training.golden`, and say in the commit why."""
    golden = json.loads(path_of(family).read_text())
    assert golden["mode"] == mode_of(family)
    assert len(golden["losses"]) == STEPS
    assert losses_of(family, tiny_llm, tmp_path) == pytest.approx(golden["losses"], rel=1e-3)


def test_every_file_is_of_a_family() -> None:
    assert {path_of(family) for family in FAMILIES} == set(FOLDER.iterdir())
