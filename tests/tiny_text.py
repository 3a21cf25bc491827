"""Tiny random text encoders of other architectures than the decoder-only LLM's, for tests."""

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    SiglipTextConfig,
    SiglipTextModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from tiny_llm import build_tokenizer

VOCABULARY = 265
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
SPECIAL = {"pad_token_id": 261, "bos_token_id": 259, "eos_token_id": 260}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, **SPECIAL}
ENCODERS = ("BERT", "RoBERTa", "DistilBERT", "CLIP", "SigLIP")
ENCODER_DECODERS = ("T5", "T5 encoder", "BART")


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """The byte-level tokenizer, which puts a token before and one after every text, as BERT's does."""
    tokenizer = build_tokenizer()
    special = [("<|im_start|>", tokenizer.bos_token_id), ("<|im_end|>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=special
    )
    tokenizer.model_max_length = 60
    return tokenizer


def build_text_model(name: str) -> PreTrainedModel:
    """A random model, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(name).eval()


def _build(name: str) -> PreTrainedModel:
    if name == "BERT":
        return BertModel(BertConfig(**SIZES, max_position_embeddings=64, pad_token_id=261))
    if name == "RoBERTa":
        return RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=330, **SPECIAL))
    if name == "DistilBERT":
        sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4}
        return DistilBertModel(DistilBertConfig(vocab_size=VOCABULARY, **sizes, initializer_range=0.2))
    if name == "CLIP":
        return CLIPTextModel(CLIPTextConfig(**SIZES, max_position_embeddings=77, **SPECIAL))
    if name == "SigLIP":
        return SiglipTextModel(SiglipTextConfig(**SIZES, max_position_embeddings=64, **SPECIAL))
    if name == "BART":
        both = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in BART.items()}
        return BartModel(BartConfig(vocab_size=VOCABULARY, d_model=32, **both, **SPECIAL))
    kind = T5EncoderModel if name == "T5 encoder" else T5ForConditionalGeneration
    return kind(T5Config(**T5, num_decoder_layers=2))


BART = {"layers": 3, "attention_heads": 4, "ffn_dim": 48}


def save_bert(folder: Path) -> Path:
    """A tiny BERT with its tokenizer in a folder."""
    build_text_model("BERT").save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder
