"""A load on `llmdiff serve`: many clients at once, some of which leave or err: `python recipes/serve_load.py --help`.

Every picture that a client waits for is compared with the one that `llmdiff generate` draws of the same prompt, seed
and settings. With `--ray N --kill` the server has N replicas, one of which is killed on the way. The exit status is 1
if a picture is lost or wrong, an error is not told as one, or memory grows.
"""

import base64
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import openai
import psutil
import typer

from llmdiff.generation.png import read_picture

_PATIENCE = {"RAY_raylet_start_wait_time_s": "300"}
PATH = "/images/generations"
_START = 900.0  # seconds; replicas of Ray on a busy machine take minutes
_GROWTH = 0.05  # of memory, from a quarter of the requests to all of them
_CLOSE = 4  # levels of 255: weights drawn by chance, as in the tests, make more of a last bit than trained ones
_WORDS = (("a", "two", "three"), ("red", "blue", "green", "yellow"), ("ball", "box", "house", "tree", "boat", "cup"))
_MALFORMED: tuple[bytes, ...] = (
    b"", b"{", b"[]", b'{"prompt": 1}', b'{"prompt": ""}', b'{"prompt": "a", "n": 1000000}', b'{"prompt": "a", "n": 0}',
    b'{"prompt": "a", "size": "1x1"}', b'{"prompt": "a", "size": "99999x99999"}', b'{"prompt": "a", "base": "../x"}',
    b'{"prompt": "a", "image": "file:///etc/passwd"}', b'{"prompt": "a", "guidance_scale": NaN}', b"\xff" * 100,
    b'{"prompt": "a", "model": "http://169.254.169.254/"}', b'{"prompt": "a", "num_inference_steps": 100000}',
)  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """A request, as the command line's file of prompts and as the API take it."""

    prompt: str
    seed: int
    steps: int
    size: str
    negative: str
    num: int

    def body(self) -> dict[str, Any]:
        """In the words of the API."""
        names = {"negative_prompt": self.negative, "seed": self.seed, "num_inference_steps": self.steps}
        return {"prompt": self.prompt, "n": self.num, "size": self.size, "extra_body": names}


