"""JSON and YAML of unknown origin, read within bounds: recipes, records in PNGs, adapters' settings, lists of pictures.

What a text means must not depend on who reads it, and what it costs must not exceed what it is worth: size, depth,
YAML's aliases and the length of numbers are bounded; a key that stands twice, a number that is not finite and half
of a character (a lone surrogate, which no file takes) are refused.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not

LARGEST_JSON = 4_000_000
"""Characters of a JSON text at most."""
LARGEST_YAML = 100_000
"""Characters of a YAML text at most; PyYAML takes seconds for as many."""

_DEEPEST = 100
_MOST_NODES = 200_000  # of a YAML text, each alias counted as what it stands for
_LARGEST_NUMBER = 2**64
_LONGEST_REASON = 200
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
_FAULTS = (
    yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""The errors of `json` and of PyYAML, whose constructors of numbers and dates trust what they are given."""


def parse_json(text: str, what: str, remedy: str = "mend it", *, finite: bool = True, most: int = LARGEST_JSON) -> Any:
    """The content of a JSON text.

    Args:
        text: of any origin.
        what: its name at the beginning of the sentence that refuses it.
        remedy: the end of that sentence.
        finite: refuse NaN and Infinity; else they are read as floats, for lists of which only the texts are used.
        most: characters of the text.

    Raises:
        LLMDiffError: The text is not JSON, or exceeds a bound.

    Example:
        >>> parse_json('{"a": 1, "a": 2}', "The file x.json")
        Traceback (most recent call last):
        llmdiff.errors.LLMDiffError: The file x.json is not usable JSON (the key 'a' stands twice); mend it.
    """
    try:
        _check_size(text, most)
        content = json.loads(text, object_pairs_hook=_object)
        _check_values(content, finite)
    except _FAULTS as error:
        raise LLMDiffError(f"{what} is not usable JSON ({_reason(error)}); {remedy}.") from error
    return content


def read_json(file: Path, most: int = LARGEST_JSON) -> dict[str, Any]:
    """The JSON object in a file of a model, of `most` characters at most.

    Raises:
        LLMDiffError: There is no such file, or something else in it.
    """
    try:
        text = read_text(open_regular(file), most)
    except FileNotFoundError as error:
        raise LLMDiffError(f"There is no file {str(file)!r}: fetch the model again.") from error
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The file {str(file)!r} cannot be read ({why_not(error)}): fetch it again.") from error
    content = parse_json(text, f"The file {str(file)!r}", "fetch it again", finite=False, most=most)
    if not isinstance(content, dict):
        raise LLMDiffError(f"The file {str(file)!r} holds no JSON object, so it is damaged: fetch it again.")
    return content


def parse_yaml(text: str, what: str, remedy: str = "mend it") -> Any:
    """The content of a YAML text of plain values, as `yaml.safe_load` has it; arguments as for `parse_json`.

    Raises:
        LLMDiffError: The text is not YAML, or exceeds a bound.

    Example:
        >>> parse_yaml("loop: {steps: 5}", "The recipe x.yaml")
        {'loop': {'steps': 5}}
    """
    try:
        _check_size(text, LARGEST_YAML)
        content = _constructed(text)
        _check_values(content, finite=True)
    except _FAULTS as error:
        raise LLMDiffError(f"{what} is not usable YAML ({_reason(error)}); {remedy}.") from error
    return content


def _check_size(text: str, most: int) -> None:
    if len(text) > most:
        raise ValueError(f"it has {len(text):,} characters, more than {most:,}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(_twice(Counter(key for key, _ in pairs).most_common(1)[0][0]))
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's, which goes no deeper than a text may."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        _check_depth(self._depth)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _constructed(text: str) -> Any:
    """The values of a YAML text, whose nodes are counted before one of them is copied."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    count, waiting = 0, [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > _MOST_NODES:
            raise ValueError(f"with its aliases spelled out it has more than {_MOST_NODES:,} values")
        _check_depth(depth)
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        waiting += [(inner, depth + 1) for inner in _inner_nodes(node)]


def _inner_nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from part if isinstance(part, tuple) else (part,)


def _check_keys(node: yaml.MappingNode) -> None:
    keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(keys)) < len(keys):
        raise ValueError(_twice(Counter(keys).most_common(1)[0][0][1]))


def _check_values(value: Any, finite: bool, depth: int = 1) -> None:
    _check_depth(depth)
    if isinstance(value, str):
        if _HALF_CHARACTERS.search(value):
            raise ValueError("a text in it has half of a character, a lone surrogate")
    elif isinstance(value, int | float):
        _check_number(value, finite)
    elif isinstance(value, dict | list | tuple | set):
        for inner in value:
            _check_values(inner, finite, depth + 1)
        for inner in value.values() if isinstance(value, dict) else ():
            _check_values(inner, finite, depth + 1)


def _check_number(value: int | float, finite: bool) -> None:
    if isinstance(value, float):
        if finite and not math.isfinite(value):
            raise ValueError(f"the number {value} is not finite")
    elif abs(value) > _LARGEST_NUMBER:
        raise ValueError("a whole number in it has more than 64 bits")


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise RecursionError


def _twice(key: object) -> str:
    return f"the key {str(key)[:60]!r} stands twice"


def _reason(error: Exception) -> str:
    """On one line, in characters that any terminal and file takes."""
    if isinstance(error, RecursionError):
        return f"it is nested more than {_DEEPEST} levels deep"
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if "integer string conversion" in words:  # Python's own bound, in words for programmers
        words = "a whole number in it has more than 64 bits"
    if type(error) in (KeyError, IndexError, TypeError, AttributeError):
        words = "a value in it is not of the kind that its tag says"
    return words[:_LONGEST_REASON].encode(errors="backslashreplace").decode()
