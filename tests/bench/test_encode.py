"""The benchmark of reading prompts, on a tiny LLM: it gives every figure of every extraction."""

import pytest

from llmdiff.bench.encode import PLAIN, VARIANTS, bench_encode
from tiny_base import Places


def test_extractions_are_measured_beside_a_plain_forward_pass(places: Places) -> None:
    rows = bench_encode(str(places.llm), prompts=2, tokens=6, rounds=2, memory=False)
    assert [row.time.variant for row in rows] == [PLAIN, *VARIANTS]
    by_name = {row.time.variant: row for row in rows}
    assert by_name[PLAIN].time.ratio == 1
    plain = by_name[PLAIN].launches
    assert by_name["layer:1"].launches < plain <= by_name["last"].launches < by_name["llmdiff"].launches
    assert all(row.peak_memory is None for row in rows)


@pytest.mark.slow
def test_memory_is_measured_of_the_embedded_llm() -> None:
    rows = bench_encode("embedded", prompts=1, tokens=20, rounds=1)
    assert all(row.peak_memory is not None and row.peak_memory > 10**8 for row in rows)
    assert rows[0].memory_ratio == 1
