"""Work that is done one piece after the other, whoever asks: it can be waited for, followed and stopped at any step."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.progress import Progress

MOST_WAITING = 32
"""Jobs that may wait at once; more are refused."""
_PATIENCE = 30.0  # seconds after which a job that nobody follows is stopped
_INTERVAL = 0.15  # seconds between two looks at a job

Work = Callable[["Job"], Any]
"""What is to be done: called with its job, of which it calls `Job.report` at every step."""


class Job:
    """One piece of work and how far it is.

    Attributes:
        owner: who has asked for it.
        stage: what is being done.
        share: the finished share of it, 0 … 1.
        part: what is there so far, if the work says.
        result: what it has given, once it is done.
        error: why it has failed; `CancelledError` of one that was stopped.
    """

    def __init__(self, work: Work, owner: str) -> None:
        self.owner = owner
        self.stage, self.share = "", 0.0
        self.part: Any = None
        self.result: Any = None
        self.error: Exception | None = None
        self._work = work
        self._stop = threading.Event()
        self._done = threading.Event()
        self._seen = time.monotonic()

    @property
    def is_done(self) -> bool:
        """True once it has a result, has failed or was stopped."""
        return self._done.is_set()

    def stop(self) -> None:
        """Has it end at its next step, or never begin."""
        self._stop.set()

    def report(self, stage: str, share: float) -> None:
        """Notes how far the work is; a `llmdiff.progress.Progress`.

        Raises:
            CancelledError: it is to end.
        """
        if self._stop.is_set() or time.monotonic() > self._seen + _PATIENCE:
            raise CancelledError
        self.stage, self.share = stage, share

    def run(self) -> None:
        """Does the work, in the thread of the worker."""
        try:
            self.report(self.stage, 0.0)
            self.result = self._work(self)
        except Exception as error:  # whoever follows it is told
            self.error = error
        finally:
            self._done.set()

    def see(self) -> None:
        """Notes that somebody follows it."""
        self._seen = time.monotonic()


class Worker:
    """A thread that does one job after the other, in the order in which they came.

    Example:
        >>> worker = Worker()
        >>> job = worker.submit(lambda job: 6 * 7, owner="me")
        >>> while not job.is_done:
        ...     time.sleep(0.01)
        >>> job.result
        42
        >>> worker.close()
    """

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="llmdiff-worker", daemon=True)
        self._thread.start()

    def submit(self, work: Work, owner: str) -> Job:
        """Has some work done after all that waits.

        Raises:
            LLMDiffError: there is an unfinished job of the same owner, or too many wait.
        """
        job = Job(work, owner)
        with self._change:
            if any(other.owner == owner for other in self._unfinished()):
                raise LLMDiffError("Your last order is not done yet: wait for it, or stop it.")
            if len(self._waiting) >= MOST_WAITING:
                raise LLMDiffError(f"{MOST_WAITING} orders are waiting already: try again in a while.")
            self._waiting.append(job)
            self._change.notify()
        return job

    def before(self, job: Job) -> int:
        """How many jobs are to be done before one that waits; 0 of one that is at work or done."""
        with self._change:
            return self._waiting.index(job) + (self._current is not None) if job in self._waiting else 0

    def stop(self, owner: str) -> bool:
        """Stops the job of an owner; False if there is none."""
        with self._change:
            mine = [job for job in self._unfinished() if job.owner == owner]
            for job in mine:
                job.stop()
                if job in self._waiting:
                    self._waiting.remove(job)
                    job.run()  # which ends at once
        return bool(mine)

    def close(self) -> None:
        """Stops everything, and waits until the thread has ended."""
        with self._change:
            self._closed = True
            for job in self._unfinished():
                job.stop()
            self._change.notify()
        self._thread.join()

    def _unfinished(self) -> list[Job]:
        return [*([self._current] if self._current else []), *self._waiting]

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._change:
                self._current = None

    def _next(self) -> Job | None:
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current


async def follow(worker: Worker, job: Job) -> AsyncIterator[tuple[int, str, float, Any]]:
    """How far a job is, whenever that changes, until it is done; who stops following stops the job.

    Yields:
        How many jobs are before it, what is being done, the finished share, and what is there so far.
    """
    last: tuple[int, str, float, int] | None = None
    try:
        while not job.is_done:
            job.see()
            now = worker.before(job), job.stage, job.share, id(job.part)
            if now != last:
                last = now
                yield (*now[:3], job.part)
            await asyncio.sleep(_INTERVAL)
    finally:
        job.stop()


def steps_of(job: Job, stage: str, first: float = 0.0, last: float = 1.0) -> Callable[[float], None]:
    """The progress of a picture as a part of a job's, which `Renderer.draw` calls after each step."""
    return lambda share: job.report(stage, first + (last - first) * share)


def part_of(job: Job, first: float, last: float) -> Progress:
    """The progress of some work as a part of a job's."""
    return lambda stage, share: job.report(stage, first + (last - first) * share)
