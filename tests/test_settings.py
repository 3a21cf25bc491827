"""Settings that people write: whatever has numbers takes no truth value for one."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import llmdiff
from llmdiff.errors import LLMDiffError
from llmdiff.settings import Settings

OWN_FILES = {
    "Ballot", "Document", "ErrorBody", "ErrorDetail", "Health", "ImageData", "ImagesResponse", "ModelCard", "ModelList",
    "Pair", "Provenance", "Record", "Rewriting", "Shown", "State", "Study", "Trial", "Usage", "_Answers", "_Seen",
    "_Tokens", "_Cast",
}  # fmt: skip
"""Models of what llmdiff writes itself."""


def of(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from of(one)


def load_all() -> None:
    for module in pkgutil.walk_packages(llmdiff.__path__, "llmdiff."):
        if not module.name.startswith(("llmdiff.comfyui", "llmdiff.__main__")):
            importlib.import_module(module.name)


load_all()
OURS = [one for one in of(BaseModel) if one.__module__.startswith("llmdiff.")]


def types_of(schema: dict[str, Any]) -> set[str]:
    """The JSON types that a field takes, those of its items too."""
    parts = [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    parts += [schema["items"]] if isinstance(schema.get("items"), dict) else []
    return {str(schema.get("type"))}.union(*map(types_of, parts))


FIELDS = [
    (kind, name)
    for kind in OURS
    if issubclass(kind, Settings)
    for name, schema in kind.model_json_schema()["properties"].items()
    if types_of(schema) & {"integer", "number"} and "boolean" not in types_of(schema)
]


def test_what_people_write_are_settings() -> None:
    assert {one.__name__ for one in OURS if not issubclass(one, Settings)} <= OWN_FILES


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
@pytest.mark.parametrize("value", [True, False, [1, True]], ids=repr)
def test_a_truth_value_is_no_number(kind: Any, name: str, value: Any) -> None:
    with pytest.raises((ValidationError, LLMDiffError), match="true and false are no numbers"):
        kind.model_validate({name: value})


def test_there_are_such_settings() -> None:
    assert {"LoopSettings", "PictureSettings", "ImageRequest", "WorldData", "AdapterConfig", "StudyConfig"} <= {
        kind.__name__ for kind, _ in FIELDS
    }
