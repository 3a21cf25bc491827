"""Models of random weights in the shapes of well-known ones, made where they are to run: nothing is fetched.

What they cost is what the well-known ones cost; what they say and draw is noise.
"""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from llmdiff.base import ImageModel
from llmdiff.bench.measure import check_room
from llmdiff.language import LanguageModel
from llmdiff.models import shipped_base

LLMS: dict[str, dict[str, Any]] = {
    "smollm2": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
"""Configurations of LLMs of Llama's kind."""

DENOISERS: dict[str, dict[str, Any]] = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "pixart": {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 28,
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "cross_attention_dim": 1152,
        "caption_channels": 4096,
        "use_additional_conditions": False,
    },
}
"""Configurations of denoisers: of PixArt's transformer, if they have captions' channels, else of a U-Net."""

_PIPELINES: dict[str, tuple[Any, tuple[str, ...]]] = {  # and what they have beside denoiser and VAE
    "sd15": (StableDiffusionPipeline, ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")),
    "sdxl": (StableDiffusionXLPipeline, ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")),
    "pixart": (PixArtSigmaPipeline, ("text_encoder", "tokenizer")),
}


def random_llm(config: LlamaConfig, name: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """An LLM of random weights, that splits prompts as the embedded base model does.

    Raises:
        DoesNotFitError: there is no room for its weights.
    """
    with torch.device("meta"):
        model: Any = LlamaModel(config)
    model = _random(model, device, dtype)
    with torch.no_grad():
        model.rotary_emb = type(model.rotary_emb)(config).to(device)
    return LanguageModel.from_model(model, AutoTokenizer.from_pretrained(shipped_base() / "tokenizer"), name)


def llm(shape: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """The random LLM of a shape, see `LLMS`.

    Raises:
        DoesNotFitError: there is no room for its weights.
    """
    return random_llm(LlamaConfig(vocab_size=32_000, **LLMS[shape]), shape, device, dtype)


def denoiser(shape: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The random denoiser of a shape, see `DENOISERS`, frozen.

    Raises:
        DoesNotFitError: there is no room for its weights.
    """
    config = DENOISERS[shape]
    kind: Any = PixArtTransformer2DModel if "caption_channels" in config else UNet2DConditionModel
    with torch.device("meta"):
        model = kind(**config)
    return _random(model, device, dtype)


def image_model(model: Any) -> ImageModel:
    """The image model of a pipeline of which there is nothing but the denoiser."""
    part = "transformer" if isinstance(model, PixArtTransformer2DModel) else "unet"
    pipe = SimpleNamespace(components={part: model}, vae_scale_factor=8, scheduler=_schedule())
    setattr(pipe, part, model)
    return ImageModel(pipe)


def pipeline(shape: str, device: torch.device) -> Any:
    """A pipeline of a random denoiser and a VAE as Stable Diffusion's, in float32, without text encoders.

    Raises:
        DoesNotFitError: there is no room for its weights.
    """
    kind, absent = _PIPELINES[shape]
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        vae: Any = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, **blocks
        )
    parts: dict[str, Any] = dict.fromkeys(absent)
    model = denoiser(shape, device, torch.float32)
    parts |= {
        "transformer" if shape == "pixart" else "unet": model,
        "vae": _random(vae, device, torch.float32),
        "scheduler": _schedule(),
    }
    more: dict[str, Any] = {"requires_safety_checker": False} if "safety_checker" in absent else {}
    pipe: Any = kind(**parts, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _schedule() -> DDIMScheduler:
    """Stable Diffusion's."""
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**betas, steps_offset=1, clip_sample=False)


def _random(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of the meta device with random weights, frozen."""
    model = nn.Module.to(model, dtype)  # diffusers' own warns of parts that none of these has
    check_room(sum(part.numel() * part.element_size() for part in model.parameters()), device)
    model = model.to_empty(device=device)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(not path.endswith("bias"))
        for buffer in model.buffers():
            buffer.zero_()
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen
