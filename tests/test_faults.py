"""The table of faults: tries and failures are counted by kind, examples of property tests one by one."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest
from hypothesis import given, settings, strategies as st

@pytest.mark.fault("bytes")
@pytest.mark.parametrize("n", range(4))
def test_one(n):
    assert n != 2

@pytest.mark.fault("texts")
@settings(max_examples=30, database=None)
@given(st.integers())
def test_examples(n):
    pass

@pytest.mark.fault("texts")
def test_skipped():
    pytest.skip("not here")

@pytest.fixture
def broken():
    raise OSError

@pytest.mark.fault("setups")
def test_never_run(broken):
    pass

def test_of_no_fault():
    assert False
"""


def test_tries_and_failures_are_counted(pytester: pytest.Pytester) -> None:
    document = pytester.path / "faults.md"
    document.write_text("# Faults\n\n| kind | tries |\n| --- |\n| old | 3 |\n\nThe end.\n")
    pytester.makeconftest(
        (Path(__file__).parent / "faults.py").read_text()
        + """
def pytest_configure(config):
    config.addinivalue_line("markers", "fault(kind): tried")
    config.pluginmanager.register(FaultTable(Path("faults.md")))
"""
    )
    pytester.makepyfile(TESTS)
    pytester.runpytest_inprocess("-p", "no:cacheprovider")
    head, table, end = document.read_text().split("\n\n")
    assert (head, end) == ("# Faults", "The end.\n")
    assert table.splitlines()[2:] == [
        "| bytes | 4 | 1 |",
        "| setups | 1 | 1 |",
        "| texts | 30 | 0 |",
        "| all | 35 | 2 |",
    ]
