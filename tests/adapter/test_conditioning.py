"""The encoding behind the text features: what goes in comes out, row by row, whatever is done to the rows."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmdiff.adapter.conditioning import RowCache, Rows, join, mask_of, split
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding


def encoding_of(lengths: list[int], width: int, seed: int = 0) -> Encoding:
    """Random vectors, with junk where there is padding."""
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(len(lengths), max([*lengths, 1]), width, generator=generator) + 0.1
    mask = torch.arange(embeds.shape[1]) < torch.tensor(lengths)[:, None]
    return Encoding(embeds, mask)


sizes = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(0, 9), min_size=1, max_size=4),
        "tokens": st.integers(1, 7),
        "text_width": st.integers(1, 6),
        "encoding_width": st.integers(1, 6),
        "seed": st.integers(0, 9),
    }
)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_what_is_joined_comes_apart_again(case):
    encoding = encoding_of(case["lengths"], case["encoding_width"], case["seed"])
    features = torch.randn(len(encoding), case["tokens"], case["text_width"])
    joined = join(features, encoding)
    found, embeds = split(joined, case["text_width"], case["encoding_width"])
    assert torch.equal(found, features)
    assert embeds.shape[1] >= encoding.embeds.shape[1]
    mask = mask_of(embeds)
    assert torch.equal(mask.sum(1), encoding.mask.sum(1))
    for row in range(len(encoding)):
        assert torch.equal(embeds[row][mask[row]], encoding.embeds[row][encoding.mask[row]])


@settings(max_examples=40, deadline=None)
@given(sizes, st.data())
def test_rows_keep_their_encoding_whatever_is_done_to_them(case, data):
    encoding = encoding_of(case["lengths"], case["encoding_width"], case["seed"])
    features = torch.randn(len(encoding), case["tokens"], case["text_width"])
    order = data.draw(st.lists(st.integers(0, len(encoding) - 1), min_size=1, max_size=6))
    weight = data.draw(st.sampled_from([1.0, 0.5, 2.0]))
    joined = weight * torch.cat([join(features, encoding)[row : row + 1] for row in order])
    found, embeds = split(joined, case["text_width"], case["encoding_width"])
    assert torch.equal(found, weight * features[order])
    for place, row in enumerate(order):
        kept = embeds[place][mask_of(embeds)[place]]
        assert torch.equal(kept, weight * encoding.embeds[row][encoding.mask[row]])


def test_prompts_that_are_put_end_to_end_keep_both_encodings():
    """As long prompts are in chunks that a text encoder can take."""
    encodings = [encoding_of([4], 3, seed) for seed in (0, 1)]
    features = [torch.randn(1, 5, 2) for _ in encodings]
    long = torch.cat([join(*pair) for pair in zip(features, encodings, strict=True)], 1)
    found, embeds = split(long, 2, 3)
    assert torch.equal(found, torch.cat(features, 1))
    assert torch.equal(embeds[mask_of(embeds)], torch.cat([one.embeds[0] for one in encodings]))


@pytest.mark.parametrize("width", [6, 5, 8])
def test_text_features_of_their_own_width_carry_nothing(width):
    plain = torch.randn(2, 4, width)
    features, embeds = split(plain, 6, 3)
    assert features is plain
    assert embeds is None


def test_rows_and_encodings_must_match():
    with pytest.raises(LLMDiffError, match="text features of 3 prompts and encodings of 2"):
        join(torch.zeros(3, 4, 2), encoding_of([1, 2], 3))
    with pytest.raises(LLMDiffError, match="9 vectors of an encoding do not fit"):
        join(torch.zeros(1, 4, 2), encoding_of([9], 3), per_token=2)


@torch.no_grad()
def test_rows_shed_the_padding_that_all_share():
    rows = Rows(*padded([2, 4], 9))
    embeds, bias = rows.compact()
    assert embeds.shape[1] == 8, "a multiple of 8 where there is padding"
    assert (bias[:, 0] == 0).sum(1).tolist() == [2, 4]
    exact, none = Rows(*padded([4, 4], 9)).compact()
    assert (exact.shape[1], none) == (4, None)
    assert Rows(*padded([0, 0], 9)).compact()[0].shape[1] == 8


def padded(lengths: list[int], length: int) -> tuple[Tensor, Tensor]:
    encoding = encoding_of(lengths, 3).pad(length)
    return encoding.embeds.masked_fill(~encoding.mask[..., None], 0), encoding.mask


def known(cache: RowCache, tensor: Tensor) -> bool:
    return cache.get(tensor) is not None


@pytest.mark.parametrize("inference", [False, True])
def test_only_the_very_tensor_is_known_and_only_unchanged(inference):
    with torch.inference_mode(inference):
        cache, joined = RowCache(), torch.randn(2, 4, 5)
        cache.put(joined, joined[..., :2].clone(), Rows(joined[..., 2:].clone(), torch.ones(2, 4).bool()))
        assert known(cache, joined)
        assert not known(cache, joined[:])
        assert not known(cache, joined.clone())
        joined[0, 0, 0] += 1
        assert not known(cache, joined)


def test_nothing_outlives_the_tensor_that_held_it():
    cache, joined = RowCache(), torch.randn(1, 1, 5)
    features, embeds = split(joined, 2, 3)
    rows = Rows(embeds, mask_of(embeds))
    cache.put(joined, features, rows)
    alive = weakref.ref(rows)
    del rows, features, embeds
    gc.collect()
    assert alive() is not None
    del joined
    gc.collect()
    assert alive() is None
