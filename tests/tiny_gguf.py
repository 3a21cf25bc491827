"""A tiny random Llama in a GGUF file, for tests: written offline in milliseconds."""

from pathlib import Path

import gguf
import numpy as np
from transformers import PreTrainedTokenizerFast

WIDTH, HIDDEN, BLOCKS = 32, 64, 2


def write_gguf(path: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, np.ndarray]:
    """A tiny random Llama in GGUF, and its tensors."""
    random = np.random.default_rng(0)
    vocab = tokenizer.get_vocab()
    shapes = {"token_embd.weight": (len(vocab), WIDTH), "output_norm.weight": (WIDTH,)}
    for block in range(BLOCKS):
        own = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
        own |= {"attn_output": (WIDTH, WIDTH), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        own |= {"ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in own.items()}
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocab))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    special = set(tokenizer.all_special_tokens)
    writer.add_token_types([3 if token in special else 1 for token in sorted(vocab, key=vocab.__getitem__)])
    writer.add_token_merges(["Ġ a", "Ġ c", "a t"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors
