"""Pieces of HTML that the page shows; whatever comes from elsewhere is escaped."""

from collections.abc import Mapping
from html import escape
from typing import Any

from llmdiff.app.reading import Reading
from llmdiff.errors import LLMDiffError

_LONGEST = 1000  # characters of a prompt that is shown
_SHOWN = 160  # characters around the place where a prompt is cut


def header(base: str, llm: str, adapters: str) -> str:
    """The head of the page: its name and what draws."""
    facts = {"base": base, "LLM": llm, "adapter": adapters}
    shown = "".join(f"<span><b>{name}</b>{escape(value)}</span>" for name, value in facts.items())
    return (
        '<div class="ld-head"><div class="ld-mark" aria-hidden="true"><i></i><i></i><i></i></div>'
        f'<h1>llmdiff</h1><div class="ld-models">{shown}</div></div>'
    )


def progress(before: int, stage: str, share: float) -> str:
    """A bar, or how many orders are before this one."""
    if before:
        others = "1 order" if before == 1 else f"{before} orders"
        return f'<div class="ld-status" role="status"><span>Waiting: {others} before yours</span></div>'
    percent = round(100 * share)
    return (
        f'<div class="ld-status" role="status"><span>{escape(stage or "Starting")}</span><span>{percent} %</span>'
        f'<div class="ld-bar"><div style="width:{percent}%"></div></div></div>'
    )


def done(text: str) -> str:
    """That something is done."""
    return f'<div class="ld-status ld-done" role="status"><span>{escape(text)}</span></div>'


def stopped() -> str:
    """That something was stopped."""
    return '<div class="ld-status ld-stopped" role="status"><span>Stopped.</span></div>'


def problem(error: Exception) -> str:
    """What is wrong: an error's sentence if it is meant to be read."""
    text = str(error) if isinstance(error, LLMDiffError) else "Something went wrong: the terminal says what."
    return f'<div class="ld-status ld-problem" role="alert"><span>{escape(text)}</span></div>'


def counts(reading: Reading | None) -> str:
    """How many tokens a prompt has, for each of its readers, and the part of it that is cut."""
    if reading is None:
        return ""
    found: list[str] = []
    if reading.llm is not None:
        found.append(_count("LLM", reading.llm.count, reading.llm.limit))
    if reading.base is not None:
        found.append(_count("base", reading.base.count, reading.base.limit))
    return f'<div class="ld-counts">{"".join(found)}{_cuts(reading)}</div>'


def facts(values: Mapping[str, Any]) -> str:
    """Names and values as a list."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in values.items())
    return f'<dl class="ld-facts">{rows}</dl>'


def order(prompt: str, settings: str) -> str:
    """A prompt, and with what it is drawn."""
    return f'<div class="ld-order">{escape(prompt[:_LONGEST])}<small>{escape(settings)}</small></div>'


def chips(values: Mapping[str, Any]) -> str:
    """Names and values in a row."""
    shown = "".join(f"<span><b>{escape(name)}</b>{escape(str(value))}</span>" for name, value in values.items())
    return f'<div class="ld-counts">{shown}</div>'


def note(text: str) -> str:
    """A line of explanation."""
    return f'<p class="ld-note">{escape(text)}</p>'


def _count(reader: str, count: int, limit: int) -> str:
    full = ' class="ld-full"' if count > limit else ""
    return f"<span{full}><b>{reader}</b>{count} / {limit} tokens</span>"


def _cuts(reading: Reading) -> str:
    """Where the prompt is cut: by the LLM with the place in the text, by the base model with the words."""
    found: list[str] = []
    if reading.llm is not None and reading.llm.is_cut:
        place = reading.llm.read
        before, after = reading.prompt[max(0, place - _SHOWN // 2) : place], reading.prompt[place : place + _SHOWN]
        found.append(f"<p>The LLM reads … {escape(before)}<mark>✂ {escape(after)}</mark></p>")
    if reading.base is not None and reading.base.count > reading.base.limit:
        found.append(f"<p>The base model's text encoder stops before <mark>✂ {escape(reading.base.lost)}</mark></p>")
    return "".join(found)
