"""Settings that people write: in a recipe, in a file of prompts, in a request, in the configuration of an adapter."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

_NO_NUMBER = PydanticCustomError("truth_for_number", "true and false are no numbers")


class Settings(BaseModel):
    """A pydantic model in which true and false are no numbers; pydantic by itself makes 1 and 0 of them.

    Example:
        >>> class Loop(Settings):
        ...     steps: int = 100
        >>> try:
        ...     Loop(steps=True)
        ... except ValidationError as error:
        ...     print(error.errors()[0]["msg"])
        true and false are no numbers
    """

    @model_validator(mode="before")
    @classmethod
    def _has_no_truth_for_numbers(cls, given: Any) -> Any:
        wrong = [
            InitErrorDetails(type=_NO_NUMBER, loc=(name,), input=given[name])
            for name, field in cls.model_fields.items()
            if isinstance(given, Mapping) and name in given and _is_truth_for_number(given[name], field.annotation)
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return given


def _is_truth_for_number(value: Any, annotation: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    if not any(isinstance(one, bool) for one in parts):
        return False
    types = list(_types(annotation))
    return _among(types, int, float) and not _among(types, bool, Any)


def _types(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _types(part)


def _among(types: Sequence[Any], *wanted: Any) -> bool:
    return any(one is other for one in types for other in wanted)
