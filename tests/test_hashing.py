"""Hashes are what they were in the first version, whose adapters, caches and runs have recorded them."""

import pytest
import torch
from torch import Tensor, nn

from llmdiff.hashing import exact_hash, json_hash, lines_hash, text_hash, values_hash, weights_hash

TENSORS = {"b": torch.arange(300.0).view(3, 100), "a": torch.arange(4).half()}


def model() -> nn.Module:
    """Weights in two dtypes, and buffers."""
    parts = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for number, weight in enumerate(parts.parameters()):
            weight.copy_(torch.arange(weight.numel()).view(weight.shape) / 8 + number)
    parts[0].half()
    return parts


def test_hashes_are_those_that_the_first_version_recorded() -> None:
    assert exact_hash(sorted(TENSORS.items()))[:32] == "a0c2583805f90e4095e7b884f4ecdee2"
    assert values_hash(TENSORS.items()) == "b0a36aa99c5778bd20123bc422f51ab80844b0783a0c75a2ad7c335a92bc9927"
    sampled = "56a00637f2762a06931a867634b16f6a23c65083bacfc59e27ce9f8ae36682d2"
    assert values_hash(TENSORS.items(), samples=64) == sampled
    assert text_hash("ein Körnchen") == "ded528359a9ac885351a7dee1a0855183e30f699d2717960b87665b3a795f171"
    assert json_hash({"version": 1, "scale": [0.5, None]})[:16] == "920e16e8d102e5ea"
    assert lines_hash([["a red cup"], 1.5])[:16] == "70105de3fb0b0ab6"


@pytest.mark.parametrize("change", [torch.Tensor.double, lambda t: t.flatten(), lambda t: t + 1])
def test_an_exact_hash_depends_on_dtype_shape_and_bits(change: type[Tensor]) -> None:
    assert exact_hash([("b", change(TENSORS["b"]))]) != exact_hash([("b", TENSORS["b"])])
    assert exact_hash([("c", TENSORS["b"])]) != exact_hash([("b", TENSORS["b"])])
    strided = TENSORS["b"].T.contiguous().T
    assert exact_hash([("b", strided)]) == exact_hash([("b", TENSORS["b"])])


def test_a_hash_of_values_depends_neither_on_order_nor_on_a_dtype_that_holds_them() -> None:
    backwards = dict(reversed([(name, tensor.double()) for name, tensor in TENSORS.items()]))
    assert values_hash(backwards.items()) == values_hash(TENSORS.items())


def test_one_bit_of_any_weight_or_buffer_is_another_model() -> None:
    before = weights_hash(model())
    for name in model().state_dict():
        other = model()
        other.state_dict()[name].view(torch.uint8 if other.state_dict()[name].ndim else torch.int64).add_(1)
        assert weights_hash(other) != before, name


def test_text_that_is_no_unicode_has_a_hash() -> None:
    assert text_hash("\udcff") != text_hash("\udcfe")
