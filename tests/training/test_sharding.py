"""An LLM whose weights are divided among processes reads as a whole one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmdiff.errors import LLMDiffError
from llmdiff.training import builders, run
from llmdiff.training.sharding import in_main_process, is_sharded, is_sharding_asked_for
from tiny_base import Places
from tiny_llm import build_llama
from training import sharded
from training.test_run import write_recipe


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_hold_half_of_the_weights_each_and_read_the_same_bits() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, sharded.__file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    main, other = json.loads(done.stdout)
    assert main == {"sharded": True, "before": 0.5, "after": 0.5, "same": [True, True]}
    assert other == {"sharded": True, "before": 0.5, "after": 0.5, "same": []}


@pytest.mark.parametrize("is_main", [True, False])
def test_a_whole_llm_is_read_in_the_main_process_alone(is_main: bool) -> None:
    llm, done = build_llama(), []
    in_main_process(llm, SimpleNamespace(is_main_process=is_main), lambda: done.append(1))
    assert done == [1] * is_main
    assert not is_sharded(llm)


def test_it_is_asked_for_by_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    several, one = SimpleNamespace(num_processes=2), SimpleNamespace(num_processes=1)
    assert not is_sharding_asked_for(several)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert is_sharding_asked_for(several)
    assert not is_sharding_asked_for(one)


def test_an_llm_in_parts_is_not_asked_in_every_step(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders, "is_sharding_asked_for", lambda _: True)
    with pytest.raises(LLMDiffError, match=r"cannot be asked in every step: set cache\.terms to all or grouped"):
        run.train(write_recipe(tmp_path, places, cache={"terms": "none"}))
