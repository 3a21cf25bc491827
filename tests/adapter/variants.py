"""Other pipelines of a family whose denoiser is not quite that of the plain one: of videos, and of few steps."""

from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    LattePipeline,
    LatteTransformer3DModel,
    MotionAdapter,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SCMScheduler,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
)

FRAMES = 3


def animate(kind: Any, **parts: Any) -> Any:
    """A family's own U-Net with motion modules between its layers."""
    torch.manual_seed(1)
    motion = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_mid_block_layers_per_block=1,
        use_motion_mid_block=kind is AnimateDiffPipeline,
    )
    unused = ("safety_checker", "requires_safety_checker", "add_watermarker")
    parts = {name: part for name, part in parts.items() if name not in unused}
    return kind(**parts, motion_adapter=motion)


def build_animatediff(**parts: Any) -> AnimateDiffPipeline:
    return animate(AnimateDiffPipeline, **parts)


def build_animatediff_sdxl(**parts: Any) -> AnimateDiffSDXLPipeline:
    return animate(AnimateDiffSDXLPipeline, **parts)


def build_text_to_video(**parts: Any) -> TextToVideoSDPipeline:
    """ModelScope's: the text encoder of SD 2.x, and a U-Net that repeats its text for every frame by itself."""
    torch.manual_seed(1)
    unet = UNet3DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=24,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    ).eval()
    names = ("vae", "text_encoder", "tokenizer", "scheduler")
    return TextToVideoSDPipeline(**{name: parts[name] for name in names}, unet=unet)


def build_latte(**parts: Any) -> LattePipeline:
    """Latte: PixArt's blocks, and between them some that read across the frames."""
    torch.manual_seed(1)
    transformer = LatteTransformer3DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=3,
        caption_channels=12,
        in_channels=4,
        cross_attention_dim=12,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=FRAMES,
    ).eval()
    names = ("vae", "text_encoder", "tokenizer", "scheduler")
    return LattePipeline(**{name: parts[name] for name in names}, transformer=transformer)


def build_sana_video(**parts: Any) -> SanaVideoPipeline:
    """Sana-Video: one row of tokens for all frames of a video."""
    torch.manual_seed(1)
    transformer = SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=12,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=12,
        sample_size=8,
    ).eval()
    names = ("text_encoder", "tokenizer", "scheduler")
    return SanaVideoPipeline(**{name: parts[name] for name in names}, vae=None, transformer=transformer)


def build_sprint(**parts: Any) -> SanaSprintPipeline:
    """Sana-Sprint: no guidance, no negative prompt, and an ``encode_prompt`` that returns two things and not four."""
    config = {name: value for name, value in parts["transformer"].config.items() if not name.startswith("_")}
    torch.manual_seed(1)
    transformer = SanaTransformer2DModel(**config | {"guidance_embeds": True, "qk_norm": None}).eval()
    return SanaSprintPipeline(**parts | {"transformer": transformer, "scheduler": SCMScheduler()})
