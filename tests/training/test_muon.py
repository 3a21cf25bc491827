"""Muon: that its updates are what the singular value decomposition says, and whom it is for."""

import copy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from embedded_base import modules
from llmdiff.errors import LLMDiffError
from llmdiff.training.muon import Muon, matrices, orthogonal
from llmdiff.training.trainer import Trainer
from training.regression import Regression, settings

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


@hypothesis.settings(max_examples=30, deadline=None)
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
    optimizer = Muon([{"params": [weight], "muon": True}], lr=torch.tensor(0.02))
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
    Muon([{"params": [kernel, matrix], "muon": True}], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)


def test_parameters_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(16, 16))
    Muon([{"params": [weight], "muon": True}], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight, torch.ones(16, 16))


def test_other_groups_are_trained_as_by_adamw_alone():
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(20, 20)), nn.Parameter(torch.randn(20))
    alone = nn.Parameter(bias.detach().clone())
    both = Muon([{"params": [weight], "muon": True}, {"params": [bias]}], lr=0.1, weight_decay=0.3, betas=(0.9, 0.99))
    adamw = torch.optim.AdamW([alone], lr=0.1, weight_decay=0.3, betas=(0.9, 0.99))
    for step in range(5):
        for group in (*both.param_groups, *adamw.param_groups):
            group["lr"] = 0.1 / (1 + step)
        weight.grad, bias.grad = torch.randn(20, 20), torch.randn(20)
        alone.grad = bias.grad.clone()
        both.step()
        adamw.step()
    assert torch.allclose(alone, bias)
    assert both.state[weight].keys() == {"momentum"}
    assert both.state[bias].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_a_step_that_is_not_finite_changes_nothing():
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(20, 20)), nn.Parameter(torch.randn(20))
    optimizer = Muon([{"params": [weight], "muon": True}, {"params": [bias]}], lr=0.1, weight_decay=0.3, fused=True)
    for found_inf, scale in ((0.0, 1.0), (1.0, torch.nan), (0.0, 1.0)):
        before = [value.clone() for value in (weight, bias, optimizer.state[weight].get("momentum", weight))]
        weight.grad, bias.grad = scale * torch.randn(20, 20), scale * torch.randn(20)
        optimizer.found_inf = torch.tensor(found_inf)
        optimizer.step()
        after = [weight, bias, optimizer.state[weight]["momentum"]]
        assert all(torch.equal(a, b) == bool(found_inf) for a, b in zip(before, after, strict=True))
        assert all(value.isfinite().all() for value in after)


def test_its_state_can_be_saved_and_loaded():
    def made() -> tuple[list[nn.Parameter], Muon]:
        torch.manual_seed(0)
        weight, bias = nn.Parameter(torch.randn(20, 20)), nn.Parameter(torch.randn(20))
        return [weight, bias], Muon([{"params": [weight], "muon": True}, {"params": [bias]}], lr=0.1)

    def step(parameters: list[nn.Parameter], optimizer: Muon, seed: int) -> None:
        torch.manual_seed(seed)
        for p in parameters:
            p.grad = torch.randn(p.shape)
        optimizer.step()

    (whole, first), (again, second) = made(), made()
    step(whole, first, 1)
    with torch.no_grad():
        for p, value in zip(again, whole, strict=True):
            p.copy_(value)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer in (first, second):
        for group in optimizer.param_groups:
            group["lr"] = 0.02
    step(whole, first, 2)
    step(again, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_it_is_for_inner_weights():
    network = nn.ModuleDict({"unet": modules.unet(), "tokens": nn.Embedding(32, 32), "few": nn.Linear(40, 15)})
    names = {id(p): name for name, p in network.named_parameters()}
    chosen = {names[id(p)] for p in matrices(network)}
    assert "unet.mid_block.resnets.0.conv1.weight" in chosen
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight" in chosen
    assert not any("norm" in name or name.endswith("bias") for name in chosen)
    assert not any(name.startswith(("unet.conv_in", "unet.conv_out", "tokens", "few")) for name in chosen)
    network.requires_grad_(False)
    assert matrices(network) == []


class Deep(Regression):
    """With one matrix for Muon, among others that are too narrow for it."""

    def __init__(self) -> None:
        super().__init__(width=20)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module.insert(1, nn.Linear(20, 20))

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]


def trained(folder: Path, steps: int = 12, optimizer: str = "muon", bad: set[int] | None = None) -> Trainer:
    objective = Deep()
    objective.bad = bad or set()
    trainer = Trainer(objective, settings(steps, optimizer=optimizer, decay=0), folder)
    trainer.resume()
    trainer.run()
    return trainer


def test_a_training_by_muon_goes_on_to_the_bit(tmp_path):
    whole = trained(tmp_path / "whole")
    assert [group.get("muon") for group in whole.optimizer.param_groups] == [True, False]
    assert whole.optimizer.param_groups[1]["rate"] == 0.5
    trained(tmp_path / "parts", 5)
    again = trained(tmp_path / "parts")
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.objective.module.parameters(), again.objective.module.parameters(), strict=True)
    )


def test_a_training_by_muon_leaves_out_steps_that_are_not_finite(tmp_path):
    with pytest.warns(UserWarning, match="Step 4 is skipped"):
        skipped = trained(tmp_path, bad={3})
    assert skipped.skipped == 1
    assert all(p.isfinite().all() for p in skipped.objective.module.parameters())


@pytest.mark.parametrize(("first", "then"), [("muon", "adamw"), ("adamw", "muon")])
def test_a_run_does_not_go_on_with_another_optimizer(tmp_path, first, then):
    trained(tmp_path, 5, first)
    with pytest.raises(LLMDiffError, match=f"is of a training by {first}: set loop.optimizer to that"):
        trained(tmp_path, 12, then)
