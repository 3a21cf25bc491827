"""The refiner: against a slow reference, and what must hold of any attention over padded prompts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapter.tiny import draw, perturb
from llmdiff.adapter import LLMDiffAdapter, RefinerConfig
from llmdiff.adapter.refiner import Refiner, positions
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

CONFIG = RefinerConfig(blocks=2, width=16)
NARROW = RefinerConfig(blocks=2, width=16, out=3)


def trained(width: int = 8, config: RefinerConfig = CONFIG) -> Refiner:
    """A refiner that changes something."""
    torch.manual_seed(0)
    refiner = Refiner(width, config).eval()
    torch.nn.init.normal_(refiner.leave.weight)
    return refiner


def encoding(*lengths: int, width: int = 8, seed: int = 0) -> Encoding:
    mask = torch.arange(max(1, *lengths)) < torch.tensor(lengths)[:, None]
    embeds = torch.randn(*mask.shape, width, generator=torch.Generator().manual_seed(seed))
    return Encoding(embeds.masked_fill(~mask[..., None], 0), mask)


def slow(refiner: Refiner, c: torch.Tensor) -> torch.Tensor:
    """One prompt's c (S, D) through the blocks as the equations of a pre-norm transformer say, in float64."""
    refiner = refiner.double()
    x = refiner.enter(c.double())
    x = x + positions(x[None])
    for block in refiner.blocks.layers:
        h = block.norm1(x)
        q, k, v = (h @ block.self_attn.in_proj_weight.T + block.self_attn.in_proj_bias).chunk(3, 1)
        heads = []
        for part in range(block.self_attn.num_heads):
            size = q.shape[1] // block.self_attn.num_heads
            at = slice(part * size, (part + 1) * size)
            heads.append((q[:, at] @ k[:, at].T / size**0.5).softmax(1) @ v[:, at])
        x = x + block.self_attn.out_proj(torch.cat(heads, 1))
        x = x + block.linear2(torch.nn.functional.gelu(block.linear1(block.norm2(x))))
    through = c.double() if refiner.narrow is None else refiner.narrow(c.double())
    return through + refiner.leave(refiner.blocks.norm(x))


@pytest.mark.parametrize("out", [None, 8, 5])
def test_it_is_the_transformer_that_its_docstring_says(out: int | None) -> None:
    config = RefinerConfig(blocks=2, width=128, out=out)
    assert config.heads == 2
    given_ = encoding(5)
    said = trained(config=config)(given_).embeds[0]
    expected = slow(trained(config=config), given_.embeds[0])
    assert torch.allclose(said.double(), expected, atol=1e-5)


def test_untrained_it_changes_nothing() -> None:
    given_ = encoding(4, 2, 0)
    assert torch.equal(Refiner(8, CONFIG)(given_).embeds, given_.embeds)


def test_narrowing_starts_with_directions_at_right_angles_and_is_at_most_the_width() -> None:
    refiner, given_ = Refiner(8, NARROW), encoding(4, 2, 0)
    assert torch.allclose(refiner.narrow.weight @ refiner.narrow.weight.T, torch.eye(3), atol=1e-6)
    assert torch.equal(refiner(given_).embeds, refiner.narrow(given_.embeds))
    with pytest.raises(LLMDiffError, match="at most the width of the LLM, 8, not 9"):
        Refiner(8, RefinerConfig(out=9))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.booleans(), st.sampled_from([CONFIG, NARROW]))
def test_a_prompt_does_not_feel_its_neighbours_nor_its_padding(
    lengths: list[int], training: bool, config: RefinerConfig
) -> None:
    refiner, batch = trained(config=config).train(training), encoding(*lengths)
    said = refiner(batch)
    assert said.embeds.isfinite().all()
    assert torch.equal(said.embeds[~batch.mask], torch.zeros_like(said.embeds[~batch.mask]))
    for row, length in enumerate(lengths):
        alone = Encoding(batch.embeds[row : row + 1, :length], batch.mask[row : row + 1, :length])
        if length:
            assert torch.allclose(refiner(alone).embeds[0], said.embeds[row, :length], atol=1e-5)


def test_an_earlier_token_reads_a_later_one_and_their_order() -> None:
    refiner, one = trained(), encoding(5)
    changed = Encoding(one.embeds.clone(), one.mask)
    changed.embeds[0, 4] += 1
    assert (refiner(one).embeds[0, 0] - refiner(changed).embeds[0, 0]).abs().max() > 1e-3
    turned = Encoding(one.embeds[:, [0, 2, 1, 3, 4]], one.mask)
    assert (refiner(one).embeds[0, 0] - refiner(turned).embeds[0, 0]).abs().max() > 1e-3


@given(length=st.integers(2, 200), half=st.integers(4, 64))
def test_no_two_places_are_alike(length: int, half: int) -> None:
    places = positions(torch.zeros(1, length, 2 * half))
    assert torch.cdist(places, places).fill_diagonal_(1).min() > 1e-2


@pytest.mark.parametrize("config", [CONFIG, NARROW])
def test_gradients_reach_everything(config: RefinerConfig) -> None:
    refiner = trained(config=config)
    refiner.train()(encoding(4, 3)).embeds.square().sum().backward()
    for name, parameter in refiner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", [CONFIG, NARROW])
def test_it_is_saved_and_works_in_a_pipeline(mode, sd, make_adapter, tiny_llm, tmp_path, config) -> None:
    adapter = perturb(make_adapter(sd, mode=mode, refiner=config)).attach(sd)
    assert adapter.encode(["a red cup"]).embeds.shape[-1] == (config.out or tiny_llm.width)
    after = draw(sd)
    adapter.detach()
    adapter.save_pretrained(tmp_path)
    again = LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(sd)
    assert torch.equal(draw(sd), after)
    torch.nn.init.zeros_(again.refiner.leave.weight)
    torch.nn.init.zeros_(again.refiner.leave.bias)
    assert not torch.equal(draw(sd), after)