@dataclass
class Report:
    """What was seen.

    Attributes:
        answers: Good requests by what became of them: equal, close (at most four levels of 255 off, in batches), wrong,
            lost.
        retries: Requests that the client sent again, after a replica was killed or the queue was full.
        errors: Malformed requests by status.
        cancelled: Requests whose client left.
        megabytes: Of all processes of the server at a quarter, half, three quarters and all of the requests.
    """

    answers: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    cancelled: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    megabytes: list[int] = field(default_factory=list)
    replica_killed: bool = False
    faults: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON, with the latencies of good requests in seconds."""
        latencies = sorted(self.latencies)
        shares = {f"p{share}": round(latencies[len(latencies) * share // 100], 2) for share in (50, 95)}
        return vars(self) | {"latencies": shares}

    def problems(self, exact: bool) -> list[str]:
        """Why it is no success."""
        bad = [f"{count} {what}" for what, count in self.answers.items() if what in ("wrong", "lost")]
        if exact and self.answers["close"]:
            bad.append(f"{self.answers['close']} not equal to the last bit")
        bad += [f"{count} malformed with {status}" for status, count in self.errors.items() if not 400 <= status < 500]
        if not self.replica_killed and self.megabytes[-1] > self.megabytes[0] * (1 + _GROWTH):
            bad.append(f"memory grows: {self.megabytes} MB")
        return bad + self.faults


def main(
    requests: Annotated[int, typer.Option(min=4)] = 500,
    clients: Annotated[int, typer.Option(min=1)] = 20,
    cancelled: Annotated[float, typer.Option(min=0, max=1, help="Share of requests whose client leaves.")] = 0.1,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share of requests that are none.")] = 0.05,
    base: str = "embedded",
    adapter: str = "embedded",
    steps: Annotated[int, typer.Option(min=2)] = 6,
    side: Annotated[int, typer.Option(help="Of the pictures, in pixels.")] = 64,
    batch_size: int = 1,
    ray: Annotated[int, typer.Option(min=0, help="Replicas of Ray Serve; 0 is one process.")] = 0,
    kill: Annotated[bool, typer.Option("--kill", help="Kill a replica after a third of the requests.")] = False,
    seed: int = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the command line's pictures for a further run with the same options.")
    ] = None,
) -> None:
    """Put a load on a server of its own, and print a report as JSON."""
    rng = random.Random(seed)
    models = ["--base", base, "--adapter", adapter]
    asks = [_ask(rng, steps, side) for _ in range(requests)]
    kinds = _kinds(requests, cancelled, malformed, rng)
    with tempfile.TemporaryDirectory() as place:
        expected = draw_expected(asks, kinds, models, folder or Path(place))
        options = [*models, "--device", "cpu", "--batch-size", str(batch_size), "--timeout", "600"]
        if ray:
            options += ["--ray", "--replicas", str(ray), "--replica-gpus", "0"]
        with server(options) as (process, address):
            load = Load(address, process, asks, expected, kinds, kill)
            report = load.run(clients)
    problems = report.problems(exact=batch_size == 1)
    print(json.dumps(report.shown() | {"problems": problems}, indent=2))
    raise typer.Exit(bool(problems))


def draw_expected(asks: Sequence[Ask], kinds: Sequence[str], models: Sequence[str], folder: Path) -> list[list[bytes]]:
    """The files that the command line writes for good requests, by request."""
    file, out = folder / "prompts.jsonl", folder / "expected"
    folder.mkdir(parents=True, exist_ok=True)
    good = [ask for ask, kind in zip(asks, kinds, strict=True) if kind == "good"]
    file.write_text("".join(json.dumps(asdict(ask)) + "\n" for ask in good))
    command = [sys.executable, "-m", "llmdiff", "generate", "--prompts", str(file), "--out", str(out)]
    subprocess.run([*command, *models, "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
    by_line: dict[tuple[int, int], bytes] = {}
    for path in out.iterdir():
        match = re.fullmatch(r"(\d+)-.*-s(\d+)\.png", path.name)
        assert match is not None, path
        by_line[int(match[1]), int(match[2])] = path.read_bytes()
    lines = {ask: [by_line[line, ask.seed + n] for n in range(ask.num)] for line, ask in enumerate(good, 1)}
    return [lines.get(ask, []) for ask in asks]


@contextmanager
def server(options: Sequence[str]) -> Iterator[tuple[psutil.Process, str]]:
    """A server on a free port of loopback, and its address; it must end well when it is told to."""
    command = [sys.executable, "-m", "llmdiff", "serve", "--port", str(_free_port()), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | _PATIENCE)
    killer = threading.Timer(_START, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("Serving at ")), None)
        killer.cancel()
        if line is None:
            raise RuntimeError("The server did not start.")
        yield psutil.Process(process.pid), line.split()[-1] + "v1"
    finally:
        process.terminate()
        process.wait(120)


class Load:
    """What all clients do together."""

    def __init__(
        self,
        address: str,
        process: psutil.Process,
        asks: Sequence[Ask],
        expected: Sequence[Sequence[bytes]],
        kinds: Sequence[str],
        kill: bool,
    ) -> None:
        self.report = Report()
        self._client = openai.OpenAI(base_url=address, api_key="none", max_retries=8, timeout=600)
        self._http = httpx.Client(base_url=address, timeout=600)
        self._process, self._asks, self._expected, self._kill = process, asks, expected, kill
        self._kinds = kinds
        self._rng, self._lock, self._done = random.Random(0), threading.Lock(), 0

    def run(self, clients: int) -> Report:
        """Send everything and wait for it."""
        begun = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self._one, range(len(self._asks))))
        self.report.seconds = round(time.monotonic() - begun, 1)
        self._http.close()
        return self.report

    def _one(self, number: int) -> None:
        {"good": self._good, "cancelled": self._leave, "malformed": self._err}[self._kinds[number]](number)
        with self._lock:
            self._done += 1
            quarter, rest = divmod(4 * self._done, len(self._asks))
            if rest < 4 and quarter > len(self.report.megabytes):
                self.report.megabytes.append(_megabytes(self._process))
            if self._kill and self._done == len(self._asks) // 3:
                self.report.replica_killed = _kill_a_replica(self._process)

    def _good(self, number: int) -> None:
        begun = time.monotonic()
        try:
            raw = self._client.images.with_raw_response.generate(**self._asks[number].body())
            found = [base64.b64decode(one.b64_json or "") for one in raw.parse().data or []]
            verdict, retries = _compared(found, self._expected[number]), raw.retries_taken
        except openai.OpenAIError as error:
            verdict, retries = "lost", 0
            self.report.faults.append(f"{type(error).__name__}: {error}"[:200])
        with self._lock:
            self.report.answers[verdict] += 1
            self.report.retries += retries
            self.report.latencies.append(time.monotonic() - begun)

    def _leave(self, number: int) -> None:
        body = self._asks[number].body()
        body |= body.pop("extra_body") | {"stream": number % 2 == 0, "partial_images": 1}
        try:
            with httpx.Client(base_url=str(self._http.base_url), timeout=self._rng.uniform(0.01, 2)) as client:
                client.post(PATH, json=body)
        except httpx.TimeoutException:
            with self._lock:
                self.report.cancelled += 1
        except httpx.TransportError:  # of a replica that is killed
            pass

    def _err(self, number: int) -> None:
        body = _MALFORMED[number % len(_MALFORMED)]
        answer = self._http.post(PATH, content=body, headers={"Content-Type": "application/json"})
        with self._lock:
            self.report.errors[answer.status_code] += 1
            if "message" not in answer.json().get("error", {}):
                self.report.faults.append(f"{body!r} was answered {answer.text[:100]}")


def _kinds(requests: int, cancelled: float, malformed: float, rng: random.Random) -> list[str]:
    """What becomes of each request: most are good."""
    counts = {"cancelled": round(requests * cancelled), "malformed": round(requests * malformed)}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    kinds += ["good"] * (requests - len(kinds))
    rng.shuffle(kinds)
    return kinds


def _ask(rng: random.Random, steps: int, side: int) -> Ask:
    prompt = " and ".join(" ".join(rng.choice(words) for words in _WORDS) for _ in range(rng.randint(1, 3)))
    size = f"{side * rng.choice((1, 1, 2))}x{side}"
    negative = rng.choice(("", "", "blue"))
    return Ask(
        prompt, rng.randrange(2**31), rng.choice((steps, steps, steps // 2)), size, negative, rng.choice((1, 1, 2))
    )


def _compared(found: Sequence[bytes], expected: Sequence[bytes]) -> str:
    """How files compare with those of the command line: equal whole, close in their pixels, or wrong."""
    if list(found) == list(expected):
        return "equal"
    if len(found) != len(expected):
        return "wrong"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        for one, other in zip(found, expected, strict=True):
            pixels = []
            for file in (one, other):
                path.write_bytes(file)
                pixels.append(np.asarray(read_picture(path)[0], int))
            if pixels[0].shape != pixels[1].shape or np.abs(pixels[0] - pixels[1]).max() > _CLOSE:
                return "wrong"
    return "close"


def _megabytes(process: psutil.Process) -> int:
    """Of a server and the processes under it that draw."""
    family = [process, *(one for one in process.children(recursive=True) if "ServeReplica" in _title(one))]
    return sum(one.memory_info().rss for one in family) // 2**20


def _kill_a_replica(process: psutil.Process) -> bool:
    replicas = [one for one in process.children(recursive=True) if "ServeReplica" in _title(one)]
    if replicas:
        replicas[0].kill()
    return bool(replicas)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    typer.run(main)
