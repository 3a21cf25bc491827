"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before they are taken as an update.

All directions of a matrix learn as fast as its strongest, so that a small network learns in a fraction of AdamW's steps
(`README.md` has figures). It differs from `torch.optim.Muon` in that convolutions are matrices too (out, in × height ×
width), that the iteration is in single precision, and in what it costs: it runs on the Gram matrices alone, those of
one size as one batch. With X = M / |M| and A = X Xᵀ, one step of Newton and Schulz, X ← p(A) X with p(A) = a + b A +
c A², takes A to p(A) A p(A), since all of these commute; the product Q of the p(A) is applied to X once, in the end.
"""

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

_STEPS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315  # of the iteration, by Jordan
_OWN_RMS = 0.2  # of AdamW's updates, about, so that one learning rate does for both (Liu et al., 2025)
_OUTER = ("conv_in", "conv_out")  # what reads and writes pictures or latents is better off with AdamW
_LEAST = 16  # rows and columns
_ROWS = 128  # of a block


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and updates as large as AdamW's.

    Args:
        params: matrices (N, M), or kernels of convolutions (N, C, H, W), which are taken for (N, C × H × W).
        lr: learning rate, which may be a tensor.
        momentum: share of the old momentum that is kept.
        weight_decay: share of a weight that is taken off it at each step, times the rate.

    Example:
        >>> optimizer = Muon(matrices(unet), lr=2e-3)
        >>> loss.backward()
        >>> optimizer.step()
    """

    def __init__(self, params: ParamsT, lr: float | Tensor, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # a loss that is computed anew is not asked
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if not trained:
                continue
            grads = [p.grad for p in trained]
            for p in trained:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in trained]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
            updates = orthogonal([u.flatten(1) for u in ahead])
            torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            for p, update in zip(trained, updates, strict=True):
                size = _OWN_RMS * max(update.shape) ** 0.5
                p.sub_(update.reshape(p.shape) * (group["lr"] * size))


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """U S Vᵀ of matrices (N, M) to nearly U Vᵀ: their singular values become some 0.7 to 1.2.

    One with more than 128 rows and columns is taken apart along its narrower side, into blocks of at most so many, each
    of which becomes orthogonal by itself (Khaled et al., 2025): a third of the cost, and no step learns less by it.
    """
    wide = [m.T if m.shape[0] > m.shape[1] else m for m in matrices]
    blocks = [x.tensor_split(-(-len(x) // _ROWS)) for x in wide]
    done = iter(_orthogonal_blocks([block for parts in blocks for block in parts]))
    whole = [torch.cat([next(done) for _ in parts]) for parts in blocks]
    return [x.T if m.shape[0] > m.shape[1] else x for m, x in zip(matrices, whole, strict=True)]


def _orthogonal_blocks(blocks: list[Tensor]) -> list[Tensor]:
    scaled = [x / (x.norm() + 1e-7) for x in blocks]
    done = list(scaled)
    for size in {len(x) for x in scaled}:
        places = [i for i, x in enumerate(scaled) if len(x) == size]
        factors = _iterated(torch.stack([scaled[i] @ scaled[i].T for i in places]))
        for i, factor in zip(places, factors, strict=True):
            done[i] = factor @ scaled[i]
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


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that Muon is for: weights of a network's linear and convolutional layers but the outermost."""
    return [
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and name.rpartition(".")[2] not in _OUTER
        and layer.weight.requires_grad
        and min(layer.weight.flatten(1).shape) >= _LEAST
    ]
