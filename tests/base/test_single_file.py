"""Single-file checkpoints as a base model: the same weights and pictures as the folder they were made of."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapter.families import build_sd21
from adapter.tiny import build_sd, draw
from base.folders import fault
from base.original_layout import build_small_sdxl, save_checkpoint
from llmdiff.base.checkpoint_kind import TEXT_ENCODERS
from llmdiff.base.loading import load_pipeline
from llmdiff.base.single_file import likely_source
from llmdiff.headers import Header

BUILDERS: dict[str, Callable[[], Any]] = {"SD 1.5": build_sd, "SD 2.1": build_sd21, "SDXL": build_small_sdxl}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of a tiny SD 1.5, and a checkpoint of the same weights."""
    root, pipe = tmp_path_factory.mktemp("sd"), build_sd()
    pipe.save_pretrained(root / "folder")
    return root / "folder", save_checkpoint(pipe, root / "one.safetensors")


@pytest.mark.parametrize("family", BUILDERS)
def test_the_weights_and_the_picture_are_those_of_the_folder(family: str, tmp_path: Path) -> None:
    pipe = BUILDERS[family]()
    pipe.save_pretrained(tmp_path / "folder")
    file = save_checkpoint(pipe, tmp_path / "one.safetensors")
    loaded = load_pipeline(file, config=tmp_path / "folder")
    assert type(loaded) is type(pipe)
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            found = loaded.components[name].state_dict()
            for key, weight in part.state_dict().items():
                assert torch.equal(found[key], weight), f"{name}.{key}"
    # Not to the bit: how weights lie in memory decides which kernels some processors take.
    assert torch.allclose(draw(loaded), draw(load_pipeline(tmp_path / "folder")), atol=1e-4)
    assert load_pipeline(file, config=tmp_path / "folder", dtype=torch.float16).unet.dtype == torch.float16


def test_a_folder_with_nothing_but_a_checkpoint(saved: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "lora.safetensors").write_bytes(b"")
    (tmp_path / "one.safetensors").symlink_to(saved[1])
    assert torch.allclose(draw(load_pipeline(tmp_path, config=saved[0])), draw(load_pipeline(saved[0])), atol=1e-4)
    (tmp_path / "two.safetensors").symlink_to(saved[1])
    assert "one.safetensors, two.safetensors" in fault(tmp_path, config=saved[0])


