"""Loading a base model: what works, and one sentence for everything that does not."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from tiny_base import Places


def fault(base: object) -> str:
    with pytest.raises(LLMDiffError) as caught:
        load_pipeline(str(base))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_loads_a_folder_in_the_dtype_asked_for(places: Places) -> None:
    pipe = load_pipeline(places.base, dtype=torch.bfloat16)
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "~/no such folder", "a/b/c"])
def test_a_wrong_path_is_not_taken_for_a_hub_id(path: str) -> None:
    assert path in fault(path)
    assert "Hub id" in fault(path)


def test_a_folder_without_a_pipeline(tmp_path: Path) -> None:
    assert "model_index.json" in fault(tmp_path)


def test_a_single_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    assert "single file" in fault(file)


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "network" in fault("nobody/nothing")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_damaged_weights(places: Places, tmp_path: Path, content: bytes | None, part: str) -> None:
    folder = Path(shutil.copytree(places.base, tmp_path / "base"))
    whole = (folder / part).read_bytes()
    (folder / part).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "missing or damaged" in fault(folder)


@pytest.mark.parametrize("part", ["unet", "vae/config.json", "scheduler", "tokenizer"])
def test_missing_parts(places: Places, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(places.base, tmp_path / "base"))
    victim = folder / part
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    assert "missing or damaged" in fault(folder)


def test_weights_of_another_shape(places: Places, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(places.base, tmp_path / "base"))
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :2].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    assert "missing or damaged" in fault(folder)


def test_weights_of_another_model(places: Places, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(places.base, tmp_path / "base"))
    name = "diffusion_pytorch_model.safetensors"
    shutil.copyfile(folder / "vae" / name, folder / "unet" / name)
    assert "its unet lacks weights" in fault(folder)


def test_pickled_weights_are_refused(places: Places, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(places.base, tmp_path / "base"))
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    fault(folder)


def test_a_device_that_is_not_there(places: Places) -> None:
    with pytest.raises(LLMDiffError, match="device"):
        load_pipeline(places.base, device="cuda:99")
