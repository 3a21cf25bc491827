"""The embedded SigLIP, untrained: a `SiglipModel` for pictures of 64×64, and what prepares its inputs."""

from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer, SiglipConfig, SiglipImageProcessorPil, SiglipModel

from embedded_base.modules import tokenizer
from llmdiff.files import share
from llmdiff.scenes.vocabulary import IMAGE_SIZE
from mini_siglip import data

TOKENS = 56
WIDTH = 128
PATCH = 8
_SEED = 61


def build(words: CLIPTokenizer) -> SiglipModel:
    """1.3 M parameters: 64 patches and 56 tokens, all of which are read, padding included, as in SigLIP.

    ReLU and narrow MLPs, which cost half of what SigLIP's own would on a processor.
    """
    size = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "hidden_act": "relu"}
    special = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {**size, **special, "num_hidden_layers": 2, "vocab_size": len(words), "projection_size": WIDTH}
    vision = {**size, "num_hidden_layers": 4, "image_size": IMAGE_SIZE, "patch_size": PATCH}
    return SiglipModel(SiglipConfig(text_config={**text, "max_position_embeddings": TOKENS}, vision_config=vision))


def caption_tokenizer() -> CLIPTokenizer:
    """A tokenizer learned from 6,000 captions."""
    texts = []
    for number in range(6000):
        rng = np.random.default_rng((_SEED, number))
        texts.append(data.caption(data.sample_scene(rng), rng).text)
    return tokenizer(texts, TOKENS)


def save(model: SiglipModel, words: CLIPTokenizer, folder: Path) -> None:
    """Writes model, tokenizer and image processor, as the Hub has them."""
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    SiglipImageProcessorPil(size=side).save_pretrained(folder)
    share(folder)
