"""The parts of the embedded base of the world of things, untrained: a small Stable Diffusion in the diffusers layout.

The return types say Any where diffusers declares no types for what its classes can do.
"""

from functools import cache
from typing import Any

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from embedded_base import modules
from world import data

LATENT_CHANNELS = 16
TEXT_WIDTH = 192
TEXT_TOKENS = 48

scheduler = modules.scheduler
token_ids = modules.token_ids


def autoencoder(channels: tuple[int, ...] = (16, 48, 96, 144)) -> Any:
    """8×8 pixels to one latent of 16 channels; 3.7 M parameters. Few channels where there are many pixels."""
    return AutoencoderKL(
        sample_size=data.SIZE,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def unet(channels: tuple[int, ...] = (128, 256), layers: int = 2) -> Any:
    """25 M parameters; cross-attention at every level, in heads of 64 channels."""
    return UNet2DConditionModel(
        sample_size=data.SIZE // data.CELL,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        layers_per_block=layers,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(max(1, width // 64) for width in channels),  # which diffusers takes for how many
    )


@cache
def tokenizer() -> CLIPTokenizer:
    """Every word of plain captions is one token, those of all 300 things; others are spelled."""
    return modules.tokenizer(data.plain_phrases(), TEXT_TOKENS)


def text_encoder(layers: int = 4) -> CLIPTextModel:
    """A CLIP text model of 3 M parameters for plain captions."""
    return modules.text_encoder(tokenizer(), TEXT_WIDTH, layers)


def pipeline(vae: Any, text_encoder: CLIPTextModel, unet: Any) -> Any:
    """Parts as a stock pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
