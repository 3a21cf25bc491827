"""The benchmark of pictures, on tiny models."""

from llmdiff.bench.generate import ALONE, bench_generate
from llmdiff.generation import Models
from tiny_base import Places


def test_pictures_are_measured_with_and_without_an_adapter_and_in_batches(places: Places) -> None:
    models = Models(base=str(places.base), adapter=str(places.adapter))
    rows = bench_generate(models, [2], steps=1, rounds=1, device="cpu")
    assert [(row.time.variant, row.batch_size) for row in rows] == [
        (ALONE, 1),
        ("with the adapter", 1),
        (f"{ALONE}, 2 in a call", 2),
        ("with the adapter, 2 in a call", 2),
    ]
    assert rows[0].time.ratio == 1
    for row in rows:
        assert abs(row.pictures_per_s * row.time.seconds / row.batch_size - 1) < 0.05


def test_without_an_adapter_the_base_is_measured(places: Places) -> None:
    rows = bench_generate(Models(base=str(places.base)), [1], steps=1, rounds=1, device="cpu")
    assert [row.time.variant for row in rows] == [ALONE]
