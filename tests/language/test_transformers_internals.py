"""What is taken from the inside of transformers is there and means what it is taken for: one test for each."""

import copy
import inspect
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, MptConfig, MptForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from language.families import ALIBI, FAMILIES, RECURRENT, build
from llmdiff.language import LanguageModel
from llmdiff.language import transformers_internals as internals
from llmdiff.language.blocks import find_blocks
from tiny_gguf import write_gguf

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def stack(family: str, **options: Any) -> PreTrainedModel:
    return build(family, (FAMILIES | ALIBI | RECURRENT)[family], torch.float32, **options).get_decoder()


def first_call(model: PreTrainedModel, **options: Any) -> tuple[dict[str, Any], Any]:
    """The arguments by name, and the result, of the first block's call."""
    calls: list[tuple[dict[str, Any], Any]] = []

    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        arguments = inspect.signature(block.forward).bind(*args, **kwargs).arguments
        calls.append(({**arguments, **arguments.pop("kwargs", {})}, output))

    with torch.no_grad(), find_blocks(model)[0].register_forward_hook(hook, with_kwargs=True):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options)
    return calls[0]


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Gemma3Text", "Bloom", "Falcon", "GptOss"])
def test_attention_mask(family: str) -> None:
    arguments, _ = first_call(stack(family, attn_implementation="eager"), use_cache=False)
    mask = arguments[internals.ATTENTION_MASK]
    assert isinstance(mask, Tensor)
    assert mask.dim() == 4


def test_sequence_bound_and_unknown_bias() -> None:
    model = stack("Gemma4Text")
    assert "shared_kv_states" in inspect.signature(find_blocks(model)[0].forward).parameters
    assert isinstance(first_call(stack("Bloom"), use_cache=False)[0]["alibi"], Tensor)
    mpt = MptForCausalLM(MptConfig(vocab_size=265, d_model=32, n_heads=4, n_layers=2, max_seq_len=64)).eval()
    assert isinstance(first_call(mpt.get_decoder(), use_cache=False)[0][internals.UNKNOWN_BIAS], Tensor)


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Falcon"])
def test_is_context(family: str) -> None:
    arguments, _ = first_call(stack(family, attn_implementation="eager"), use_cache=True)
    context = {name for name, value in arguments.items() if internals.is_context(name, value)}
    assert any(isinstance(arguments[name], Cache) for name in context)
    assert internals.ATTENTION_MASK in context
    rest = [value for name, value in arguments.items() if name not in context]
    assert not any(isinstance(value, Tensor) and value.shape[-2:] == (5, 5) for value in rest)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states(family: str) -> None:
    model = stack(family)
    _, output = first_call(model, use_cache=False)
    assert internals.hidden_states(output).shape == (1, 5, model.config.hidden_size)


@pytest.mark.parametrize(
    ("family", "only"), [("Llama", True), ("Gemma2", True), ("Bloom", False), ("Gemma4Text", False)]
)
def test_takes_keys_and_values_only(family: str, only: bool) -> None:
    assert internals.takes_keys_and_values_only(find_blocks(stack(family))[0]) is only


@torch.no_grad()
@pytest.mark.parametrize("family", ["Llama", "GPT2", "Gemma2", "OPT"])
def test_cache_options(family: str) -> None:
    model = stack(family)
    whole = model(input_ids=IDS, **internals.cache_options(model, None))
    assert all(not isinstance(value, Cache) for value in whole.values())
    cache = DynamicCache(config=model.config)
    model(input_ids=IDS[:, :3], **internals.cache_options(model, cache))
    rest = model(input_ids=IDS[:, 3:], attention_mask=torch.ones_like(IDS), **internals.cache_options(model, cache))
    torch.testing.assert_close(rest[0], whole[0][:, 3:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "all_of_it"),
    [("Llama", True), ("GPT2", True), ("Mistral", False), ("Lfm2", False), ("Qwen3Next", False)],
)
def test_holds_all(family: str, all_of_it: bool) -> None:
    model = stack(family)
    cache = DynamicCache(config=model.config)
    model(input_ids=IDS, **internals.cache_options(model, cache))
    assert internals.holds_all(cache, model.config.num_hidden_layers, 5) is all_of_it
    assert not internals.holds_all(cache, model.config.num_hidden_layers, 6)
    assert not internals.holds_all(cache, model.config.num_hidden_layers + 1, 5)


def test_attention_implementation() -> None:
    for name in ("eager", "sdpa"):
        assert internals.attention_implementation(stack("Llama", attn_implementation=name).config) == name


def test_input_device(tiny_llm: LanguageModel) -> None:
    model = copy.deepcopy(tiny_llm.model)
    assert internals.input_device(model) == torch.device("cpu")
    offloaded = accelerate.cpu_offload(model, torch.device("cpu"))
    assert offloaded.device.type == "meta"
    assert internals.input_device(offloaded) == torch.device("cpu")


@pytest.mark.parametrize("shown", [True, False])
def test_obey_progress_bar_setting(
    shown: bool, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tmp_path / "tiny.gguf", tokenizer)
    before = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        LanguageModel.load(str(tmp_path / "tiny.gguf"))
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
    error = capfd.readouterr().err
    assert ("de-quantizing" in error) is shown
    assert ("%|" in error) is shown


@pytest.mark.parametrize("family", FAMILIES)
def test_with_hidden_states(family: str) -> None:
    _, output = first_call(stack(family), use_cache=False)
    other = torch.zeros(1)
    changed = internals.with_hidden_states(output, other)
    assert type(changed) is type(output)
    assert internals.hidden_states(changed) is other


def test_attention_watched() -> None:
    """What is seen of an attention is its values, also those of a cache, and how many heads ask for how many tokens."""
    model, seen = stack("Llama"), list[internals.Attended]()
    cache = DynamicCache(config=model.config)
    with torch.no_grad(), internals.attention_watched(seen.append):
        for ids in (IDS[:, :2], IDS[:, 2:]):
            model(input_ids=ids, **internals.cache_options(model, cache))
    with torch.no_grad():
        model(input_ids=IDS, use_cache=False)
    assert len(seen) == 2 * len(find_blocks(model))
    first, later = seen[0], seen[len(find_blocks(model))]
    assert first.module is later.module is find_blocks(model)[0].self_attn
    assert (first.value.shape, first.heads, first.length, first.sinks) == ((1, 2, 2, 8), 4, 2, False)
    assert (later.value.shape, later.heads, later.length) == ((1, 2, 5, 8), 4, 3)
    attention = torch.rand(*later.shape)
    both, alone = later.pair(attention)
    assert torch.equal(both, attention[0])
    values = later.value[0, :, -3:].repeat_interleave(2, 0)  # of each head of a group the same
    assert torch.equal(alone, values.transpose(0, 1).flatten(1))
