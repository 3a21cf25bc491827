"""Files of prompts: plain, or with settings of each line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.generation import read_prompt_file


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_each_line_of_a_text_is_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path, "prompts.txt", "\ufeffa red cup\r\n\n  {a: 1} \n")
    requests = read_prompt_file(path, {"num": 2, "negative": "blur"})
    assert {number: request.prompts for number, request in requests.items()} == {1: ["a red cup"], 3: ["{a: 1}"]}
    assert {(request.seed, request.num, request.negative) for request in requests.values()} == {(0, 2, "blur")}


def test_a_line_of_json_has_settings_of_its_own(tmp_path: Path) -> None:
    own = {"seed": 9, "size": "64x32", "negative": "n", "num": 3, "steps": 4, "guidance": 1.5, "scale": 0.5}
    lines = [{"prompt": "a\nb"} | own, {"prompt": "c", "seed": None}]
    path = written(tmp_path, "prompts.jsonl", "\n".join(map(json.dumps, lines)))
    first, second = read_prompt_file(path, {"seed": 5, "steps": 30}).values()
    assert first.prompts == ["a\nb"]
    assert first.size == (64, 32)
    assert {key: getattr(first, key) for key in own if key != "size"} == {k: v for k, v in own.items() if k != "size"}
    assert (second.seed, second.steps, second.size) == (5, 30, None)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": "b", "sed": 1}', "Line 2 .* has the key 'sed': there are prompt, neg"),
        ("p.jsonl", '{"prompt": 3}', r'Line 1 .* is not of the form \{"prompt"'),
        ("p.jsonl", "a red cup", "Line 1 .* is not usable JSON"),
        ("p.jsonl", '{"prompt": "a", "steps": -1}', "Line 1 .*steps"),
        ("p.jsonl", '{"prompt": "a", "size": "7x7"}', "Line 1 .*7x7"),
        ("p.jsonl", '{"prompt": " "}', "Line 1 .*empty"),
        ("p.jsonl", '{"prompt": "a", "base": "/etc"}', "Line 1 .* has the key 'base'"),
        ("p.txt", " \n\n", "has no prompts"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(LLMDiffError, match=sentence):
        read_prompt_file(written(tmp_path, name, text), {})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(LLMDiffError, match="cannot be read"):
            read_prompt_file(path, {})
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(LLMDiffError, match="cannot be read"):
        read_prompt_file(tmp_path / "latin.txt", {})


@given(prompts=st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=5))
def test_any_prompts_come_through_a_file_of_json(prompts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    prompts = [text.encode("utf-8", "ignore").decode() for text in prompts]
    prompts = [text for text in prompts if text.strip()] or ["a"]
    text = "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts)
    path = written(tmp_path_factory.mktemp("prompts"), "p.jsonl", text)
    assert [request.prompts for request in read_prompt_file(path, {}).values()] == [[prompt] for prompt in prompts]
