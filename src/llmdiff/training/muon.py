"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before they are taken as an update.

All directions of a matrix learn as fast as its strongest, which takes fewer steps than AdamW (docs/training.md has
figures). It differs from `torch.optim.Muon` in that kernels of convolutions are matrices too, in that what is no matrix
is trained beside them by AdamW, in single precision, and in its cost: the iteration runs on Gram matrices alone, those
of matrices of one shape as one batch. With X = M / |M| and A = X Xᵀ, one step of Newton and Schulz, X ← p(A) X with
p(A) = a + b A + c A², takes A to p(A) A p(A), since all of these commute; the product Q of the p(A) is applied to X
once, in the end.
"""

from typing import Any

import torch
from torch import Tensor, nn

_STEPS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315  # of the iteration, by Jordan
_OWN_RMS = 0.2  # of AdamW's updates, about, so that one weight decay does for both (Liu et al., 2025)
_MOMENTUM = 0.95
_OUTER = ("conv_in", "conv_out")  # what reads and writes pictures or latents is better off with AdamW
_LEAST = 16  # rows and columns of a matrix
_ROWS = 128  # of a block


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and updates as large as AdamW's, and AdamW for groups without `muon`.

    Like a fused optimizer of torch's, it leaves a step out where the attribute `found_inf`, a tensor, is 1.

    Args:
        groups: of parameters; those with `"muon": True` are matrices (N, M), or kernels (N, C, H, W), which are taken
            for (N, C × H × W).
        lr: learning rate of groups that have none of their own; a tensor where a CUDA graph is to read it.
        weight_decay: share of a weight that is taken off it at each step, times the rate.
        adamw: more arguments of `torch.optim.AdamW`.

    Example:
        >>> weight, bias = nn.Linear(32, 32).parameters()
        >>> optimizer = Muon([{"params": [weight], "muon": True}, {"params": [bias]}], lr=3e-3)
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float | Tensor, weight_decay: float = 0.0, **adamw: Any
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "muon": False})
        self._adamw: Any = None
        if others := [group for group in self.param_groups if not group["muon"]]:
            self._adamw = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, **adamw)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # a loss that is computed anew is not asked
        """One update of all parameters that have a gradient."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if trained and group["muon"]:
                self._update(trained, group, found_inf)
        if self._adamw:
            self._adamw.found_inf = found_inf
            self._adamw.state = self.state  # which load_state_dict exchanges, and the groups
            self._adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
            self._adamw.step()

    def _update(self, trained: list[Tensor], group: dict[str, Any], found_inf: Tensor | None) -> None:
        for p in trained:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in trained]
        grads = [p.grad for p in trained if p.grad is not None]
        rate = group["lr"]
        if found_inf is not None:  # the momentum stays: it is averaged with itself
            grads = [torch.where(found_inf == 0, grad, m) for grad, m in zip(grads, momenta, strict=True)]
            rate = rate * (found_inf == 0)
        torch._foreach_lerp_(momenta, grads, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(grads, momenta, _MOMENTUM)
        torch._foreach_mul_(trained, 1 - rate * group["weight_decay"])
        updates = orthogonal([u.flatten(1) for u in ahead])
        torch._foreach_mul_(updates, [_OWN_RMS * max(update.shape) ** 0.5 for update in updates])
        torch._foreach_mul_(updates, rate)
        torch._foreach_sub_(trained, [u.reshape(p.shape) for p, u in zip(trained, updates, strict=True)])


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """U S Vᵀ of matrices (N, M) to nearly U Vᵀ: their singular values become some 0.7 to 1.2.

    One with more than 128 rows and columns is taken apart along its narrower side, into blocks of at most so many, each
    of which becomes orthogonal by itself (Khaled et al., 2025): a third of the cost for a U-Net 256 channels wide.
    """
    wide = [m.T if m.shape[0] > m.shape[1] else m for m in matrices]
    blocks = [x.tensor_split(-(-len(x) // _ROWS)) for x in wide]
    done = iter(_orthogonal_blocks([block for parts in blocks for block in parts]))
    whole = [torch.cat([next(done) for _ in parts]) for parts in blocks]
    return [x.T if m.shape[0] > m.shape[1] else x for m, x in zip(matrices, whole, strict=True)]


def _orthogonal_blocks(blocks: list[Tensor]) -> list[Tensor]:
    done = list(blocks)
    for shape in {x.shape for x in blocks}:
        places = [i for i, x in enumerate(blocks) if x.shape == shape]
        x = torch.stack([blocks[i] for i in places])
        x /= torch.linalg.matrix_norm(x, keepdim=True) + 1e-7
        for i, block in zip(places, _iterated(x @ x.mT) @ x, strict=True):
            done[i] = block
    return done


def _iterated(grams: Tensor) -> Tensor:
    """Q of Gram matrices (K, N, N)."""
    product = None
    for step in range(_STEPS):
        p = torch.baddbmm(grams, grams, grams, beta=_B, alpha=_C)
        p.diagonal(dim1=-2, dim2=-1).add_(_A)
        product = p if product is None else p @ product
        if step < _STEPS - 1:
            grams = p @ grams @ p
            grams = (grams + grams.mT) / 2  # against rounding
    assert product is not None
    return product


def matrices(module: nn.Module) -> list[Tensor]:
    """The parameters that Muon is for: weights of a network's linear and convolutional layers but the outermost."""
    return [
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and name.rpartition(".")[2] not in _OUTER
        and layer.weight.requires_grad
        and min(layer.weight.flatten(1).shape) >= _LEAST
    ]
