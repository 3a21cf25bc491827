"""Folders that hold something else than a text-to-image model: one sentence says what it is."""

from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLImg2ImgPipeline

from adapter.tiny import build_sd, build_sdxl
from base.folders import change_index, fault
from tiny_base import Places


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"_class_name": 3}', b"{}", b"\xff\xfe"])
def test_a_damaged_index(copy: Path, content: bytes) -> None:
    (copy / "model_index.json").write_bytes(content)
    assert str(copy) in fault(copy)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"_class_name": "MyPipeline"}, "MyPipeline"),
        ({"_class_name": ["pipeline", "MyPipeline"]}, "code that a model brings is never run"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"unet": ["my_unet", "MyUNet"]}, "code that a model brings is never run"),
        ({"unet": ["diffusers", "MyUNet"]}, "MyUNet"),
        ({"text_encoder": ["os", "system"]}, "code that a model brings is never run"),
        ({"_class_name": "StableDiffusionUpscalePipeline"}, "upscaler"),
        ({"_class_name": "StableDiffusionControlNetPipeline"}, "ControlNet"),
        ({"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "needs a picture"),
        ({"_class_name": "AnimateDiffPipeline"}, "videos"),
    ],
)
def test_pipelines_of_other_kinds(copy: Path, entries: dict[str, Any], words: str) -> None:
    (copy / "unet/my_unet.py").write_text("raise SystemExit")
    (copy / "pipeline.py").write_text("raise SystemExit")
    change_index(copy, **entries)
    assert words in fault(copy)


def test_an_inpainting_model(tmp_path: Path) -> None:
    parts = build_sd(in_channels=9).components
    StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False).save_pretrained(tmp_path)
    assert "is an inpainting model" in fault(tmp_path)
    change_index(tmp_path, _class_name="StableDiffusionPipeline")
    assert "is an inpainting model" in fault(tmp_path)


def test_a_refiner(tmp_path: Path) -> None:
    pipe = StableDiffusionXLImg2ImgPipeline(**build_sdxl().components, add_watermarker=False)
    pipe.save_pretrained(tmp_path)
    assert "is an image-to-image model" in fault(tmp_path)
    change_index(tmp_path, requires_aesthetics_score=True)
    assert "refiner" in fault(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "model_index.json"),
        ({"adapter_config.json": "{}"}, "a LoRA"),
        ({"pytorch_lora_weights.safetensors": ""}, "a LoRA"),
        ({"adapter.safetensors": "", "config.json": "{}"}, "--adapter"),
        ({"config.json": '{"model_type": "llama"}', "model.safetensors": ""}, "llama"),
        ({"config.json": '{"_class_name": "UNet2DConditionModel"}'}, "one part"),
        ({"modular_model_index.json": "{}"}, "modular"),
        ({"snapshots/abc/model_index.json": "{}"}, "snapshots/abc"),
        ({"v1-5.ckpt": ""}, "pickles"),
    ],
)
def test_folders_of_other_kinds(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert words in fault(tmp_path)


def test_the_llm_and_the_adapter_of_a_pair(places: Places) -> None:
    assert "--llm" in fault(places.llm)
    assert "--adapter" in fault(places.adapter)
