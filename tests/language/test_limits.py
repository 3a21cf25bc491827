"""Templates and tokenizers that never end, or take all memory: one sentence in limited time, in any thread."""

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from llmdiff.errors import LLMDiffError
from llmdiff.language import limits
from llmdiff.language.chat import chat_parts
from llmdiff.language.tokens import make_frame

pytestmark = pytest.mark.fault("hostile templates")
PROMPT = "{{ messages[0]['content'] }}"
LOOP = "{% for n in range(99999) %}"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.limited_python.__wrapped__, "__defaults__", (0.3, 100 * 2**20))  # type: ignore[attr-defined]
    monkeypatch.setattr(limits.within_seconds, "__defaults__", (1.0,))


TEMPLATES = {
    "loops in loops": f"{LOOP * 4}{'{% endfor %}' * 4}{PROMPT}",
    "a text that doubles": "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x ~ n.x %}{% endfor %}" + PROMPT,
    "a list that doubles": "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = n.x + n.x %}{% endfor %}" + PROMPT,
    "output without end": f"{LOOP * 3}aaaaaaaaaaaaaa{'{% endfor %}' * 3}{PROMPT}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}" + PROMPT,
    "a text of gigabytes": "{{ 'a' * 9999999999 }}" + PROMPT,
    "padding of gigabytes": "{{ 'a'.ljust(9999999999) }}" + PROMPT,
    "a power": "{{ 'a' * 10 ** 10 }}" + PROMPT,
    "a long template": "a" * 600_000 + PROMPT,
    "deep nesting": "{{ " + "(" * 50_000 + " }}" + PROMPT,
    "deep blocks": "{% if 1 %}" * 5000 + PROMPT + "{% endif %}" * 5000,
    "what it may not see": "{{ messages.__class__.__mro__[1].__subclasses__() }}" + PROMPT,
}


@pytest.fixture
def _no_collection() -> Iterator[None]:
    """What hypothesis has the garbage collector call fails where the stack is nearly full."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_template_is_a_sentence_in_time(tokenizer: PreTrainedTokenizerFast, template: str, in_thread: bool) -> None:
    tokenizer.chat_template = template
    said: list[Any] = []

    def render() -> None:
        with pytest.raises(LLMDiffError) as caught:
            chat_parts(tokenizer)
        said.append(str(caught.value))

    start = time.perf_counter()
    if in_thread:
        thread = threading.Thread(target=render)
        thread.start()
        thread.join()
    else:
        render()
    assert time.perf_counter() - start < 8
    assert said[0].startswith("The language model's chat template ")
    assert "\n" not in said[0]


def test_a_good_template_is_rendered_as_ever(tokenizer: PreTrainedTokenizerFast) -> None:
    assert chat_parts(tokenizer) == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("expression", "length", "words"),
    [(r"a*\d", 40_000, "takes more than"), (r"(a+)+[^a]", 500, "(fails|takes more than)")],
)
def test_a_tokenizer_that_tries_all_ways_to_divide_a_text(
    tokenizer: PreTrainedTokenizerFast, expression: str, length: int, words: str
) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = Split(Regex(expression), "isolated")
    start = time.perf_counter()
    with pytest.raises(LLMDiffError, match=f"tokenizer {words}"):
        make_frame(tokenizer, "a" * length + "{prompt}")
    assert time.perf_counter() - start < 8


def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(KeyError):
        limits.within_seconds("A call", lambda: {}["a"])
    assert limits.within_seconds("A call", lambda: None) is None
