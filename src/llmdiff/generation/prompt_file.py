"""A file of prompts: one a line, or one JSON object a line with settings of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.generation.request import GenerationRequest
from llmdiff.structured_text import parse_json

LARGEST = 256 * 2**20
"""Bytes of a file of prompts."""
KEYS = ("prompt", "negative", "seed", "size", "num", "steps", "guidance", "scale")
"""What a line of JSON may set; all but the prompt have the defaults of the order."""
FIRST_SEED = 0
"""Of lines without one, where the order has none: the same file is to give the same pictures again."""


def read_prompt_file(path: Path, order: Mapping[str, Any]) -> dict[int, GenerationRequest]:
    """The requests of a file of prompts, by the number of their line; blank lines are none.

    A file whose name ends in .jsonl has JSON objects with ``prompt`` and, if need be, other keys of `KEYS`; any other
    one has prompts as they are.

    Args:
        path: of the file, in UTF-8.
        order: what `GenerationRequest` takes, but for the prompts, for all lines.

    Raises:
        LLMDiffError: the file cannot be read, has no prompts, or a line is at fault.

    Example:
        >>> Path("prompts.jsonl").write_text('{"prompt": "a red cup", "seed": 7}\\n{"prompt": "a blue ball"}\\n')
        61
        >>> requests = read_prompt_file(Path("prompts.jsonl"), {"seed": 1})
        >>> [(number, request.prompts, request.seed) for number, request in requests.items()]
        [(1, ['a red cup'], 7), (2, ['a blue ball'], 1)]
    """
    try:
        text = read_text(open_regular(path), LARGEST)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The file of prompts {path} cannot be read ({why_not(error)}).") from error
    order = {"seed": FIRST_SEED} | dict(order)
    lines = {number: line.strip() for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    if not lines:
        raise LLMDiffError(f"The file {path} has no prompts: write one a line.")
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    return {number: _request(f"Line {number} of {path}", line, is_json, order) for number, line in lines.items()}


def _request(where: str, line: str, is_json: bool, order: dict[str, Any]) -> GenerationRequest:
    settings = _settings(where, line) if is_json else {"prompt": line}
    prompt = settings.pop("prompt")
    try:
        return GenerationRequest.model_validate(order | settings | {"prompts": [prompt]})
    except LLMDiffError as error:
        raise LLMDiffError(f"{where}: {error}") from error


def _settings(where: str, line: str) -> dict[str, Any]:
    content = parse_json(line, where)
    if not isinstance(content, dict) or not isinstance(content.get("prompt"), str):
        raise LLMDiffError(f'{where} is not of the form {{"prompt": "a red cup", "seed": 7}}.')
    if unknown := sorted(content.keys() - set(KEYS)):
        raise LLMDiffError(f"{where} has the key {unknown[0]!r}: there are {', '.join(KEYS)}.")
    return {key: value for key, value in content.items() if value is not None}
