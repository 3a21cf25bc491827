"""Base models of the Hub: what is fetched of them, and what is said where nothing can be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapter.tiny import build_sdxl, draw
from llmdiff.base.hub import files_to_fetch
from llmdiff.base.loading import load_pipeline
from llmdiff.errors import LLMDiffError
from tiny_base import Places


def save_to_cache(folder: Path, cache: Path) -> None:
    """Puts a folder where the Hub's client keeps what it has fetched, as owner/name."""
    repository = cache / "models--owner--name"
    shutil.copytree(folder, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_offline")
def test_a_hub_id_that_cannot_be_reached() -> None:
    with pytest.raises(LLMDiffError, match="network"):
        load_pipeline("nobody/nothing")


def test_a_hub_that_does_not_answer(places: Places, tmp_path: Path) -> None:
    """In a process of its own, since the Hub's client reads its address once."""
    save_to_cache(places.base, tmp_path / "hub")
    script = (
        "from llmdiff.base.loading import load_pipeline\n"
        "from llmdiff.errors import LLMDiffError\n"
        "for name in ('owner/other', 'owner/name'):\n"
        "    try: print(type(load_pipeline(name)).__name__)\n"
        "    except LLMDiffError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    not_fetched, fetched = done.stdout.splitlines()
    assert "check the name and the network" in not_fetched
    assert fetched == "StableDiffusionPipeline"


@pytest.mark.usefixtures("_offline")
def test_what_has_been_fetched_before_is_used_without_network(places: Places, tmp_path: Path) -> None:
    save_to_cache(places.base, tmp_path / "cache")
    pipe = load_pipeline("owner/name")
    assert torch.equal(draw(pipe), draw(load_pipeline(places.base)))
    assert pipe.name_or_path == "owner/name"


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["10GB", "20KB"])
def test_one_set_of_weights_is_fetched_and_it_loads(tmp_path: Path, variant: str | None, size: str) -> None:
    """Of a repository with pickles, other formats, and weights beside those that are asked for."""
    pipe = build_sdxl()
    pipe.save_pretrained(tmp_path / "whole", variant=variant, max_shard_size=size)
    files = [path.relative_to(tmp_path / "whole").as_posix() for path in (tmp_path / "whole").rglob("*.*")]
    others = [f"unet/diffusion_pytorch_model.{end}" for end in ("bin", "non_ema.safetensors", "msgpack")]
    others += ["xl.safetensors", "text_encoder/model.onnx", "safety_checker/model.safetensors", "unet/code.py", "x.png"]
    index = json.loads((tmp_path / "whole/model_index.json").read_text())
    wanted = files_to_fetch([*files, *others], index)
    assert not set(wanted) & set(others)
    for name in wanted:
        (tmp_path / "part" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tmp_path / "whole" / name, tmp_path / "part" / name)
    assert torch.equal(draw(load_pipeline(tmp_path / "part")), draw(pipe))
