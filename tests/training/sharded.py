"""Reads captions with an LLM that two processes share: `python sharded.py`, as JSON on standard output.

Of each process: the share of the weights that it holds before and after, and, of the main one, whether it reads what
the whole LLM reads, twice.
"""

import json
import os
import socket
import tempfile
from pathlib import Path

import torch

from llmdiff.language import ExtractionConfig, LanguageModel, extract_stack, tokenize
from llmdiff.training.processes import accelerator
from llmdiff.training.sharding import in_main_process, is_sharded, shard
from tiny_llm import build_llama

TEXTS = ["a red cup", "two blue cups on a table"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read(llm: LanguageModel) -> list[torch.Tensor]:
    reading = ExtractionConfig()
    return list(extract_stack(llm, tokenize(llm, TEXTS, reading), reading))


def held(llm: LanguageModel) -> float:
    """The share of the weights that this process holds."""
    weights = list(llm.model.parameters())
    return sum(p.to_local().numel() for p in weights) / sum(p.numel() for p in weights)


def one_process() -> dict[str, object]:
    processes = accelerator()
    llm, same = build_llama(), []
    whole = read(build_llama())
    shard(llm, processes)
    before = held(llm)

    def compare() -> None:
        same.extend(all(map(torch.equal, read(llm), whole)) for _ in range(2))

    in_main_process(llm, processes, compare)
    return {"sharded": is_sharded(llm), "before": before, "after": held(llm), "same": same}


if __name__ == "__main__":
    port = str(free_port())
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(2):
            if os.fork() == 0:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
                (Path(folder) / str(rank)).write_text(json.dumps(one_process()))
                os._exit(0)
        for _ in range(2):
            os.wait()
        print(json.dumps([json.loads((Path(folder) / str(rank)).read_text()) for rank in range(2)]))
