"""The first problem that pydantic finds, in a sentence of ours."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmdiff.validation_errors import first_problem


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_even(self) -> "Inner":
        if self.steps % 2:
            raise ValueError("Steps come in pairs.")
        return self


class Outer(BaseModel):
    loop: list[Inner]


def problem(values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return first_problem(caught.value)


def test_each_kind_of_problem_is_named_with_its_place() -> None:
    assert problem({"loop": [{"steps": 2, "step": 3}]}) == "there is no key 'loop.0.step'"
    assert problem({"loop": [{}]}) == "the key 'loop.0.steps' is missing"
    assert problem({"loop": [{"steps": 0}]}) == "loop.0.steps: input should be greater than or equal to 1, got 0"
    assert problem({"loop": [{"steps": 3}]}) == "loop.0: steps come in pairs, got {'steps': 3}"
    assert problem(7).startswith("input should be")


@given(st.one_of(st.text(min_size=80), st.lists(st.integers(), min_size=40)))
def test_a_value_however_long_is_shown_in_part(value: Any) -> None:
    found = problem({"loop": [{"steps": value}]})
    assert found.startswith("loop.0.steps: ")
    assert len(found) < 200
    assert "\n" not in found
