"""Tiny real pipelines, built from configs offline, and ways to draw with them."""

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from llmdiff.adapter import LLMDiffAdapter
from tiny_base import build_tokenizer

PROMPT = "a red cup"
CONTEXT_WIDTH = 24


def build_clip_tokenizer() -> CLIPTokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz,."
    symbols = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], model_max_length=16)


def clip_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def build_unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": CONTEXT_WIDTH,
    }
    return UNet2DConditionModel(**settings | changes).eval()


def build_vae() -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16, **blocks)


def build_sd(seed: int = 0, **unet_changes: Any) -> StableDiffusionPipeline:
    """A random Stable Diffusion of 8 x 8 latents with three cross-attention layers and more."""
    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline(
        vae=build_vae(),
        text_encoder=CLIPTextModel(clip_config(CONTEXT_WIDTH)).eval(),
        tokenizer=build_clip_tokenizer(),
        unet=build_unet(**unet_changes),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_sdxl(**unet_changes: Any) -> StableDiffusionXLPipeline:
    """A random SDXL: two text encoders, a pooled vector and two transformer blocks per layer."""
    torch.manual_seed(0)
    unet = build_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
        transformer_layers_per_block=2,
        use_linear_projection=True,
        **unet_changes,
    )
    pipe = StableDiffusionXLPipeline(
        vae=build_vae(),
        text_encoder=CLIPTextModel(clip_config(12)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(12)).eval(),
        tokenizer=build_clip_tokenizer(),
        tokenizer_2=build_clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_pixart() -> PixArtSigmaPipeline:
    """A random PixArt-Sigma: a transformer that projects its text features and learns its sigmas."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=8,
        use_additional_conditions=False,
    ).eval()
    t5 = T5Config(vocab_size=64, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    pipe = PixArtSigmaPipeline(
        build_clip_tokenizer(), T5EncoderModel(t5).eval(), build_vae(), transformer, DDIMScheduler(clip_sample=False)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_sana() -> SanaPipeline:
    """A random Sana: linear self-attention, cross-attention with heads of its own, and a flow for a prediction."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=4,
        cross_attention_head_dim=4,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=8,
    ).eval()
    gemma = Gemma2Config(
        vocab_size=64,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    two = {"block_types": "ResBlock", "block_out_channels": (8, 8), "layers_per_block": (1, 1)}
    halves = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in two.items()}
    vae = AutoencoderDC(
        latent_channels=4, encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), **halves
    ).eval()
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = SanaPipeline(build_tokenizer(), Gemma2Model(gemma).eval(), vae, transformer, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: DiffusionPipeline, prompt: Any = PROMPT, seed: int = 7, **options: Any) -> Tensor:
    """The latents that a pipeline ends with: (B, 4, 8, 8)."""
    settings = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16}
    return pipe(prompt, generator=torch.Generator().manual_seed(seed), **settings | options).images


def perturb(adapter: LLMDiffAdapter, seed: int = 0, size: float = 0.3) -> LLMDiffAdapter:
    """Moves every parameter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return adapter
