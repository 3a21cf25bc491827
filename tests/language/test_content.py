"""An LLM is what its weights are now: nothing comes from a cache that other weights, or another tokenizer, filled."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from llmdiff.hashing import weights_hash
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding, encode
from llmdiff.language.store import SETTING
from tiny_llm import build_llama

PROMPT = "a Cat sat on a mat"
CONFIGS = {
    "plain": ExtractionConfig(),
    "template": ExtractionConfig(template="Say: {prompt}"),
    "chat": ExtractionConfig(template="chat"),
}


def encoded(llm: LanguageModel, config: ExtractionConfig) -> Tensor:
    text_encoding = TextEncoding(config, llm.width, llm.block_count).eval()
    return encode(llm, [PROMPT], config, text_encoding).embeds


def _one_weight(llm: LanguageModel) -> None:
    with torch.no_grad():
        llm.blocks[1].mlp.up_proj.weight[3, 5] += 1


def _one_weight_past_autograd(llm: LanguageModel) -> None:
    llm.blocks[1].mlp.up_proj.weight.data[3, 5] += 1


def _one_weight_by_numpy(llm: LanguageModel) -> None:
    llm.blocks[0].self_attn.v_proj.weight.detach().numpy()[1, 2] += 1


def _one_row(llm: LanguageModel) -> None:
    llm.model.embed_tokens.weight.data[llm.tokenizer.convert_tokens_to_ids("s")] *= 2


def _two_rows(llm: LanguageModel) -> None:
    one, other = (llm.tokenizer.convert_tokens_to_ids(letter) for letter in "so")
    weight = llm.model.embed_tokens.weight.data
    weight[[one, other]] = weight[[other, one]]


def _another_tensor(llm: LanguageModel) -> None:
    layer = llm.blocks[0].self_attn.q_proj
    layer.weight = nn.Parameter(layer.weight.detach() * 2, requires_grad=False)


def _frequencies(llm: LanguageModel) -> None:
    llm.model.rotary_emb.inv_freq *= 0.5


def _epsilon(llm: LanguageModel) -> None:
    for block in llm.blocks:
        block.input_layernorm.variance_epsilon = 0.5


def _lower_case(llm: LanguageModel) -> None:
    llm.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


CHANGES = [
    _one_weight, _one_weight_past_autograd, _one_weight_by_numpy, _one_row, _two_rows, _another_tensor, _frequencies,
    _epsilon, _lower_case,
]  # fmt: skip


@pytest.fixture(params=["memory", "disk"])
def _remembering(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path))
    monkeypatch.setenv(SETTING, "1" if request.param == "disk" else "0")
    yield
    if request.param == "disk":
        assert len(list((tmp_path / "encodings").iterdir())) == 2


@pytest.mark.fault("identity")
@pytest.mark.usefixtures("_remembering")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_llm_is_asked_anew_in_the_process_too(change: Callable[[LanguageModel], None], name: str) -> None:
    llm, other = build_llama(), build_llama()
    before = encoded(llm, CONFIGS[name])
    assert torch.equal(encoded(llm, CONFIGS[name]), before)
    change(llm)
    change(other)
    after = encoded(llm, CONFIGS[name])
    other.encodings.clear()
    assert torch.equal(after, encoded(other, CONFIGS[name]))
    assert not torch.equal(after, before)


@pytest.mark.fault("identity")
@pytest.mark.usefixtures("_remembering")
def test_another_chat_template_is_another_encoding() -> None:
    llm = build_llama()
    before = encoded(llm, CONFIGS["chat"])
    llm.tokenizer.chat_template = llm.tokenizer.chat_template.replace("m['role']", "'you'")
    assert not torch.equal(encoded(llm, CONFIGS["chat"]), before)


def test_an_llm_that_was_let_go_or_offloaded_is_the_same() -> None:
    llm = build_llama()
    content = llm.content()
    assert llm.offload().content() == content
    assert llm.is_offloaded  # it is not brought back to be looked at
    assert llm.to("cpu").content() == content


@pytest.mark.fault("identity")
@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(3,), (700, 7), (5, 1024), (3, 4096), (1, 9000)]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.float64]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    offset=st.integers(0, 3),
)
def test_every_bit_of_every_tensor_counts(
    shape: tuple[int, ...], dtype: torch.dtype, place: float, bit: int, offset: int
) -> None:
    size = torch.Size(shape).numel()
    numbers = torch.arange(size + offset, dtype=torch.float64).mul(37).remainder(101).to(dtype)
    model = nn.Module()
    model.register_buffer("numbers", numbers[offset:].view(shape))
    before = weights_hash(model)
    assert weights_hash(model) == before
    as_bytes = numbers[offset:].view(torch.uint8)
    as_bytes[int(place * len(as_bytes))] ^= 1 << bit
    assert weights_hash(model) != before


@pytest.mark.fault("identity")
@settings(max_examples=40, deadline=None)
@given(one=st.integers(0, 19_999), other=st.integers(0, 19_999))
def test_an_exchange_of_two_numbers_counts(one: int, other: int) -> None:
    model = nn.Module()
    model.register_buffer("numbers", torch.arange(20_000.0))
    before = weights_hash(model)
    model.numbers[[one, other]] = model.numbers[[other, one]]
    assert (weights_hash(model) == before) == (one == other)


def test_a_hash_is_the_same_wherever_a_tensor_begins_in_memory() -> None:
    whole, hashes = torch.arange(20_000.0), set()
    for offset in range(4):
        model = nn.Module()
        memory = torch.cat([torch.zeros(offset), whole])
        model.register_buffer("numbers", memory[offset:])
        hashes.add(weights_hash(model))
    assert len(hashes) == 1


def test_the_fingerprint_is_that_of_the_weights_as_they_are() -> None:
    llm = build_llama()
    before = llm.identity()["fingerprint"]
    llm.content()
    assert llm.identity()["fingerprint"] == before
    llm.blocks[0].self_attn.q_proj.weight.data *= 2
    llm.content()
    assert llm.identity()["fingerprint"] != before


@pytest.mark.fault("identity")
def test_a_changed_number_of_a_packed_weight_counts() -> None:
    """As quantisations pack them: several tensors, of whole numbers and of scales, in one parameter."""
    model = nn.Module()
    model.packed = nn.Parameter(TwoTensor(torch.arange(3000.0), torch.ones(3000)), requires_grad=False)
    hashes = [weights_hash(model)]
    for part in model.packed.__tensor_flatten__()[0]:
        assert weights_hash(model) == hashes[-1]
        getattr(model.packed, part)[3] += 1
        hashes.append(weights_hash(model))
    assert len(set(hashes)) == 3
