"""Base models of the Hub: what is fetched of them, and what is said where nothing can be."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from adapter.tiny import build_sdxl, draw
from llmdiff.base.hub import files_to_fetch
from llmdiff.base.loading import load_pipeline
from llmdiff.errors import LLMDiffError
from tiny_base import Places

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_offline")
def test_a_hub_id_that_cannot_be_reached() -> None:
    with pytest.raises(LLMDiffError, match="network"):
        load_pipeline("nobody/nothing")


@pytest.mark.usefixtures("_offline")
def test_what_has_been_fetched_before_is_used_without_network(places: Places, tmp_path: Path) -> None:
    repository = tmp_path / "cache/models--owner--name"
    shutil.copytree(places.base, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
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
