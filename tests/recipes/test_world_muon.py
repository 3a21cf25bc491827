"""Muon: that its updates are what the singular value decomposition says, and whom it is for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from world import modules
from world.muon import Muon, matrices, orthogonal

SIDES = st.integers(1, 300)


def slow(matrix: Tensor) -> Tensor:
    """The same by singular values, in double precision, block by block."""
    if matrix.shape[0] > matrix.shape[1]:
        return slow(matrix.T).T
    if len(matrix) > 128:
        return torch.cat([slow(part) for part in matrix.tensor_split(-(-len(matrix) // 128))])
    u, s, vh = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vh


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.integers(0, 2**31))
def test_updates_are_those_of_the_singular_values(shapes, seed):
    torch.manual_seed(seed)
    given_ = [torch.randn(shape) * 10.0 ** torch.randint(-3, 3, ()) for shape in shapes]
    for matrix, found in zip(given_, orthogonal(given_), strict=True):
        assert found.shape == matrix.shape
        assert torch.allclose(found.double(), slow(matrix), atol=2e-4)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_matrices_without_full_rank_stay_finite(rank):
    torch.manual_seed(0)
    matrix = torch.randn(40, rank) @ torch.randn(rank, 90)
    (found,) = orthogonal([matrix])
    assert found.isfinite().all()
    values = torch.linalg.svdvals(found)
    assert ((values > 0.6) & (values < 1.3)).sum() == rank
    assert (values[rank:] < 0.05).all()


def test_every_direction_learns_as_fast():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(20, 20))
    steep = torch.diag(torch.logspace(0, -1, 20))  # gradients are a hundred times as large along the first
    optimizer = Muon([weight], lr=torch.tensor(0.02))
    for _ in range(150):
        optimizer.zero_grad()
        (steep @ (weight - torch.eye(20))).square().sum().backward()
        optimizer.step()
    assert (weight.detach().diag() - 1).abs().max() < 0.3


def test_a_kernel_is_a_matrix_of_its_outputs():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(20, 8, 3, 3).contiguous(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(20, 8, 3, 3)
    matrix.grad = kernel.grad.flatten(1).clone()
    Muon([kernel, matrix], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)


def test_parameters_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(16, 16))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight, torch.ones(16, 16))


def test_it_is_for_inner_weights():
    unet, text_encoder = modules.unet((32, 64), 1), modules.text_encoder(1)
    for network in (unet, text_encoder):
        names = {id(p): name for name, p in network.named_parameters()}
        chosen = {names[id(p)] for p in matrices(network)}
        assert chosen
        assert not any("embed_tokens" in name or "embedding.weight" in name or name.endswith("bias") for name in chosen)
        assert not any(name.startswith(("conv_in", "conv_out")) for name in chosen)
    unet.requires_grad_(False)
    assert matrices(unet) == []
