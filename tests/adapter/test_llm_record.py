"""An adapter knows its LLM by its content: another tokenizer, template, weight or setting is told in one sentence."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.language.loading import Loading
from llmdiff.language.record import RECORDED, differences
from tiny_base import Places

CHAT = ExtractionConfig(template="chat")


@pytest.fixture
def llm(places: Places, tmp_path: Path) -> Path:
    """A copy of the LLM, to be changed."""
    return shutil.copytree(places.llm, tmp_path / "copy")


@pytest.fixture(scope="module")
def chatting(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter, as one that reads prompts in the chat template."""
    folder = shutil.copytree(places.adapter, tmp_path_factory.mktemp("chatting") / "adapter")
    _edit(folder, reading=json.loads(CHAT.model_dump_json()))
    return folder


def _edit(folder: Path, name: str = "config.json", **changes: object) -> None:
    path = folder / name
    content = json.loads(path.read_text()) | changes
    content.pop("crc32", None)
    path.write_text(json.dumps(content))


def told(adapter: Path, llm: Path | LanguageModel) -> list[str]:
    """What is said when an adapter is loaded with an LLM."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LLMDiffAdapter.from_pretrained(adapter, llm=llm if isinstance(llm, LanguageModel) else str(llm))
    return [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def _tokenizer(folder: Path, **changes: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _merge(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    _tokenizer(folder, model=model | {"merges": model["merges"][:-1]})


def _weight(folder: Path, name: str, place: tuple[int, int]) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name][place] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "Answer: ")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a merge": (_merge, "The tokenizer of"),
    "a normalizer": (lambda llm: _tokenizer(llm, normalizer={"type": "Lowercase"}), "The tokenizer of"),
    "its limit": (lambda llm: _edit(llm, "tokenizer_config.json", model_max_length=99), "The tokenizer of"),
    "a row of the embedding": (lambda llm: _weight(llm, "embed_tokens.weight", (70, 3)), "The weights of"),
    "a weight between": (lambda llm: _weight(llm, "layers.1.mlp.up_proj.weight", (5, 7)), "The weights of"),
    "the epsilon of its norms": (lambda llm: _edit(llm, rms_norm_eps=1e-3), "The settings of"),
    "two of them": (lambda llm: (_merge(llm), _edit(llm, rms_norm_eps=1e-3))[0], "The settings and the tokenizer of"),
}


@pytest.mark.fault("identity")
@pytest.mark.parametrize("change", CHANGES)
def test_an_llm_that_has_changed_is_told_in_one_sentence(places: Places, llm: Path, change: str) -> None:
    assert told(places.adapter, llm) == []  # a copy elsewhere
    CHANGES[change][0](llm)
    [sentence] = told(places.adapter, llm)
    assert sentence.startswith(CHANGES[change][1])
    assert str(llm) in sentence


@pytest.mark.fault("identity")
def test_a_chat_template_counts_where_it_is_used(places: Places, chatting: Path, llm: Path) -> None:
    assert told(chatting, llm) == []
    _template(llm)
    assert told(places.adapter, llm) == []
    [sentence] = told(chatting, llm)
    assert sentence.startswith("The chat template of")


@pytest.mark.fault("identity")
def test_an_llm_that_is_given_loaded_is_looked_at_as_well(places: Places, llm: Path) -> None:
    given = LanguageModel.load(str(llm))
    assert told(places.adapter, given) == []
    given.model.embed_tokens.weight.data[70, 3] += 1
    assert [sentence.split(" of ")[0] for sentence in told(places.adapter, given)] == ["The weights"]


def test_another_llm_is_told_of_by_its_fingerprint_alone(places: Places, llm: Path) -> None:
    weights = load_file(llm / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, llm / "model.safetensors", {"format": "pt"})
    [sentence] = told(places.adapter, llm)
    assert "fingerprint" in sentence


@pytest.mark.parametrize("known", [(), RECORDED[:1]])
def test_what_was_not_recorded_is_not_compared(places: Places, llm: Path, tmp_path: Path, known: tuple[str]) -> None:
    adapter = shutil.copytree(places.adapter, tmp_path / "old")
    record = json.loads((adapter / "config.json").read_text())["llm"]
    _edit(adapter, llm={key: value for key, value in record.items() if key not in set(RECORDED) - set(known)})
    _merge(llm)
    assert told(adapter, llm) == []


def test_a_start_looks_at_no_weights_of_an_llm_that_is_known(
    places: Places, llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LanguageModel.load(str(llm), late=True)
    monkeypatch.setattr(Loading, "model", lambda self: pytest.fail("its weights are loaded"))
    assert told(places.adapter, llm) == []


def test_hosts_of_another_version_have_forms_of_their_own() -> None:
    record = dict.fromkeys(RECORDED, "1") | {"dtype": "float32", "quantization": None}
    other = dict.fromkeys(RECORDED, "2") | {"dtype": "float32", "quantization": None}
    assert differences(record, other, chats=True) == ["weights", "chat template"]
    assert differences(record, other | {"dtype": "bfloat16"}, chats=False) == []
    assert differences(record | {"quantization": "int8"}, other | {"quantization": "int8"}, chats=False) == []
