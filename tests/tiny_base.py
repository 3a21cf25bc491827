"""A tiny real Stable Diffusion with random weights, for tests: 16x16 pixels, drawn in milliseconds."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from tiny_parts import assemble_sd, build_clip, build_unet, build_vae

WORDS = ("<end>", "<unk>", "a", "red", "blue", "ball", "box", "house", "on", "the", "and", "word")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that reads 16 tokens."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<end>",
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<unk>",
        model_max_length=16,
    )


def build_base(seed: int = 0) -> StableDiffusionPipeline:
    """UNet with cross-attention of width 12, f2 VAE of 4 channels, CLIP text encoder, DDIM."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        special = dict.fromkeys(["bos_token_id", "eos_token_id", "pad_token_id"], 0)
        return assemble_sd(
            unet=build_unet(
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=12,
                attention_head_dim=4,
            ),
            vae=build_vae(),
            text_encoder=build_clip(12, vocab_size=len(WORDS), initializer_factor=5.0, **special),
            tokenizer=build_tokenizer(),
            scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="v_prediction"),
        )


def save_base(folder: Path, seed: int = 0) -> Path:
    """Save one in the diffusers layout."""
    build_base(seed).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, llm: LanguageModel) -> Path:
    """Save an adapter for `base` and `llm` that visibly changes pictures, without training it."""
    adapter = LLMDiffAdapter.create(load_pipeline(base), llm)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in adapter.trainable_parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    adapter.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Places:
    """Folders of models that fit each other."""

    base: Path
    llm: Path
    adapter: Path


def save_models(root: Path, llm: LanguageModel) -> Places:
    """Save a tiny base model, a copy of `llm`, and an adapter between the two."""
    places = Places(save_base(root / "base"), root / "llm", root / "adapter")
    llm.model.save_pretrained(places.llm)
    llm.tokenizer.save_pretrained(places.llm)
    save_adapter(places.adapter, places.base, LanguageModel.load(str(places.llm)))
    return places
