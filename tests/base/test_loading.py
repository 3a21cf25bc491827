"""Loading a base model from a folder: what people have loads, and one sentence says what the rest is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig

from adapter.tiny import build_kolors, build_pixart, build_sana, build_sd, build_sdxl, draw
from base.folders import TEXT, UNET, change_index, fault
from llmdiff.base.loading import load_pipeline
from llmdiff.errors import LLMDiffError
from tiny_base import Places

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n"


def rename(file: Path, variant: str) -> None:
    """Makes a weights file one of a variant."""
    file.rename(file.with_suffix(f".{variant}.safetensors"))


def test_loads_a_folder_in_the_dtype_asked_for(places: Places) -> None:
    pipe = load_pipeline(places.base, dtype=torch.bfloat16)
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "~/no such folder", "a/b/c", "\0", "./a.safetensors"])
def test_a_wrong_path_is_not_taken_for_a_hub_id(path: str) -> None:
    assert repr(path) in fault(path)
    assert "Hub id" in fault(path)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema", "my-own"])
@pytest.mark.parametrize("build", [build_sd, build_sdxl, build_pixart, build_kolors])
def test_folders_of_a_variant_alone(build: Callable[[], Any], variant: str, tmp_path: Path) -> None:
    pipe = build()
    pipe.save_pretrained(tmp_path, variant=variant)
    assert not list(tmp_path.glob("*/model.safetensors"))
    loaded = load_pipeline(tmp_path)
    denoiser = "unet" if hasattr(pipe, "unet") else "transformer"
    for name in (denoiser, "vae", "text_encoder"):
        found = loaded.components[name].state_dict()
        assert all(torch.equal(found[key], weight) for key, weight in pipe.components[name].state_dict().items())


def test_every_part_has_its_own_variant(sd: Path, copy: Path) -> None:
    rename(copy / UNET, "fp16")
    rename(copy / TEXT, "bf16")
    assert torch.equal(draw(load_pipeline(copy)), draw(load_pipeline(sd)))


@pytest.mark.parametrize(
    ("variants", "taken"),
    [
        (["non_ema", "", "fp16"], ""),
        (["non_ema", "fp16"], "fp16"),
        (["fp16", "fp32"], "fp32"),
        (["non_ema", "odd"], "odd"),
    ],
)
def test_the_variant_that_is_taken(copy: Path, variants: list[str], taken: str) -> None:
    weights = load_file(copy / UNET)
    (copy / UNET).unlink()
    for number, variant in enumerate(variants):
        weights["conv_out.bias"] = torch.full((4,), float(number))
        save_file(weights, (copy / UNET).with_suffix(f".{variant}.safetensors" if variant else ".safetensors"))
    assert load_pipeline(copy).unet.conv_out.bias[0] == variants.index(taken)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards(sd: Path, tmp_path: Path, variant: str | None) -> None:
    pipe = build_sd()
    pipe.save_pretrained(tmp_path, variant=variant, max_shard_size="20KB")
    assert len(list((tmp_path / "unet").glob("*-of-*"))) > 1
    assert torch.equal(draw(load_pipeline(tmp_path)), draw(load_pipeline(sd)))
    next((tmp_path / "unet").glob("*-of-*")).unlink()
    assert "missing or damaged" in fault(tmp_path)
    next((tmp_path / "unet").glob("*.index*")).unlink()
    assert "index.json" in fault(tmp_path)


def test_files_that_git_lfs_has_not_fetched(copy: Path) -> None:
    (copy / UNET).with_suffix(".fp16.safetensors").write_bytes(POINTER)
    load_pipeline(copy)
    (copy / UNET).replace((copy / UNET).with_suffix(".bf16.safetensors"))
    (copy / UNET).write_bytes(POINTER)
    load_pipeline(copy)
    (copy / UNET).with_suffix(".bf16.safetensors").unlink()
    assert "git lfs pull" in fault(copy)


@pytest.mark.parametrize("part", ["safety_checker", "feature_extractor", "image_encoder"])
def test_parts_that_are_not_needed_may_be_deleted(sd: Path, copy: Path, part: str) -> None:
    kinds = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    change_index(copy, **{part: kinds.get(part, ["transformers", "CLIPImageProcessor"])})
    pipe = load_pipeline(copy)
    assert pipe.components[part] is None
    assert torch.equal(draw(pipe), draw(load_pipeline(sd)))


def test_a_safety_checker_stays_in_place_unless_what_it_needs_is_missing(tmp_path: Path) -> None:
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**size, image_size=16, patch_size=8, projection_dim=8)
    config = CLIPConfig(text_config=CLIPTextConfig(**size).to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    parts = build_sd().components | {
        "safety_checker": StableDiffusionSafetyChecker(config),
        "feature_extractor": CLIPImageProcessor(size=16, crop_size=16),
    }
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path)
    pipe = load_pipeline(tmp_path)
    assert isinstance(pipe.safety_checker, StableDiffusionSafetyChecker)
    assert pipe.feature_extractor is not None
    shutil.rmtree(tmp_path / "feature_extractor")
    with pytest.warns(UserWarning, match="safety checker lacks its feature_extractor"):
        assert load_pipeline(tmp_path).safety_checker is None


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_text_encoders_are_needed_unless_the_caller_does_without(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    assert f"lacks its {part}" in fault(copy)
    assert load_pipeline(copy, needs_text_encoders=False).components[part] is None
    change_index(copy, **{part: [None, None]})
    assert f"lacks its {part}" in fault(copy)
    assert load_pipeline(copy, needs_text_encoders=False).components[part] is None


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
def test_of_two_text_encoders_none_may_be_missing(tmp_path: Path, part: str) -> None:
    build_sdxl().save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / part)
    assert f"lacks its {part}" in fault(tmp_path)


def test_an_index_of_an_old_version(sd: Path, copy: Path) -> None:
    """Without parts that came later, and with one whose class has been renamed since."""
    index = json.loads((copy / "model_index.json").read_text())
    del index["image_encoder"]
    (copy / "model_index.json").write_text(json.dumps(index))
    (copy / "feature_extractor").mkdir()
    (copy / "feature_extractor/preprocessor_config.json").write_text(
        '{"feature_extractor_type": "CLIPFeatureExtractor"}'
    )
    change_index(copy, feature_extractor=["transformers", "CLIPFeatureExtractor"])
    assert torch.equal(draw(load_pipeline(copy)), draw(load_pipeline(sd)))


def test_weights_by_the_names_of_old_versions(sd: Path, copy: Path) -> None:
    """As in the first published folders: attention of the autoencoder, a prefix and a buffer of the text encoder."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    vae = copy / UNET.replace("unet", "vae")
    weights = load_file(vae)
    for name in [name for name in weights if "attentions" in name]:
        changed = name
        for new, before in old.items():
            changed = changed.replace(f".{new}.", f".{before}.")
        weights[changed] = weights.pop(name)
    save_file(weights, vae, metadata={"format": "pt"})
    texts = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in load_file(copy / TEXT).items()}
    texts["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(texts, copy / TEXT, metadata={"format": "pt"})
    generator = torch.Generator().manual_seed(1)
    ours, theirs = load_pipeline(copy), load_pipeline(sd)
    assert torch.equal(draw(ours), draw(theirs))
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    assert torch.equal(ours.vae.decode(latents).sample, theirs.vae.decode(latents).sample)


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_tied_weights_by_either_name(tmp_path: Path, name: str) -> None:
    build_pixart().save_pretrained(tmp_path)
    weights = load_file(tmp_path / TEXT)
    (tied,) = [key for key in weights if key in ("shared.weight", "encoder.embed_tokens.weight")]
    weights[name] = weights.pop(tied)
    save_file(weights, tmp_path / TEXT, metadata={"format": "pt"})
    found = load_pipeline(tmp_path).text_encoder
    assert torch.equal(found.get_input_embeddings().weight, weights[name])
    assert torch.equal(found.encoder.embed_tokens.weight, weights[name])


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
@pytest.mark.parametrize("part", [UNET, TEXT])
def test_damaged_weights(copy: Path, content: bytes | None, part: str) -> None:
    whole = (copy / part).read_bytes()
    (copy / part).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "missing or damaged" in fault(copy)
    assert part in fault(copy)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("unet", "lacks its unet"),
        ("vae", "lacks its vae"),
        ("scheduler", "lacks its scheduler"),
        ("vae/config.json", "vae/config.json"),
        ("scheduler/scheduler_config.json", "There is no file"),
        (UNET, "missing"),
        (TEXT, "missing"),
    ],
)
def test_missing_parts(copy: Path, part: str, words: str) -> None:
    victim = copy / part
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    assert words in fault(copy)


