"""Chat templates: the prompt stands in the text once and unchanged, on any day, or one sentence says why not."""

import json
import re
import time

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode, tokenize
from llmdiff.language.chat import chat_parts
from tiny_llm import CHAT_TEMPLATE

LOOP = "{% for message in messages %}"
TAIL = "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
CONTENT = "{{ message.content }}" + TAIL
LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\n\nToday Date: " + date_string + "\n\n" + system_message + "<|eot|>" }}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\n\n' }}
{%- endif %}"""
GEMMA = """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""
QWEN = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
MISTRAL = """{%- set today = strftime_now("%Y-%m-%d") %}{{- bos_token }}
{{- '[SYSTEM]The date is ' + today + ', a ' + strftime_now('%A, the %-d of %B at %H:%M') + '[/SYSTEM]' }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}
        {%- else %}{%- for block in message['content'] %}{{- '[INST]' + block['text'] + '[/INST]' }}{%- endfor %}
        {%- endif %}
    {%- endif %}
{%- endfor %}"""
PARTS = LOOP + "<{{ message.role }}>{% for part in message['content'] %}{% if part.type == 'text' %}{{ part.text }}"
PARTS += "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}</>" + TAIL
FIRST_PART = LOOP + "<{{ message.role }}>{{ message['content'][0]['text'] }}</>" + TAIL
STRICT_PARTS = "{% if messages[0].content is string %}{{ raise_exception('a list, please') }}{% endif %}" + PARTS

FITTING = {
    "Llama 3": (LLAMA, "Today Date: 26 Jul 2024\n\n<|eot|><|start|>user<|end|>\n\n"),
    "Gemma": (GEMMA, "<start_of_turn>user\n"),
    "Qwen": (QWEN, "You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"),
    "Mistral": (MISTRAL, "2024-07-26, a Friday, the 26 of July at 00:00[/SYSTEM][INST]"),
    "parts": (PARTS, "<user>"),
    "the first part": (FIRST_PART, "<user>"),
    "nothing but parts": (STRICT_PARTS, "<user>"),
    "the day by a macro": (
        "{% macro day() %}{{ strftime_now('%y/%m/%-d') }}{% endmacro %}"
        + LOOP
        + "{{ day() }}:{{ message.content }}"
        + TAIL,
        "24/07/26:",
    ),
    "an indented first line": ("  {% if true %}\n  " + LOOP + "\n" + CONTENT + "{% endif %}", ""),
    "ours": (CHAT_TEMPLATE, "<|im_start|>user\n"),
    "named ones": ({"default": CHAT_TEMPLATE, "tool_use": "none"}, "<|im_start|>user\n"),
}
UNDATED = [style for style, (template, _) in FITTING.items() if "strftime" not in str(template)]
CHANGED = r"leaves the prompt out, or changes it"
REFUSED = {
    "repeats": (LOOP + "{{ message.content }} " + CONTENT, r"repeats the prompt 2 times"),
    "repeats parts": (PARTS + PARTS, r"repeats the prompt 2 times"),
    "upper": (LOOP + "{{ message.content | upper }}" + TAIL, CHANGED),
    "title": (LOOP + "{{ message.content | title }}" + TAIL, CHANGED),
    "one line": (LOOP + "{{ message.content.split() | join(' ') }}" + TAIL, CHANGED),
    "escaped": (LOOP + "{{ message.content | e }}" + TAIL, CHANGED),
    "JSON": (LOOP + "{{ message | tojson }}" + TAIL, CHANGED),
    "cut": (LOOP + "{{ message.content[:20] }}" + TAIL, CHANGED),
    "left out": ("Hello" + TAIL.replace("{% endfor %}", ""), CHANGED),
    "empty": ("", CHANGED),
    "written as Python": (LOOP + "{{ [message.content] }}" + TAIL, CHANGED),
    "raises": ("{{ raise_exception('No user may speak here') }}", r"fails \(No user may speak here\)"),
    "undefined": (
        "{{ bos_token + tenant.name }}" + LOOP + CONTENT,
        r"fails \('tenant' is undefined\)",
    ),
    "no Jinja": (LOOP + "{{ message.content }", r"fails \(.+\)"),
    "no number": ("{{ 1 // 0 }}", r"fails \(.*zero.*\)"),
    "unsafe": ("{{ ''.__class__.__mro__ }}", r"fails \(.+\)"),
    "endless": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"fails \(.+\)"),
    "regards the prompt": (
        LOOP + "{{ message.content | length }}: " + CONTENT,
        r"writes other words around other prompts",
    ),
    "long": ("{{ 'x' * 200000 }}" + LOOP + CONTENT, r"writes more than 100,000 characters around a prompt"),
    "without a default": ({"tool_use": CHAT_TEMPLATE}, r"fails \(.+\)"),
}


@pytest.mark.parametrize("style", FITTING)
def test_the_prompt_stands_in_the_text_once(
    tiny_llm: LanguageModel, tokenizer: PreTrainedTokenizerFast, style: str
) -> None:
    tokenizer.chat_template, end = FITTING[style]
    before, after = chat_parts(tokenizer)
    assert before.endswith(end)
    llm = LanguageModel.from_model(tiny_llm.model, tokenizer, style)
    tokens = tokenize(llm, ["a {cat}\n 'sat'"], ExtractionConfig(template="chat"))
    assert tokenizer.decode(tokens.ids[0]) == f"{before}a {{cat}}\n 'sat'{after}"


@pytest.mark.parametrize("style", REFUSED)
def test_other_templates_are_refused_in_one_sentence(tokenizer: PreTrainedTokenizerFast, style: str) -> None:
    tokenizer.chat_template, why = REFUSED[style]
    with pytest.raises(LLMDiffError) as refused:
        chat_parts(tokenizer)
    remedy = re.escape('choose a template with {prompt} instead of "chat"')
    assert re.fullmatch(rf"The language model's chat template {why}: {remedy}\.", str(refused.value))


@pytest.mark.parametrize("style", UNDATED)
def test_a_template_renders_as_transformers_renders_it(tokenizer: PreTrainedTokenizerFast, style: str) -> None:
    tokenizer.chat_template, _ = FITTING[style]
    content = [{"type": "text", "text": "a cat"}] if "part" in style else "a cat"
    chat = [{"role": "user", "content": content}]
    whole = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert "a cat".join(chat_parts(tokenizer)) == whole


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("%d %b %Y", "26 Jul 2024"),
        ("%A %-d %B, %m/%-m/%y, day %j", "Friday 26 July, 07/7/24, day 208"),
        ("%H:%M:%S %p %-H", "00:00:00 AM 0"),
        ("100 %% 'd %", "100 %% 'd %"),
        ("", ""),
    ],
)
def test_dates_are_of_one_day(tokenizer: PreTrainedTokenizerFast, format: str, expected: str) -> None:
    tokenizer.chat_template = f"{{{{ strftime_now({json.dumps(format)}) }}}}|" + LOOP + CONTENT
    assert chat_parts(tokenizer)[0] == f"{expected}|"


def test_encodings_do_not_change_from_day_to_day(
    tiny_llm: LanguageModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = MISTRAL
    llm = LanguageModel.from_model(tiny_llm.model, tokenizer, "dated")
    config = ExtractionConfig(template="chat")
    text_encoding = TextEncoding(config, llm.width, llm.block_count).eval()
    embeds = []
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):  # between which it is never the same day
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        llm.encodings.clear()
        llm.prefixes.clear()
        embeds.append(encode(llm, ["a cat"], config, text_encoding).embeds)
    monkeypatch.undo()
    time.tzset()
    assert torch.equal(*embeds)
