"""Pictures read prefetcher by worker processes: the same bits, the same sentences, and ends that are told."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from llmdiff.data import Captioned, FolderData, Prefetcher, captioned, explained_worker_deaths
from llmdiff.data.errors import Kind, PictureError
from llmdiff.errors import LLMDiffError

STEPS = [[0, 3], [2, 1], [3, 0], [1, 3], [0, 4], [2, 3], [1, 0], [3, 2], [0, 1]]


@pytest.fixture
def data(tmp_path: Path) -> Captioned:
    """Four pictures, and a fifth that is damaged."""
    for n in range(5):
        noise = torch.randint(256, (40, 30 + n, 3), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(tmp_path / f"{n}.png")
        (tmp_path / f"{n}.txt").write_text(f"picture {n}")
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(whole[: len(whole) // 2])
    return captioned(FolderData(kind="folder", path=tmp_path), 16)


def complaint(data: Captioned | Prefetcher, index: int) -> str:
    with pytest.raises(LLMDiffError) as caught:
        data.pixels(index)
    return str(caught.value)


def assert_at(prefetcher: Prefetcher, data: Captioned, step: int) -> None:
    prefetcher.go_to(step)
    for picture in STEPS[step]:
        assert torch.equal(prefetcher.pixels(picture), data.pixels(picture))


def test_steps_come_as_they_are_read_and_bad_pictures_and_killed_workers_are_told(data: Captioned) -> None:
    """From where a run is resumed, twice where memory did not suffice, and whatever Ctrl-C says to its workers."""
    state, interrupted = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    prefetcher = Prefetcher(data, STEPS.__getitem__, len(STEPS), workers=2)
    others = set(multiprocessing.active_children())
    assert_at(prefetcher, data, 1)
    workers = set(multiprocessing.active_children()) - others
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
    for step in (1, 2, 3):
        assert_at(prefetcher, data, step)
    assert len(workers) == 2
    assert set(multiprocessing.active_children()) - others == workers
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) is interrupted
    with pytest.raises(LLMDiffError) as caught:
        prefetcher.go_to(4)
    assert str(caught.value) == complaint(data, 4)
    assert "4.png cannot be read" in str(caught.value)
    assert_at(prefetcher, data, 5)
    worker = next(iter(workers))

    def go_on() -> None:
        with explained_worker_deaths():
            os.kill(worker.pid, signal.SIGKILL)
            time.sleep(1)  # torch tells it wherever the process is
            for step in (6, 7, 8):
                prefetcher.go_to(step)

    with pytest.raises(LLMDiffError) as caught:
        go_on()
    sentence = str(caught.value)
    assert f"DataLoader worker (pid {worker.pid}) is killed by signal: Killed" in sentence
    assert sentence.startswith("A process that read pictures has ended (")
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), explained_worker_deaths():
        raise RuntimeError("something else")


def test_the_error_about_a_picture_crosses_between_processes() -> None:
    again = pickle.loads(pickle.dumps(PictureError(Kind.EMPTY, "It is empty.")))
    assert (type(again), again.kind, str(again)) == (PictureError, Kind.EMPTY, "It is empty.")
