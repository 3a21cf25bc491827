"""Scenes made ready once and drawn from many times: latents, token ids, and what each cell shows.

A pool is made in parts, each a file, so that a run that is killed while it makes them goes on with the next.
Letters in shapes: N scenes, C captions of a scene, S tokens, H cells of a side, L channels of the latents.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmdiff.files import written_whole
from llmdiff.hashing import values_hash
from llmdiff.training.precision import autocast
from world import data
from world.data import Stream
from world.machine import Machine
from world.text import stated

PART = 512
"""Scenes in a file at most."""
CAPTIONS = 4
"""Plain captions of each scene."""
_BATCH = 128  # scenes that are encoded at once


class Pool(NamedTuple):
    """Scenes on a device."""

    latents: Tensor
    """Scaled latents: float16 (N, L, H, H)."""
    ids: Tensor
    """Token ids of captions: int32 (N, C, S)."""
    names: Tensor
    """Numbers of the things, from 1: int16 (N, H, H)."""
    spots: Tensor
    """Places of cells in their things' frames: int8 (N, 2, H, H)."""
    kinds: Tensor
    """What each caption states, as in `text.Captions`: int16 (N, C, Q)."""
    counts: Tensor
    """Int8 (N, C, Q)."""
    marks: Tensor
    """Uint8 (N, C, Q, marks)."""
    places: Tensor
    """Int8 (N, C)."""

    def to(self, device: torch.device) -> "Pool":
        return Pool(*(part.to(device) for part in self))


class Drawn(NamedTuple):
    """Scenes before they are encoded; arrays as in `Pool`, but pictures, uint8 (N, canvas, canvas, 3), not latents."""

    pictures: np.ndarray
    ids: np.ndarray
    names: np.ndarray
    spots: np.ndarray
    kinds: np.ndarray
    counts: np.ndarray
    marks: np.ndarray
    places: np.ndarray


def drawn(stream: Stream, start: int, count: int) -> Drawn:
    """Scenes from number `start` on."""
    indices = range(start, start + count)
    captions = [stream.caption(i, k) for i in indices for k in range(CAPTIONS)]
    names, spots = (np.stack(part) for part in zip(*(data.cells(stream.scene(i)) for i in indices), strict=True))
    of_captions = (part.reshape(count, CAPTIONS, *part.shape[1:]) for part in stated(captions, stream.seed, start, 3))
    return Drawn(stream.pictures(indices), next(of_captions), names, spots, *of_captions)


def scene_pool(
    stream: Stream,
    count: int,
    vae: Any,
    folder: Path,
    machine: Machine,
    deadline: float = float("inf"),
    on_part: Callable[[float], None] | None = None,
) -> Pool | None:
    """The first scenes of a stream, made or read; None where the deadline came before all were made.

    Args:
        stream: of the scenes.
        count: of scenes, rounded up to whole parts.
        vae: encodes them, on the machine's device.
        folder: of the parts; those of other scenes, captions or weights are told apart.
        machine: to which the pool goes.
        deadline: of `time.monotonic`.
        on_part: called with the share that is there, after each part that is made.
    """
    place = folder / f"{stream.seed}-{stream.canvas}-{stream.things}-{_key(stream, vae)}"
    size = min(PART, count)
    files = [place / f"{size}-{n:05d}.safetensors" for n in range(-(-count // size))]
    missing = [n for n, file in enumerate(files) if not file.exists()]
    for done, (n, scenes) in enumerate(_in_order(stream, missing, size), start=1):
        with written_whole(files[n]) as draft:
            save_file(_encoded(scenes, vae, machine), draft)
        if on_part:
            on_part(1 - (len(missing) - done) / len(files))
        if done < len(missing) and time.monotonic() > deadline:
            return None
    parts = [load_file(file) for file in files]
    return Pool(*(torch.cat([part[name] for part in parts]) for name in Pool._fields)).to(machine.device)


def _key(stream: Stream, vae: Any) -> str:
    """Changes with what scenes look like, how they are described, and how pictures are encoded."""
    first = drawn(stream, 0, 4)
    parts = ((name, torch.from_numpy(part)) for name, part in zip(first._fields, first, strict=True))
    return values_hash((*vae.state_dict().items(), *parts))[:12]


def _in_order(stream: Stream, numbers: list[int], size: int) -> Iterator[tuple[int, Drawn]]:
    """Parts as they are drawn: by other processes where there are cores for them."""
    cores = len(os.sched_getaffinity(0))
    if cores < 4 or len(numbers) < 4:
        yield from ((n, drawn(stream, n * size, size)) for n in numbers)
        return
    with ProcessPoolExecutor(cores - 1, multiprocessing.get_context("spawn"), _alone) as workers:
        ahead = {n: workers.submit(drawn, stream, n * size, size) for n in numbers[: 2 * cores]}
        try:
            for place, n in enumerate(numbers):
                yield n, ahead.pop(n).result()
                for following in numbers[place + 2 * cores : place + 2 * cores + 1]:
                    ahead[following] = workers.submit(drawn, stream, following * size, size)
        finally:
            workers.shutdown(wait=False, cancel_futures=True)


def _alone() -> None:
    torch.set_num_threads(1)


@torch.no_grad()
def _encoded(scenes: Drawn, vae: Any, machine: Machine) -> dict[str, Tensor]:
    latents = []
    for start in range(0, len(scenes.pictures), _BATCH):
        x = as_model_input(torch.from_numpy(scenes.pictures[start : start + _BATCH]).to(machine.device))
        with autocast(machine.precision, machine.device.type):
            mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        latents.append((mean.float() * vae.config.scaling_factor).half().cpu())
    rest = {name: torch.from_numpy(getattr(scenes, name)) for name in Pool._fields[1:]}
    return {"latents": torch.cat(latents).contiguous(), **rest}


def as_model_input(pictures: Tensor) -> Tensor:
    """Pictures uint8 (B, H, W, 3) as a diffusion model takes them: float (B, 3, H, W) in -1..1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