@pytest.mark.parametrize("build", [build_sd, build_sana, build_kolors, build_pixart])
def test_a_tokenizer_without_its_vocabulary(build: Callable[[], Any], tmp_path: Path) -> None:
    """In whose place transformers would silently take an empty one."""
    build().save_pretrained(tmp_path)
    for file in (tmp_path / "tokenizer").iterdir():
        if file.name not in ("tokenizer_config.json", "special_tokens_map.json"):
            file.unlink()
    assert "tokenizer" in fault(tmp_path)


@pytest.mark.parametrize(("part", "weight"), [(UNET, "conv_out.bias"), (TEXT, None), ("vae", "quant_conv.bias")])
def test_no_weight_is_made_up(copy: Path, part: str, weight: str | None) -> None:
    """Neither left empty, as diffusers does, nor drawn at random, as transformers does."""
    file = copy / (UNET.replace("unet", "vae") if part == "vae" else part)
    weights = load_file(file)
    del weights[weight or next(name for name in weights if "final_layer_norm.bias" in name)]
    save_file(weights, file, metadata={"format": "pt"})
    assert "they lack" in fault(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    weights = load_file(copy / UNET)
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :2].contiguous()
    save_file(weights, copy / UNET, metadata={"format": "pt"})
    assert "cannot be loaded" in fault(copy)


