"""The benchmark of reading prompts, on a tiny LLM: it gives every figure of every extraction."""

import pytest

from llmdiff.bench.encode import PLAIN, VARIANTS, bench_encode
from tiny_base import Places


def test_extractions_are_measured_beside_a_plain_forward_pass(places: Places) -> None:
    rows = bench_encode(str(places.llm), prompts=2, tokens=6, rounds=2)
    assert [row.time.variant for row in rows] == [PLAIN, *VARIANTS]
    by_name = {row.time.variant: row for row in rows}
    assert by_name[PLAIN].time.ratio == 1
    plain = by_name[PLAIN].launches
    assert by_name["layer:1"].launches < plain <= by_name["last"].launches < by_name["llmdiff"].launches
    assert by_name[PLAIN].memory_ratio == by_name[PLAIN].call_memory_ratio == 1
    assert by_name[PLAIN].call_memory < by_name["llmdiff"].call_memory < by_name["llmdiff"].memory
    assert len({row.memory - row.call_memory for row in rows}) == 1  # the LLM's weights


@pytest.mark.slow
def test_reading_takes_little_more_memory_than_a_forward_pass() -> None:
    for prompts, tokens in ((1, 20), (8, 20), (3, 200)):
        rows = {row.time.variant: row for row in bench_encode("embedded", prompts, tokens, rounds=1)}
        assert rows["llmdiff"].memory > 5 * 10**8
        assert rows["llmdiff"].memory_ratio < 1.05
        assert rows["last"].memory_ratio < 1.01
