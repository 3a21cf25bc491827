"""From an endpoint's answer to a text that may take the place of a prompt; everything else in it is a fault."""

import re
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.structured_text import parse_json

LONGEST = 1500
"""Characters of a rewriting at most: about 350 tokens, more than an adapter reads by default."""

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*\n(.*?)\n?```$", re.DOTALL)
_QUOTES = ('""', "“”", "''", "‘’", "``", "«»")
_LABEL = re.compile(r"^(?:rewritten |new |final )?prompt:\s*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"i['’]?m (?:(?:very |really )?sorry|unable|not able)\b|(?:i )?apologi[sz]e\b|sorry,|as an ai\b|"
    r"(?:unfortunately, )?i (?:can(?:no|['’])t|can not|am (?:sorry|unable)|will not|won['’]t)\b",
    re.IGNORECASE,
)


class NoAnswerError(Exception):
    """Why there is no rewriting, as the second half of a sentence.

    Attributes:
        lasting: whether the next question would fare no better, so that it is not asked.
    """

    def __init__(self, what: str, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


def text_of(body: bytes) -> str:
    """The rewriting in the body of an answer of a chat endpoint.

    Raises:
        NoAnswerError: there is none, it was refused or cut, or it is not usable.
    """
    try:
        content = parse_json(body.decode("utf-8"), "The answer")
    except (UnicodeError, LLMDiffError):
        raise NoAnswerError("gave an answer that is not JSON") from None
    choice = _first(content.get("choices") if isinstance(content, dict) else None)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise NoAnswerError("gave an answer that is not of a chat endpoint")
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        raise NoAnswerError("refused")
    if choice.get("finish_reason") == "length":
        raise NoAnswerError("gave an answer that was cut for its length")
    return checked(message.get("content"))


def checked(content: Any) -> str:
    """A text as it is drawn from: one line, without a reasoning model's thoughts, quotation marks or a label.

    Raises:
        NoAnswerError: it is empty, a refusal, longer than `LONGEST`, or no text.

    Example:
        >>> checked('<think>France: blue, white, red.</think>\\n"A dog in blue, white and red stripes."')
        'A dog in blue, white and red stripes.'
    """
    if content is not None and not isinstance(content, str):
        raise NoAnswerError("gave an answer that is not of a chat endpoint")
    text = _THOUGHTS.sub("", content or "").strip()
    if _OPEN_THOUGHT.search(text):
        raise NoAnswerError("gave an answer that was cut for its length")
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    text = _LABEL.sub("", text)
    if len(text) > 2 and text[0] + text[-1] in _QUOTES and text[0] not in text[1:-1]:
        text = text[1:-1]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not text:
        raise NoAnswerError("gave an empty answer")
    if len(text) > LONGEST:
        raise NoAnswerError(f"gave an answer of {len(text):,} characters, more than {LONGEST:,}")
    if _REFUSAL.match(text):
        raise NoAnswerError("refused")
    return text


def _first(choices: Any) -> dict[str, Any]:
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NoAnswerError("gave an answer that is not of a chat endpoint")
    return choices[0]
