"""A real ComfyUI in a process of its own, without a browser, and workflows for it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from comfyui.installation import PACK, PATH
from llmdiff.language.store import SETTING

START_S = 240
DRAW_S = 300


@dataclass(frozen=True)
class Server:
    """Where it listens, and its folder of models, results and settings."""

    url: str
    folder: Path

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def post(self, path: str, content: Any) -> Any:
        """What is answered, also to what is refused."""
        body = json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def run(self, workflow: dict[str, Any]) -> Any:
        """Runs a workflow in the form of the API to its end: its entry in the history."""
        queued = self.post("/prompt", {"prompt": workflow})
        assert "prompt_id" in queued, queued
        for _ in range(2 * DRAW_S):
            history = json.loads(self.get(f"/history/{queued['prompt_id']}"))
            if history:
                return history[queued["prompt_id"]]
            time.sleep(0.5)
        raise TimeoutError(f"nothing was drawn in {DRAW_S} s")

    def draw(self, workflow: dict[str, Any]) -> list[Image.Image]:
        """The pictures that a workflow saves."""
        entry = self.run(workflow)
        assert entry["status"]["status_str"] == "success", _errors(entry)
        saved = [image for output in entry["outputs"].values() for image in output.get("images", [])]
        pictures = [self.get(f"/view?{urllib.parse.urlencode(image)}") for image in saved]
        return [Image.open(BytesIO(picture)).convert("RGB") for picture in pictures]

    def failure(self, workflow: dict[str, Any]) -> str:
        """What a workflow that fails says of it."""
        return str(_errors(self.run(workflow))[0]["exception_message"])


def _errors(entry: Any) -> list[Any]:
    return [content for kind, content in entry["status"]["messages"] if kind == "execution_error"]


def prepare(folder: Path) -> Path:
    """A folder for a ComfyUI of one's own, with the node pack in it."""
    assert PATH is not None
    for name in ("models/checkpoints", "models/llmdiff", "custom_nodes", "input", "output", "temp", "user"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(PACK, folder / "custom_nodes" / "comfyui-llmdiff", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Starts ComfyUI on the loopback interface, and ends it again."""
    assert PATH is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--cpu", "--disable-api-nodes", "--disable-auto-launch", "--base-directory", str(folder)]
    place = ["--listen", "127.0.0.1", "--port", str(port), "--database-url", "sqlite:///:memory:"]
    environment = os.environ | {SETTING: "0"}
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, str(Path(PATH) / "main.py"), *flags, *place]
        process = subprocess.Popen(command, cwd=PATH, env=environment, stdout=log, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}", folder)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(2 * START_S):
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.5)
        if process.poll() is not None:
            break
    raise RuntimeError((server.folder / "log.txt").read_text()[-4000:])


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def drawing(
    checkpoint: str, adapter: str, mode: str, prompt: str, negative: str, side: int = 64, batch: int = 1
) -> dict[str, Any]:
    """A workflow that draws with an adapter, at scale 0.8."""
    clip = {"clip": ["model", 1]} if mode == "augment" else {}
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "adapter": node("LLMDiffLoadAdapter", name=adapter),
        "apply": node("LLMDiffApply", model=["model", 0], adapter=["adapter", 0], scale=0.8),
        "positive": node("LLMDiffEncode", adapter=["adapter", 0], text=prompt, **clip),
        "negative": node("LLMDiffEncode", adapter=["adapter", 0], text=negative, **clip),
        "latent": node("EmptyLatentImage", width=side, height=side, batch_size=batch),
        "sampler": node(
            "KSampler",
            model=["apply", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=5,
            steps=4,
            cfg=3.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }
