"""Any value in any JSON file of an LLM or a base model: it is used, or one sentence says why not."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.generation import Models, PictureSettings, Renderer
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode
from tiny_base import Places

VALUES = st.sampled_from(
    [None, True, 0, -1, 2, 0.5, -0.0, 1e300, 10**12, float("nan"), float("inf"), "", "x", "\0", "a" * 5000, "1",
     "../x", "{prompt}", [], [1], ["x"], [[]], {}, {"a": 1}]
)  # fmt: skip


def values_in(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a JSON tree, by its owner and key; of long lists the first."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node[:40]) if isinstance(node, list) else ()
    for key, value in list(pairs):
        yield node, key
        yield from values_in(value)


def read_with(llm: LanguageModel) -> None:
    for template in (None, "chat"):
        config = ExtractionConfig(
            extraction="llmdiff" if llm.architecture == "decoder-only" else "last", template=template
        )
        encode(llm, ["a red cup"], config, TextEncoding(config, llm.width, llm.block_count).eval())


def draw_with(base: Path) -> None:
    renderer = Renderer.load(Models(base=str(base)), device="cpu")
    renderer.default_size()
    asked = {"prompt": "a box", "steps": 2, "guidance": 5, "scale": 1, "seed": 7, "width": 16, "height": 16}
    renderer.draw(PictureSettings.model_validate(asked))


def said(kind: str, folder: Path) -> str:
    """The sentence of a model that cannot be used; empty of one that can."""
    try:
        read_with(LanguageModel.load(str(folder))) if kind == "llm" else draw_with(folder)
    except LLMDiffError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.fault("hostile text")
@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_is_used_or_a_sentence(places: Places, tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "models", ignore_errors=True)
    kind = data.draw(st.sampled_from(["llm", "base"]))
    folder = Path(shutil.copytree(getattr(places, kind), tmp_path / "models"))
    file = data.draw(st.sampled_from(sorted(folder.rglob("*.json"))))
    content = json.loads(file.read_text())
    owner, key = data.draw(st.sampled_from(list(values_in(content))))
    owner[key] = data.draw(VALUES)
    file.write_text(json.dumps(content))
    begun = time.process_time()
    assert "\n" not in said(kind, folder)
    assert time.process_time() - begun < 10
