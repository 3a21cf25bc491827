"""Parts of tiny diffusers pipelines with random weights, for tests: built from configs, offline, in milliseconds."""

from typing import Any

from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel


def build_unet(**changes: Any) -> UNet2DConditionModel:
    """A U-Net of two levels, one of which attends to text, for 8 x 8 latents of 4 channels."""
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
    }
    return UNet2DConditionModel(**settings | changes).eval()


def build_vae(levels: int = 2) -> AutoencoderKL:
    """A VAE of 4 latent channels that halves the sides of a picture once less than it has levels."""
    halves = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return AutoencoderKL(
        block_out_channels=(8,) * levels, norm_num_groups=4, latent_channels=4, sample_size=8 * levels, **halves
    ).eval()


def build_clip(width: int, kind: Any = CLIPTextModel, **changes: Any) -> Any:
    """A CLIP text encoder that reads 16 tokens."""
    settings: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "projection_dim": width,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return kind(CLIPTextConfig(**settings | changes)).eval()


def assemble_sd(**parts: Any) -> StableDiffusionPipeline:
    """A Stable Diffusion of its parts, without a safety checker."""
    unused = dict.fromkeys(["safety_checker", "feature_extractor"])
    return silenced(StableDiffusionPipeline(**parts, **unused, requires_safety_checker=False))


def silenced(pipe: DiffusionPipeline) -> Any:
    """A pipeline that shows no bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe
