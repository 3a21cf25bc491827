"""Random numbers are functions of what they are for: the whole key of a generator, the seed and number of a sample."""

import pytest
import torch

from llmdiff.training.randomness import Streams, generator


def test_generators_depend_on_the_whole_key():
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2**40, 3)]
    drawn = [torch.rand(4, generator=generator(*key)) for key in keys]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert torch.equal(torch.rand(4, generator=generator(1, 1)), drawn[3])


def draw(seed: int, samples: list[int]) -> list[torch.Tensor]:
    """Everything that can be drawn, in one order; the third sample of the run always has two tokens."""
    rng = Streams(seed, samples)
    mask = torch.arange(5) < torch.tensor([2 if n == 3 else n % 5 + 1 for n in samples])[:, None]
    return [rng.normal(4, 3), rng.integers(1000), rng.uniform(), rng.normal(), rng.normal_where(mask, 7)]


def test_a_sample_gets_the_same_numbers_whatever_is_beside_it():
    whole = draw(0, [0, 1, 2, 3, 4])
    for samples in ([3], [4, 3], [1, 3, 9], [0, 1, 2, 3, 4]):
        place = samples.index(3)
        assert all(torch.equal(part[place], all_[3]) for part, all_ in zip(draw(0, samples), whole, strict=True))
    assert all(not torch.equal(part[0], all_[3]) for part, all_ in zip(draw(1, [3]), whole, strict=True))
    assert not torch.equal(whole[0][1], whole[0][2])


@pytest.mark.parametrize("width", [1, 3, 40])
def test_padding_takes_no_numbers(width: int):
    """The numbers of a sample's own tokens do not depend on how far it is padded, nor on which side."""
    own = torch.tensor([[True] * 3])
    right, left = torch.zeros(1, 9, dtype=torch.bool), torch.zeros(1, 9, dtype=torch.bool)
    right[:, :3] = left[:, 6:] = True
    alone = Streams(0, [7]).normal_where(own, width)
    assert torch.equal(Streams(0, [7]).normal_where(right, width)[:, :3], alone)
    assert torch.equal(Streams(0, [7]).normal_where(left, width)[:, 6:], alone)
    assert not Streams(0, [7]).normal_where(left, width)[:, :6].any()


def test_numbers_have_their_distributions():
    rng = Streams(0, range(4000))
    normal, uniform, whole = rng.normal(2), rng.uniform(2), rng.integers(10, 2)
    assert normal.shape == uniform.shape == whole.shape == (4000, 2)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() <= 1
    assert whole.unique().tolist() == list(range(10))