def test_weights_of_another_model(copy: Path) -> None:
    shutil.copyfile(copy / UNET.replace("unet", "vae"), copy / UNET)
    assert "of another model" in fault(copy)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    build_sd().save_pretrained(tmp_path, safe_serialization=False)
    assert "pickle" in fault(tmp_path)


def test_a_device_that_is_not_there(places: Places) -> None:
    with pytest.raises(LLMDiffError, match="device"):
        load_pipeline(places.base, device="cuda:99")


@pytest.mark.fault("paths")
def test_shards_outside_of_their_folder_are_refused(copy: Path) -> None:
    weights = copy / UNET
    weights.rename(copy / "moved.safetensors")
    names = dict.fromkeys(load_file(copy / "moved.safetensors"), "../moved.safetensors")
    index = weights.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert "says that weights are in '../moved.safetensors', which is no file beside it" in fault(copy)


@pytest.mark.fault("missing weights")
def test_weights_of_a_larger_model_and_of_whole_numbers_are_told(copy: Path) -> None:
    weights = load_file(copy / UNET)
    save_file(weights | {"mid_block.more.weight": torch.zeros(3)}, copy / UNET, {"format": "pt"})
    with pytest.warns(UserWarning, match=r"larger model than its config: mid_block\.more\.weight is not read, and 1"):
        load_pipeline(copy)
    save_file({name: weight.to(torch.int8) for name, weight in weights.items()}, copy / UNET, {"format": "pt"})
    assert "is of the type I8" in fault(copy)
