"""Single-file checkpoints in the layout of the original repositories, made of tiny diffusers pipelines."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from adapter.tiny import POOLED, build_clip_tokenizer, build_sdxl
from tiny_parts import build_clip, build_unet, build_vae

Weights = dict[str, Tensor]
UNET = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}
RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "time_emb_proj.": "emb_layers.1.",
    "conv_shortcut.": "skip_connection.",
}
VAE = {
    "conv_shortcut.": "nin_shortcut.",
    "conv_norm_out.": "norm_out.",
    "mid_block.attentions.0.": "mid.attn_1.",
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "downsamplers.0.": "downsample.",
    "upsamplers.0.": "upsample.",
}
ATTENTION = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.",
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "layer_norm": "ln_",
    "fc1.": "c_fc.",
    "fc2.": "c_proj.",
    "self_attn.": "attn.",
}


def save_checkpoint(pipe: Any, file: Path, metadata: dict[str, str] | None = None, **extra: Tensor) -> Path:
    """Saves a Stable Diffusion 1.x, 2.x or XL as one file: the kind is told by its text encoders."""
    weights = original_unet(pipe.unet) | original_vae(pipe.vae)
    if hasattr(pipe, "text_encoder_2"):
        weights |= clip(pipe.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        weights |= open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    elif pipe.text_encoder is not None and pipe.unet.config.use_linear_projection:
        weights |= open_clip(pipe.text_encoder, "cond_stage_model.model.")
    elif pipe.text_encoder is not None:
        weights |= clip(pipe.text_encoder, "cond_stage_model.transformer.text_model.")
    save_file({name: weight.contiguous() for name, weight in (weights | extra).items()}, file, metadata=metadata)
    return file


def build_small_sdxl() -> StableDiffusionXLPipeline:
    """A random SDXL whose text encoders differ in width, by which diffusers tells them apart."""
    parts = build_sdxl().components | {
        "text_encoder": build_clip(8),
        "text_encoder_2": build_clip(16, CLIPTextModelWithProjection, projection_dim=12),
        "unet": build_unet(**POOLED),
        "vae": build_vae(),
        "tokenizer": build_clip_tokenizer(),
    }
    return StableDiffusionXLPipeline(**parts, add_watermarker=False)


def original_unet(unet: Any) -> Weights:
    """Weights of a U-Net by the names of the original repositories."""
    per_level = unet.config.layers_per_block + 1
    weights = unet.state_dict()
    attending = {name.partition(".attentions.")[0] for name in weights if ".attentions." in name}
    return {
        f"model.diffusion_model.{_unet_name(name, per_level, name.partition('.upsamplers.')[0] in attending)}": weight
        for name, weight in weights.items()
    }


def original_vae(vae: Any) -> Weights:
    """Weights of an autoencoder by the names of the original repositories, its attention as 1 × 1 convolutions."""
    levels = len(vae.config.block_out_channels)
    weights = {}
    for name, weight in vae.state_dict().items():
        changed = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", _replaced(name, VAE)).replace("resnets.", "block.")
        changed = re.sub(r"up_blocks\.(\d+)\.", lambda match: f"up.{levels - 1 - int(match[1])}.", changed)
        if "attn_1" in changed:
            changed = _replaced(changed, ATTENTION)
            weight = weight[..., None, None] if weight.ndim == 2 else weight
        weights[f"first_stage_model.{changed}"] = weight
    return weights


def clip(model: Any, prefix: str) -> Weights:
    """Weights of a CLIP text encoder as transformers named them when the checkpoints were made."""
    return {f"{prefix}{name.removeprefix('text_model.')}": weight for name, weight in model.state_dict().items()}


def open_clip(model: Any, prefix: str) -> Weights:
    """Weights of a CLIP text encoder in OpenCLIP's layout, with fused projections."""
    plain = {name.removeprefix("text_model."): weight for name, weight in model.state_dict().items()}
    weights = {}
    for name, weight in plain.items():
        changed = _replaced(name, OPEN_CLIP)
        if name == "text_projection.weight":
            weights["text_projection"] = weight.T
        elif "q_proj" in name:
            three = [plain[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            weights[changed.replace("q_proj.", "in_proj_")] = torch.cat(three)
        elif "k_proj" not in name and "v_proj" not in name:
            weights[changed] = weight
    weights.setdefault("text_projection", torch.eye(model.config.hidden_size))
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def _unet_name(name: str, per_level: int, attends: bool) -> str:
    """The name of a weight; ``attends`` says whether its level attends to text, which moves the upsampler."""
    block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.", name)
    if block is None:
        changed = _replaced(name, UNET, start=True)
        return _replaced(changed, RESNET) if changed.startswith(("middle_block.0", "middle_block.2")) else changed
    level, kind, layer = int(block[2]), block[3], int(block[4])
    rest = name[block.end() :]
    if kind == "downsamplers":
        return f"input_blocks.{per_level * (level + 1)}.0.{rest.replace('conv.', 'op.')}"
    if kind == "upsamplers":
        return f"output_blocks.{per_level * (level + 1) - 1}.{2 if attends else 1}.{rest}"
    number = per_level * level + layer + (1 if block[1] == "down" else 0)
    side = "input" if block[1] == "down" else "output"
    return f"{side}_blocks.{number}.{0 if kind == 'resnets' else 1}." + (
        _replaced(rest, RESNET) if kind == "resnets" else rest
    )


def _replaced(name: str, names: dict[str, str], start: bool = False) -> str:
    for old, new in names.items():
        name = re.sub(f"^{re.escape(old)}", new, name) if start else name.replace(old, new)
    return name
