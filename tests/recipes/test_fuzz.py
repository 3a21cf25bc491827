"""A small part of the fuzz run, and that the run would tell what it looks for."""

import os
import time
from pathlib import Path

import pytest

import fuzz
from fuzzing.mutations import with_valid_checksums, with_valid_headers
from fuzzing.targets import TARGETS, Target
from llmdiff.errors import LLMDiffError

SHARE = float(os.environ.get("LLMDIFF_FUZZ", "0.004"))
"""Of a whole run, which this number makes as long as is wished for; LLMDIFF_FUZZ_SEED makes another one."""
SEED = int(os.environ.get("LLMDIFF_FUZZ_SEED", "0"))


@pytest.fixture(autouse=True)
def _no_limit_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is that of the process, in which other tests have run."""
    monkeypatch.setattr(fuzz, "LARGEST", 10**9)


@pytest.mark.fault("damaged files")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    originals = target.originals()
    verdicts = set()
    for number in range(max(20, round(target.count * SHARE))):
        one = fuzz.tried(target, target.damaged(originals, SEED, number))
        assert one.verdict in ("read", "refused"), f"{name} {SEED} {number}: {one.detail}"
        verdicts.add(one.verdict)
        assert one.seconds < fuzz.LONGEST
    assert "refused" in verdicts


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_whole_is_read(name: str) -> None:
    """Or refused for its content: a tiny recipe has unknown keys."""
    target = TARGETS[name]
    found = [fuzz.tried(target, content).verdict for content in target.originals()]
    assert "read" in found
    assert set(found) <= {"read", "refused"}


def test_damage_is_a_function_of_seed_and_number() -> None:
    for target in TARGETS.values():
        originals = target.originals()
        made = [target.damaged(originals, seed, number) for seed in (0, 1) for number in range(40)]
        assert made == [target.damaged(originals, seed, number) for seed in (0, 1) for number in range(40)]
        assert len(set(made)) > 70


def test_checksums_are_made_right_again() -> None:
    png, tar = TARGETS["pictures"].originals()[0], TARGETS["tar shards"].originals()[0]
    assert with_valid_checksums(png) == png
    assert with_valid_headers(tar) == tar
    broken = bytearray(png)
    broken[18] ^= 1  # of the width
    assert with_valid_checksums(bytes(broken))[:29] == bytes(broken)[:29]
    assert with_valid_checksums(bytes(broken)) != bytes(broken)


def test_a_traceback_and_a_hang_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes, _: Path) -> None:
        if content == b"refused":
            raise LLMDiffError("It is refused.")
        if content == b"slow":
            time.sleep(0.05)
        if content == b"bad":
            raise KeyError(1)

    target = Target(1, lambda: [b""], read)
    assert [fuzz.tried(target, content).verdict for content in (b"", b"refused", b"bad")] == [
        "read", "refused", "traceback",
    ]  # fmt: skip
    assert "KeyError" in fuzz.tried(target, b"bad").detail
    monkeypatch.setattr(fuzz, "LONGEST", 0.01)
    assert fuzz.tried(target, b"slow").verdict == "hang"
    monkeypatch.setattr(fuzz, "LARGEST", 1)
    assert fuzz.tried(target, b"").verdict == "too large"


def hangs(content: bytes, _: Path) -> None:
    time.sleep(60)


def ends(content: bytes, _: Path) -> None:
    os._exit(3)


@pytest.mark.parametrize(("read", "verdict"), [(hangs, "hang"), (ends, "crash")])
def test_a_process_that_hangs_or_ends_is_followed_by_another(monkeypatch, tmp_path, read, verdict) -> None:
    """The process that reads is forked here, so that it has the reader of the test."""
    monkeypatch.setitem(TARGETS, "x", Target(2, lambda: [b"abc"], read))
    monkeypatch.setattr(fuzz, "LONGEST", 0.2)
    monkeypatch.setattr(fuzz, "_START", 0.5)
    context = fuzz.multiprocessing.get_context("fork")
    monkeypatch.setattr(fuzz.multiprocessing, "get_context", lambda _: context)
    outcome = fuzz.run("x", 0, 2, tmp_path / "kept")
    assert (outcome.tries, outcome.failed) == (2, 2)
    assert (tmp_path / "kept" / "x 0 1.txt").read_text().startswith(verdict)
