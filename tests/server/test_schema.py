"""Requests made of the server's own OpenAPI document: no answer is 5xx, and all are as the document says."""

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from llmdiff.generation import Renderer
from server.running import Running, config_for, running
from tiny_base import Places


@pytest.fixture(scope="module")
def modest(renderer: Renderer, places: Places) -> Iterator[Running]:
    """A server that draws no more than a moment."""
    with running(renderer, config_for(places, steps=1, max_steps=2, max_n=2)) as one:
        yield one


@pytest.mark.parametrize(
    "mode", [pytest.param(GenerationMode.POSITIVE, marks=pytest.mark.slow), GenerationMode.NEGATIVE]
)
def test_no_request_is_answered_with_a_fault_of_the_server(modest: Running, mode: GenerationMode) -> None:
    api = schemathesis.openapi.from_url(f"{modest.address}/openapi.json")
    # What is valid by the document may be refused still: a size that is no multiple of 8, say.
    excluded = [CHECKS.get_one("positive_data_acceptance")]
    statuses: Counter[int] = Counter()
    for operation in (found.ok() for found in api.get_all_operations()):
        if mode is GenerationMode.NEGATIVE and operation.method != "post":
            continue

        @settings(
            max_examples=40 if mode is GenerationMode.POSITIVE else 12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            statuses[case.call_and_validate(excluded_checks=excluded).status_code] += 1

        check()
    assert statuses[200 if mode is GenerationMode.POSITIVE else 400] > 5
