"""Web-UI syntax that is not supported: named in one warning, and only where it is that syntax."""

import re
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode
from llmdiff.language.webui import _warn_once, find_unsupported, warn_of_unsupported_syntax

CONFIG = ExtractionConfig()


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    _warn_once.cache_clear()


@pytest.mark.parametrize(
    ("prompt", "syntax", "remedy"),
    [
        ("a cup <lora:x:1>", "<lora:x:1>", "load LoRAs with pipe.load_lora_weights"),
        ("<LoRA:some name v1.0:0.8:1>a cup", "<LoRA:some name v1.0:0.8:1>", "load LoRAs"),
        ("<lyco:x>", "<lyco:x>", "load LoRAs"),
        ("<hypernet:x:1>", "<hypernet:x:1>", "hypernetworks"),
        ("a cup, embedding:easynegative", "embedding:easynegative", "textual inversions"),
        ("a [red:blue:0.5] cup", "[red:blue:0.5]", "every step"),
        ("a [blue : 10] cup", "[blue : 10]", "every step"),
        ("a [red::.5] cup", "[red::.5]", "every step"),
        ("a [(red:1.2):blue:0.5]", "[(red:1.2):blue:0.5]", "every step"),
        ("a [x:[red:blue:0.5]:3]", "[red:blue:0.5]", "every step"),
        ("a [cow|horse|man]", "[cow|horse|man]", "choose one"),
        ("a {red|blue} cup", "{red|blue}", "choose one"),
        ("a __colours/warm__ cup", "__colours/warm__", "wildcards"),
        ("a cup BREAK a table", "BREAK", "leave it out"),
        ("猫\nBREAK\n犬", "BREAK", "leave it out"),
        ("a cup AND a table", "AND", "one sentence"),
    ],
)
def test_it_is_named_with_what_to_do(prompt: str, syntax: str, remedy: str) -> None:
    sentence = rf"^web-UI syntax {re.escape(repr(syntax))} is read as plain text: .*{re.escape(remedy)}"
    with pytest.warns(UserWarning, match=sentence) as caught:
        warn_of_unsupported_syntax(prompt)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a (red:1.3) [cup] at 16:30, (a [b] c)",
        "[a note: blue] and a break",
        r"\[red:blue:0.5\] \{a|b\}",
        "BREAK DANCE AND MUSIC",
        "a breakfast, BREAKFAST, SAND",
        "<lora> lora:x:1 a|b {a} [a b] [1, 2]",
        "snake__case__name __",
    ],
)
def test_other_text_is_left_in_peace(prompt: str) -> None:
    assert list(find_unsupported(prompt)) == []


def test_all_kinds_of_a_prompt_stand_in_one_warning_told_once(tiny_llm: LanguageModel) -> None:
    text_encoding = TextEncoding(CONFIG, tiny_llm.width, tiny_llm.block_count).eval()
    prompt = "a cup <lora:x:1> BREAK <lora:y:1>"
    for weighted in (False, True):
        _warn_once.cache_clear()
        with pytest.warns(UserWarning, match=r"'<lora:x:1>' .*pipe\.load_lora_weights; 'BREAK' is read") as caught:
            encode(tiny_llm, [prompt, "a dog", prompt], CONFIG, text_encoding, weighted=weighted)
        assert len(caught) == 1
    with pytest.warns(UserWarning, match="lora:x"):
        encode(tiny_llm, [prompt + "!"], CONFIG, text_encoding)


@given(st.text(alphabet="ab:[]{}|<>lora_BREAK01. \\\n", max_size=60))
def test_any_prompt_is_searched(prompt: str) -> None:
    for syntax, _ in find_unsupported(prompt):
        assert syntax in prompt


OPEN = ["[", "[a:", "<lora:", "-__a", "{a|", "[a|", "[:  ", "[a:1 ", "[" + ":1" * 9]


@pytest.mark.parametrize("piece", [*OPEN, ":1", "\\[", "word ", "BREAK ", "<lora:x:1>"])
def test_long_prompts_take_linear_time(piece: str) -> None:
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warn_of_unsupported_syntax(piece * 100_000)
    assert time.process_time() - began < 5


def test_long_syntax_is_shown_in_part() -> None:
    ((shown, _),) = find_unsupported("<lora:" + "x" * 1000 + ">")
    assert len(shown) == 60
