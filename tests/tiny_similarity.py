"""Tiny random models of pictures and texts, in the layout of the Hub."""

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessorPil,
)

from tiny_llm import build_tokenizer
from tiny_text import SIZES, SPECIAL

SIDE = 32
_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = ("siglip", "clip", "pickscore")
"""The last is a CLIP of the kind that PickScore is: another activation, and a projection as wide as its texts."""


def build_similarity(kind: str) -> PreTrainedModel:
    """A model of one of `KINDS`, always the same."""
    torch.manual_seed(0)
    vision = {**_VISION, "image_size": SIDE, "patch_size": 8}
    if kind == "pickscore":
        text = {**SIZES, **SPECIAL, "max_position_embeddings": 77, "hidden_act": "gelu"}
        config = CLIPConfig(text_config=text, vision_config=vision | {"hidden_act": "gelu"}, projection_dim=32)
    elif kind == "clip":
        text = {**SIZES, **SPECIAL, "max_position_embeddings": 77}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    else:
        text = {**SIZES, **SPECIAL, "max_position_embeddings": 64}
        config = SiglipConfig(text_config=text, vision_config=vision)
    return AutoModel.from_config(config).eval()


def save_similarity(folder: Path, kind: str) -> str:
    """Saves a model with tokenizer and image processor, and gives its folder."""
    build_similarity(kind).save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", SPECIAL["eos_token_id"])]
    )
    tokenizer.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    processor = SiglipImageProcessorPil if kind == "siglip" else CLIPImageProcessorPil
    options = {"size": size} if kind == "siglip" else {"size": {"shortest_edge": SIDE}, "crop_size": size}
    processor(**options).save_pretrained(folder)
    return str(folder)
