"""The load on a server, a shorter one on tiny models: one process, batches, and replicas of which one is killed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from serve_load import Report
from tiny_base import Places

PROGRAM = Path(__file__).parents[2] / "recipes" / "serve_load.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--batch-size", "4"], ["--ray", "2", "--kill"]], ids=["one process", "batches", "replicas"]
)
def test_every_good_request_gets_its_own_right_picture(places: Places, options: list[str]) -> None:
    models = ["--base", str(places.base), "--adapter", str(places.adapter), "--side", "16", "--requests", "200"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *models, *options], stdout=subprocess.PIPE, text=True, timeout=590
    )
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0
    assert report["answers"].get("equal", 0) + report["answers"].get("close", 0) == 170
    assert sum(report["errors"].values()) == 10
    assert report["cancelled"] > 0
    assert report["replica_killed"] is ("--kill" in options)


def test_what_is_wrong_is_a_problem() -> None:
    good = Report(answers=Counter(equal=5), errors=Counter({400: 2, 413: 1}), megabytes=[100, 100, 101, 103])
    assert good.problems(exact=True) == []
    assert Report(answers=Counter(close=1), megabytes=[1, 1]).problems(exact=False) == []
    for bad in (
        Report(answers=Counter(close=1), megabytes=[1, 1]),
        Report(answers=Counter(wrong=1), megabytes=[1, 1]),
        Report(answers=Counter(lost=1), megabytes=[1, 1]),
        Report(errors=Counter({500: 1}), megabytes=[1, 1]),
        Report(megabytes=[100, 120]),
    ):
        assert len(bad.problems(exact=True)) == 1
