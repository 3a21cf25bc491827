"""Workflows drawn by a real ComfyUI, against the same pictures of diffusers."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from base.original_layout import save_checkpoint
from comfyui import installation
from comfyui.server import Server, drawing, node, prepare, serve
from comfyui.tiny import build_adapter
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import LanguageModel
from tiny_llm import build_llama
from tiny_parts import assemble_sd

pytestmark = [installation.needed, pytest.mark.slow]
EXAMPLES = sorted((installation.PACK / "example_workflows").glob("*.json"))
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROMPT, NEGATIVE = "a red (cup:1.2) on a box", "blurred"
SMALL = """
from comfy import supported_models

class Small(supported_models.SD15):
    unet_config = supported_models.SD15.unet_config | {"model_channels": 32}

supported_models.models.insert(0, Small)
NODE_CLASS_MAPPINGS = {}
"""
"""A custom node that has ComfyUI know a Stable Diffusion 1.5 of fewer channels by its checkpoint."""


@dataclass(frozen=True)
class Drawn:
    """A running ComfyUI, and what it has, in diffusers."""

    server: Server
    pipe: Any
    adapters: dict[str, LLMDiffAdapter]


def build_pipe() -> Any:
    """A random Stable Diffusion 1.5 whose U-Net has a tenth of the channels, as a checkpoint of float16 has it."""
    assert installation.PATH is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        width = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        four = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        pipe = assemble_sd(
            unet=UNet2DConditionModel(
                cross_attention_dim=768, block_out_channels=(32, 64, 64, 64), attention_head_dim=8, sample_size=64
            ),
            vae=AutoencoderKL(**four, **kinds, latent_channels=4),
            text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=49408, initializer_factor=3.0, **width)),
            tokenizer=CLIPTokenizer.from_pretrained(
                Path(installation.PATH) / "comfy" / "sd1_tokenizer", model_max_length=77
            ),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                timestep_spacing="leading",
                steps_offset=1,
            ),
        )
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.half().float().eval()
    return pipe


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawn]:
    folder = prepare(tmp_path_factory.mktemp("comfyui"))
    (folder / "custom_nodes" / "small.py").write_text(SMALL)
    pipe, built = build_pipe(), build_llama(blocks=2, width=8)
    save_checkpoint(pipe, folder / "models" / "checkpoints" / "small.safetensors")
    built.model.save_pretrained(folder / "llm")
    built.tokenizer.save_pretrained(folder / "llm")
    llm = LanguageModel.load(str(folder / "llm"))
    adapters = {}
    for mode in ("augment", "replace"):
        adapters[mode] = build_adapter(pipe, llm, mode)
        adapters[mode].save_pretrained(folder / "models" / "llmdiff" / mode)
    with serve(folder) as server:
        yield Drawn(server, pipe, adapters)
    shutil.rmtree(folder)


def picture(drawn: Drawn, mode: str, prompt: str, negative: str, side: int = 64, batch: int = 1) -> np.ndarray:
    """What diffusers draws of the noise, at the times and under the guidance of `drawing`."""
    adapter = drawn.adapters[mode].attach(drawn.pipe)
    adapter.scale, adapter.prompt_weights = 0.8, True
    noise = torch.randn(batch, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(5))
    try:
        return drawn.pipe(
            prompt,
            negative_prompt=negative,
            num_images_per_prompt=batch,
            latents=noise,
            timesteps=[999, 749, 499, 249],
            guidance_scale=3.0,
            output_type="np",
        ).images
    finally:
        adapter.detach()


def assert_same(ours: list[Image.Image], theirs: np.ndarray) -> None:
    """Up to a level of 255: ComfyUI cuts off what is behind the point."""
    pixels = np.stack([np.asarray(one, dtype=np.float32) for one in ours])
    assert np.abs(pixels - theirs * 255).max() < 1.1
    assert pixels.std() > 5, "a picture of one colour proves nothing"


@pytest.mark.parametrize("mode", ["augment", "replace"])
def test_a_workflow_draws_what_diffusers_draws(drawn: Drawn, mode: str) -> None:
    prompt = "a red cup on a box"
    ours = drawn.server.draw(drawing("small.safetensors", mode, mode, prompt, NEGATIVE, batch=2))
    theirs = picture(drawn, mode, prompt, NEGATIVE, batch=2)
    assert_same(ours, theirs)


def test_prompt_weights_are_read_by_both(drawn: Drawn) -> None:
    """In replace mode, where the LLM alone reads them: CLIP's are not diffusers'."""
    ours = drawn.server.draw(drawing("small.safetensors", "replace", "replace", PROMPT, NEGATIVE))
    assert_same(ours, picture(drawn, "replace", PROMPT, NEGATIVE))


def test_the_dial_at_0_is_the_model_alone(drawn: Drawn) -> None:
    workflow = drawing("small.safetensors", "augment", "augment", "a red cup", NEGATIVE)
    alone = workflow | {
        name: node("CLIPTextEncode", text=workflow[name]["inputs"]["text"], clip=["model", 1])
        for name in ("positive", "negative")
    }
    alone["sampler"] = node("KSampler", **workflow["sampler"]["inputs"] | {"model": ["model", 0]})
    del alone["apply"], alone["adapter"]
    dialled = workflow | {"scale": node("LLMDiffScale", model=["apply", 0], scale=0.0)}
    dialled["sampler"] = node("KSampler", **workflow["sampler"]["inputs"] | {"model": ["scale", 0]})
    (with_adapter,), (at_0,), (base,) = map(drawn.server.draw, (workflow, dialled, alone))
    assert np.array_equal(np.asarray(at_0), np.asarray(base))
    assert not np.array_equal(np.asarray(with_adapter), np.asarray(base))


def test_an_adapter_that_changes_on_disk_is_loaded_again(drawn: Drawn) -> None:
    folder = drawn.server.folder / "models" / "llmdiff" / "changing"
    workflow = drawing("small.safetensors", "changing", "augment", "a red cup", NEGATIVE)
    pictures = []
    for seed in (1, 2):
        build_adapter(drawn.pipe, drawn.adapters["augment"].llm, "augment", seed).save_pretrained(folder)
        pictures += drawn.server.draw(workflow)
    assert not np.array_equal(np.asarray(pictures[0]), np.asarray(pictures[1]))


def test_an_llm_may_be_loaded_by_itself(drawn: Drawn) -> None:
    workflow = drawing("small.safetensors", "augment", "augment", "a red cup", NEGATIVE)
    inputs = {"name": str(drawn.server.folder / "llm"), "dtype": "float32", "quantization": "none", "device": "cpu"}
    workflow["llm"] = node("LLMDiffLoadLLM", **inputs)
    workflow["adapter"] = node("LLMDiffLoadAdapter", name="augment", llm=["llm", 0])
    assert_same(drawn.server.draw(workflow), picture(drawn, "augment", "a red cup", NEGATIVE))


def test_what_is_wrong_is_told_in_a_sentence(drawn: Drawn) -> None:
    workflow = drawing("small.safetensors", "augment", "augment", "a cup", NEGATIVE)
    del workflow["positive"]["inputs"]["clip"]
    assert "connect clip or conditioning too" in drawn.server.failure(workflow)
    workflow = drawing("small.safetensors", "replace", "replace", "a cup", NEGATIVE)
    workflow["negative"] = node("CLIPTextEncode", text="", clip=["model", 1])
    assert "make it with LLMDiff Encode, the negative one too" in drawn.server.failure(workflow)
    workflow = drawing("small.safetensors", "nowhere", "augment", "a cup", NEGATIVE)
    assert "The adapter 'nowhere' is neither a folder" in drawn.server.failure(workflow)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian: apt install chromium)")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_open_in_the_browser_and_draw(drawn: Drawn, browser: Browser, example: Path) -> None:
    """ComfyUI's own page opens them and makes the workflow of the API, which draws once it names the models here."""
    page = browser.new_page()
    page.goto(drawn.server.url)
    page.wait_for_function("window.app && window.app.graph && window.app.extensionManager", timeout=180_000)
    page.wait_for_function("Object.keys(LiteGraph.registered_node_types).includes('LLMDiffApply')", timeout=180_000)
    opened = "async workflow => { await app.loadGraphData(workflow); return (await app.graphToPrompt()).output; }"
    workflow = page.evaluate(opened, json.loads(example.read_text()))
    page.close()
    for inputs in (one["inputs"] for one in workflow.values()):
        small = {"ckpt_name": "small.safetensors", "name": "augment" if example.stem != "replace" else "replace"}
        small |= {"width": 64, "height": 64, "steps": 2}
        inputs.update({name: value for name, value in small.items() if name in inputs})
    assert [one["class_type"] for one in workflow.values()].count("LLMDiffEncode") == 2
    if example.stem == "sdxl_scale":  # there is no SDXL here
        for one in workflow.values():
            if one["class_type"] == "CLIPTextEncodeSDXL":
                one |= node("CLIPTextEncode", clip=one["inputs"]["clip"], text=one["inputs"]["text_g"])
    assert len(drawn.server.draw(workflow)) == (2 if example.stem == "sdxl_scale" else 1)
