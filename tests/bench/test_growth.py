"""How costs grow: every size is measured, and exponents are those of the figures."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdiff.bench import growth
from llmdiff.bench.growth import AXES, BLOCKS, GrowthFigures, bench_growth, exponents, plot
from llmdiff.bench.measure import Figures
from llmdiff.errors import LLMDiffError
from llmdiff.generation import Models
from tiny_base import Places


def row(axis: str, size: int, seconds: float, memory: int) -> GrowthFigures:
    return GrowthFigures(axis, size, Figures(str(size), seconds, 1, 1, 1), memory)


@given(st.floats(0, 3), st.floats(0, 3), st.floats(1e-3, 1e3))
def test_exponents_are_those_of_powers(time: float, memory: float, factor: float) -> None:
    rows = [row("steps", n, factor * n**time, round(10**6 * n**memory)) for n in (1, 2, 4, 8)]
    (found,) = exponents([*rows])
    assert math.isclose(found.time, time, abs_tol=0.01)
    assert math.isclose(found.memory, memory, abs_tol=0.01)


def test_every_axis_has_an_exponent_of_its_own() -> None:
    rows = [row("steps", n, n, 5) for n in (1, 2)] + [row("tokens", n, n**2, n) for n in (1, 2)]
    assert [(one.axis, one.time, one.memory) for one in exponents(rows)] == [("steps", 1, 0), ("tokens", 2, 1)]


def test_every_size_of_every_axis_is_measured(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("prompts", "tokens", "blocks", "side", "steps", "pictures")
    sizes = dict.fromkeys(names, (1, 3)) | {"tokens": (2, 6), "side": (16, 32)}
    assert sizes.keys() == AXES.keys()
    monkeypatch.setattr(growth, "AXES", sizes)
    monkeypatch.setattr(growth, "_STEPS", 1)
    rows = bench_growth(list(sizes), 1, Models(base=str(places.base), adapter=str(places.adapter)))
    assert [(one.axis, one.size) for one in rows] == [(axis, size) for axis, both in sizes.items() for size in both]
    assert all(one.memory > 0 for one in rows)
    larger = {one.axis: one.memory for one in rows}
    assert all(
        larger[one.axis] > one.memory
        for one in rows
        if one.size == sizes[one.axis][0] and one.axis in ("prompts", "tokens", "side", "pictures")
    )


def test_without_an_adapter_nothing_is_read(places: Places) -> None:
    with pytest.raises(LLMDiffError, match="Without an adapter"):
        bench_growth([BLOCKS], 1, Models(base=str(places.base)))


@pytest.mark.parametrize("name", ["growth.svg", "growth.png"])
def test_growth_is_drawn(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [row(axis, n, n, 10 * n) for axis in ("steps", "tokens", "side", "blocks") for n in (1, 2, 4)]
    plot(rows, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == [name]