def test_weights_beside_the_configs_are_not_read(saved: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither for what the checkpoint has nor for what it lacks: they might be pickles, or of another model."""
    other = build_sd(seed=1)
    other.save_pretrained(tmp_path / "other", safe_serialization=False)
    assert torch.equal(draw(load_pipeline(saved[1], config=tmp_path / "other")), draw(load_pipeline(saved[0])))


def test_a_checkpoint_without_text_encoder(saved: tuple[Path, Path], tmp_path: Path) -> None:
    weights = {name: weight for name, weight in load_file(saved[1]).items() if not name.startswith("cond_stage")}
    save_file(weights, tmp_path / "one.safetensors")
    assert "text_encoder" in fault(tmp_path / "one.safetensors", config=saved[0])
    pipe = load_pipeline(tmp_path / "one.safetensors", config=saved[0], needs_text_encoders=False)
    assert pipe.text_encoder is None
    assert pipe.tokenizer is not None


@pytest.mark.parametrize("part", ["model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight",
                                  "cond_stage_model.transformer.text_model.final_layer_norm.bias"])  # fmt: skip
def test_a_checkpoint_that_lacks_a_weight(saved: tuple[Path, Path], tmp_path: Path, part: str) -> None:
    weights = load_file(saved[1])
    del weights[part]
    save_file(weights, tmp_path / "one.safetensors")
    assert "lacks weights" in fault(tmp_path / "one.safetensors", config=saved[0])


ENDS = (
    "position_embedding.weight",
    "positional_embedding",
    "token_embedding.weight",
    "final_layer_norm.bias",
    "0.ln_1.bias",
)


@pytest.mark.fault("missing weights")
@pytest.mark.parametrize("family", BUILDERS)
def test_a_checkpoint_that_lacks_any_kind_of_weight_of_a_text_encoder(family: str, tmp_path: Path) -> None:
    """None is made up, and no other encoder is taken in its place."""
    pipe = BUILDERS[family]()
    pipe.save_pretrained(tmp_path / "folder")
    weights = load_file(save_checkpoint(pipe, tmp_path / "whole.safetensors"))
    for name in [name for name in weights if name.startswith(TEXT_ENCODERS) and name.endswith(ENDS)]:
        save_file({key: weight for key, weight in weights.items() if key != name}, tmp_path / "one.safetensors")
        assert "lacks weights" in fault(tmp_path / "one.safetensors", config=tmp_path / "folder"), name


def test_configs_of_another_model(saved: tuple[Path, Path], tmp_path: Path) -> None:
    build_small_sdxl().save_pretrained(tmp_path / "xl")
    build_sd(block_out_channels=(16, 32)).save_pretrained(tmp_path / "wide")
    assert "cannot be loaded" in fault(saved[1], config=tmp_path / "xl")
    assert "cannot be loaded" in fault(saved[1], config=tmp_path / "wide")


def test_no_configs(saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sentence = fault(saved[1])
    assert "--base-config" in sentence
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in sentence
    assert "model_index.json" in fault(saved[1], config=tmp_path)
    assert "no config at" in fault(saved[1], config=tmp_path / "nowhere")


def test_configs_that_were_fetched_before(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("stable-diffusion-v1-5--stable-diffusion-v1-5", "my--own"):
        repository = tmp_path / f"models--{name}"
        shutil.copytree(saved[0], repository / "snapshots/abc", ignore=shutil.ignore_patterns("*.safetensors"))
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text("abc")
    pictures = [draw(load_pipeline(*base)) for base in ((saved[0],), (saved[1],))]
    pictures.append(draw(load_pipeline(saved[1], config="my/own")))
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


@pytest.mark.parametrize(
    ("name", "shape", "source"),
    [
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", (768,), "stable-diffusion-v1-5"),
        ("model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight", (320, 1024), "diffusion-2-1"),
        ("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias", (1280,), "xl-base-1.0"),
    ],
)
def test_the_model_that_a_checkpoint_looks_like(name: str, shape: tuple[int, ...], source: str) -> None:
    assert source in likely_source(Header({name: shape}, {}))


@pytest.mark.parametrize(
    ("mark", "metadata", "prediction"),
    [
        ({}, None, "epsilon"),
        ({"v_pred": torch.tensor([])}, None, "v_prediction"),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction"),
    ],
)
def test_a_checkpoint_says_what_it_predicts(
    saved: tuple[Path, Path], tmp_path: Path, mark: dict[str, Any], metadata: dict[str, str] | None, prediction: str
) -> None:
    file = save_checkpoint(build_sd(), tmp_path / "one.safetensors", metadata, **mark)
    assert load_pipeline(file, config=saved[0]).scheduler.config.prediction_type == prediction


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("unet.down_blocks.0.attentions.0.to_q.lora.up.weight", "a LoRA"),
        ("base_model.model.to_q.lora_A.weight", "a LoRA"),
        ("decoder.conv_in.weight", "an autoencoder"),
        ("first_stage_model.decoder.conv_in.weight", "an autoencoder"),
        ("text_model.embeddings.token_embedding.weight", "a text encoder"),
        ("emb_params", "a textual inversion"),
        ("branches.down_blocks.query.weight", "an LLMDiff adapter"),
        ("control_model.time_embed.0.weight", "a ControlNet"),
        ("model.layers.0.self_attn.q_proj.weight", "a language model"),
        ("down_blocks.0.resnets.0.conv1.weight", "a denoiser"),
        ("model.diffusion_model.time_embed.0.weight", "a denoiser"),
        ("a", "something else"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str, words: str) -> None:
    file = tmp_path / "one.safetensors"
    save_file({name: torch.zeros(1)}, file)
    assert words in fault(file)
    assert words in fault(tmp_path)


@pytest.mark.parametrize(("channels", "words"), [(9, "an inpainting model"), (8, "an image-editing model")])
def test_checkpoints_that_need_a_picture(tmp_path: Path, channels: int, words: str) -> None:
    file = save_checkpoint(build_sd(in_channels=channels), tmp_path / "one.safetensors")
    assert words in fault(file)


def test_a_refiner(tmp_path: Path) -> None:
    mark = {"conditioner.embedders.0.model.text_projection": torch.zeros(1)}
    assert "refiner" in fault(save_checkpoint(build_sd(), tmp_path / "one.safetensors", **mark))


@pytest.mark.parametrize("name", ["one.ckpt", "one.bin", "one.pt"])
def test_pickles_are_never_loaded(tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    assert "pickle" in fault(tmp_path / name)
    assert "pickle" in fault(tmp_path)
