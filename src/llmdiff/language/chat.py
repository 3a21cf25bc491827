"""The text that an LLM's own chat template puts around a prompt.

A template is a program in Jinja that came with the LLM. A prompt has an encoding of its own only if the template writes
it down exactly once, unchanged, and everything else regardless of it: `chat_parts` tries that with two prompts of its
own and refuses other templates.
"""

import datetime
import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmdiff.errors import LLMDiffError
from llmdiff.language.limits import LimitExceededError, limited_python
from llmdiff.sources import reason

TEMPLATE_DATE = datetime.date(2024, 7, 26)
"""The date that templates get for today's: otherwise encodings would change from day to day. It is
the date that Llama 3's template takes where there is no clock, and is never to change, since adapters are trained with
it."""

_PROBES = (
    'Llmdiff\'s <prompt> & "goes" \\here:\n  {{ 1 }} été  2',
    "llmdiff-prompt-goes-here",
)
"""The first one has all that templates change: cases, quotes, line breaks, spaces, accents, markup."""

_LONGEST = 100_000  # characters around a prompt
_LONGEST_TEMPLATE = 500_000
_HUGE_NUMBER = re.compile(r"\d{9,}|\*\*")  # an operation on one text is done before its time can be up
_REMEDY = 'choose a template with {prompt} instead of "chat"'
_DIRECTIVES = "aAbBcdHIjmMpSUwWxXyYZ"  # of strftime


def chat_parts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Returns the text that the tokenizer's chat template writes before and after a user's message.

    Templates that read a message's content as a list of parts, as those of vision-language models do, are given such a
    list. Today's date is `TEMPLATE_DATE`.

    Raises:
        LLMDiffError: if there is no template, it fails, or it does not write the prompt down once and unchanged.

    Example:
        >>> chat_parts(tokenizer)
        ('<|im_start|>user\\n', '<|im_end|>\\n<|im_start|>assistant\\n')
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise LLMDiffError(f"The language model has no chat template; {_REMEDY}.")
    one, other = (_around(tokenizer, probe) for probe in _PROBES)
    if one != other:
        raise _refusal("writes other words around other prompts")
    if sum(map(len, one)) > _LONGEST:
        raise _refusal(f"writes more than {_LONGEST:,} characters around a prompt")
    return one


def _around(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, str]:
    """The rendered text before and after a prompt."""
    text, failure = _render(tokenizer, prompt)
    if prompt not in text:
        in_parts, _ = _render(tokenizer, [{"type": "text", "text": prompt}])
        if prompt in in_parts:
            text, failure = in_parts, None
    if failure is not None:
        raise _refusal(f"fails ({reason(failure)})") from failure
    if prompt not in text:
        raise _refusal("leaves the prompt out, or changes it")
    if text.count(prompt) > 1:
        raise _refusal(f"repeats the prompt {text.count(prompt)} times")
    before, _, after = text.partition(prompt)
    return before, after


def _render(tokenizer: PreTrainedTokenizerBase, content: str | list[dict[str, str]]) -> tuple[str, Exception | None]:
    """The text of a chat with one message of a user, or the exception that the template raises."""
    chat: list[Any] = [{"role": "user", "content": content}]
    try:
        template = tokenizer.get_chat_template()
        _check_size(template)
        with limited_python():
            text = tokenizer.apply_chat_template(
                chat,
                chat_template=_with_fixed_date(template),
                tokenize=False,
                add_generation_prompt=True,
                date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
            )
    except LLMDiffError:
        raise
    except LimitExceededError as error:
        raise _refusal(str(error)) from error
    except Exception as error:  # a template is a program, which may raise anything
        return "", error
    return str(text), None


def _check_size(template: str) -> None:
    """Raises LLMDiffError if a template is longer than any, or has a number by which a text of gigabytes is made."""
    if len(template) > _LONGEST_TEMPLATE:
        raise _refusal(f"is {len(template):,} characters long")
    if number := _HUGE_NUMBER.search(template):
        raise _refusal(f"has the number or power {number.group()[:20]} in it")


def _with_fixed_date(template: str) -> str:
    """A template whose ``strftime_now``, transformers' function, is a macro that knows one date."""
    if "strftime_now" not in template:
        return template
    midnight = datetime.datetime.combine(TEMPLATE_DATE, datetime.time())
    filters = "".join(
        f" | replace('%{flag}{directive}', {(midnight.strftime(f'%{directive}').lstrip(strip) or '0')!r})"
        for flag, strip in (("-", "0"), ("", ""))
        for directive in _DIRECTIVES
    )
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n{template}"


def _refusal(what: str) -> LLMDiffError:
    return LLMDiffError(f"The language model's chat template {what}: {_REMEDY}.")
