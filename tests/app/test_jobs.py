"""Jobs: one after the other, followed, stopped."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from llmdiff.app import jobs
from llmdiff.app.jobs import MOST_WAITING, Job, Worker, follow
from llmdiff.errors import LLMDiffError


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


class Slow:
    """Work that goes on, step by step, until it is let go or stopped."""

    def __init__(self) -> None:
        self.began, self.enough = threading.Event(), threading.Event()
        self.steps = 0

    def __call__(self, job: Job) -> str:
        self.began.set()
        while not self.enough.wait(0.005):
            self.steps += 1
            job.report("Drawing", min(1.0, self.steps / 1000))
        return "drawn"


def finish(job: Job) -> Job:
    end = time.monotonic() + 20
    while not job.is_done:
        assert time.monotonic() < end
        time.sleep(0.005)
    return job


def test_one_after_the_other_in_their_order(worker: Worker) -> None:
    first, done = Slow(), []
    job = worker.submit(first, "one")
    first.began.wait()
    others = [worker.submit(lambda job, n=n: done.append(n), f"other {n}") for n in range(3)]
    assert [worker.before(one) for one in (job, *others)] == [0, 1, 2, 3]
    assert done == []
    first.enough.set()
    assert finish(job).result == "drawn"
    for one in others:
        finish(one)
    assert done == [0, 1, 2]


def test_who_has_an_order_waits_for_it(worker: Worker) -> None:
    work = Slow()
    worker.submit(work, "me")
    with pytest.raises(LLMDiffError, match="not done yet"):
        worker.submit(work, "me")
    assert worker.stop("me")
    assert not worker.stop("somebody else")


def test_a_stop_ends_at_the_next_step_and_the_next_job_begins(worker: Worker) -> None:
    work = Slow()
    job = worker.submit(work, "me")
    other = worker.submit(lambda job: "next", "other")
    work.began.wait()
    worker.stop("me")
    assert isinstance(finish(job).error, CancelledError)
    steps = work.steps
    assert finish(other).result == "next"
    assert work.steps == steps


def test_what_waits_is_stopped_at_once(worker: Worker) -> None:
    first, second = Slow(), Slow()
    worker.submit(first, "one")
    first.began.wait()
    job = worker.submit(second, "two")
    worker.stop("two")
    assert job.is_done
    assert isinstance(job.error, CancelledError)
    assert not second.began.is_set()


def test_no_more_wait_than_may(worker: Worker) -> None:
    first = Slow()
    worker.submit(first, "one")
    first.began.wait()
    for number in range(MOST_WAITING):
        worker.submit(Slow(), f"waiting {number}")
    with pytest.raises(LLMDiffError, match="waiting already"):
        worker.submit(Slow(), "one too many")


def test_a_job_that_nobody_follows_ends(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE", 0.05)
    assert isinstance(finish(worker.submit(Slow(), "gone")).error, CancelledError)


def test_an_error_ends_the_job_and_not_the_worker(worker: Worker) -> None:
    def fail(job: Job) -> None:
        raise ValueError("no")

    assert isinstance(finish(worker.submit(fail, "me")).error, ValueError)
    assert finish(worker.submit(lambda job: 1, "me")).result == 1


def test_following_tells_of_every_change_until_the_end(worker: Worker) -> None:
    def work(job: Job) -> str:
        for number in range(3):
            job.part = number
            job.report("Drawing", number / 3)
            time.sleep(0.4)
        return "drawn"

    async def watch() -> list[object]:
        return [part async for _, _, _, part in follow(worker, worker.submit(work, "me"))]

    assert asyncio.run(watch())[-1] == 2


def test_who_stops_following_stops_the_job(worker: Worker) -> None:
    work = Slow()
    job = worker.submit(work, "me")

    async def look_once() -> None:
        looking = follow(worker, job)
        await anext(looking)
        await looking.aclose()

    asyncio.run(look_once())
    assert isinstance(finish(job).error, CancelledError)


def test_many_orders_at_once_all_get_their_own(worker: Worker) -> None:
    async def order(number: int) -> int:
        job = worker.submit(lambda job: number, f"visitor {number}")
        async for _ in follow(worker, job):
            pass
        return int(job.result)

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(order(number) for number in range(30)))

    assert asyncio.run(all_at_once()) == list(range(30))
