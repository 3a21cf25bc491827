"""The parts of the embedded base model, untrained: a miniature Stable Diffusion in the diffusers layout.

The return types say Any where diffusers declares no types for what its classes can do.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from embedded_base import data
from llmdiff.scenes.captions import plain_caption

LATENT_CHANNELS = 8
LATENT_SIZE = 16
TEXT_WIDTH = 128
TEXT_TOKENS = 32

_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def autoencoder() -> Any:
    """64×64 pixels to 16×16 latents of 8 channels."""
    return AutoencoderKL(
        sample_size=64,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def unet() -> Any:
    """4 M parameters; cross-attention at 8×8 only."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
    )


def text_encoder(tokenizer: CLIPTokenizer, width: int = TEXT_WIDTH, layers: int = 3) -> CLIPTextModel:
    """A CLIP text model for plain captions of as many tokens as the tokenizer takes."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenizer(captions: Iterable[str], length: int = TEXT_TOKENS) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format, in which every word of `captions` is one token; it takes `length` tokens.

    The trainer finds the merges, and the tokens are numbered here.
    """
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    ends = [letter + _WORD_END for letter in letters if not letter.isupper()]  # texts are lower-cased
    merges: Any = _merges(captions, letters, ends)  # pairs, which transformers takes, though it declares strings
    symbols = [_START, _END, *letters, *ends, *("".join(m) for m in merges)]
    return CLIPTokenizer(
        vocab={symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))},
        merges=merges,
        bos_token=_START,
        eos_token=_END,
        unk_token=_END,
        pad_token=_END,
        model_max_length=length,
    )


def _merges(texts: Iterable[str], letters: list[str], ends: list[str]) -> list[tuple[str, str]]:
    """The byte-pair merges of lower-cased texts, most frequent first, until every word is one token.

    Of merges as frequent as each other the trainer takes that of the lower numbers first. Unless it is given them, it
    numbers letters at a word's end by chance, and "cat" and "car" change places from one process to the next.
    """
    model = Tokenizer(models.BPE(unk_token=_END, end_of_word_suffix=_WORD_END))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=2**16,
        end_of_word_suffix=_WORD_END,
        special_tokens=[_START, _END, *letters, *reversed(ends)],
    )
    model.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(model.to_str())["model"]["merges"]]


def plain_tokenizer() -> CLIPTokenizer:
    """The tokenizer learned from 5,000 plain captions."""
    rng = np.random.default_rng((21, 2))
    return tokenizer(plain_caption(data.scene(21, i), rng).text for i in range(5000))


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids as Stable Diffusion's pipeline makes them: (B, S), padded to the tokenizer's limit."""
    batch = tokenizer(captions, padding="max_length", truncation=True)
    return torch.tensor(batch["input_ids"])


def scheduler() -> Any:
    """Velocity prediction on a schedule that ends in pure noise."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )
