"""A start in closed form, before the first step: φ of replace mode (docs/method.md section 3).

φ is fitted by ridge regression from the LLM's encoding c, at its start, to the base's own text features of the same
captions. Each LLM token is paired with the place at the same share of all that the base attends to, the last with the
last. That counts padding where the base attends to it, as Stable Diffusion does: CLIP's padding has read the whole
caption, and the prediction hangs on it. The strength of the ridge is that with the least error on held-out captions.

Measured on the embedded base with SmolLM2-135M, 360 captions to fit on and 24 others: the squared distance of the
prediction to that under the base's own features, in units of the distance under the empty prompt's. An untrained φ:
1.01; this pairing: 0.13 (0.04 if the features were hit exactly); tokens paired by their place in the text, without
padding: 0.93 (0.91), though its error as a regression is less (0.22 of the variance; here 0.60).

A refiner that narrows the encoding starts with the directions of c that this prediction needs (reduced-rank
regression), and φ is fitted to what is left of c.

Letters in shapes: n pairs, D LLM width, E width of a narrowed encoding, W width of the base's text features (or P of
its pooled vector), S tokens of a caption.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.conditioning import last_token
from llmdiff.base import ImageModel, Inputs
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, TextEncoding
from llmdiff.precompute import Terms
from llmdiff.progress import Progress

CAPTIONS = 2000
"""Captions that are enough to fit on: some 20,000 pairs for as many unknowns as an LLM is wide."""

_BATCH = 32
_HELD_OUT = 10  # every tenth caption
_STRENGTHS = tuple(10.0**k for k in range(-6, 2))  # of the ridge, in units of the mean variance of c


def fitting_captions(captions: Iterable[str], base_captions: Iterable[str], count: int = CAPTIONS) -> list[str]:
    """Captions to fit on, in the base's own words; first those that the LLM reads anyway."""
    own, read = set(base_captions) - {""}, set(captions)
    return sorted(own, key=lambda text: (text not in read, text))[:count]


def fit(
    adapter: LLMDiffAdapter, base: ImageModel, terms: Terms, captions: Sequence[str], report: Progress
) -> dict[str, float]:
    """Sets φ, and the pooled head where there is one, to the best linear guess of the output of the base's encoders.

    Args:
        adapter: in replace mode, untrained.
        base: its base model.
        terms: of the captions.
        captions: those to fit on.
        report: called with the progress.

    Returns:
        For ``phi`` and ``pool``, the squared error on held-out captions as a share of the variance.

    Raises:
        LLMDiffError: There are too few captions, or the adapter has no φ.
    """
    if adapter.phi is None or len(captions) < _HELD_OUT:
        raise LLMDiffError(
            f"warm_start: ridge fits φ of replace mode on at least {_HELD_OUT} captions: set warm_start to none."
        )
    heads: dict[str, nn.Linear] = {"phi": adapter.phi} | ({"pool": adapter.pool} if adapter.pool else {})
    moments = {
        name: (Moments(adapter.llm.width, head.out_features), Moments(adapter.llm.width, head.out_features))
        for name, head in heads.items()
    }
    for begin in range(0, len(captions), _BATCH):
        report("Fitting φ to the base model's text encoder", begin / len(captions))
        batch = list(captions[begin : begin + _BATCH])
        for place, pairs in enumerate(_pairs(adapter, base, terms, batch)):
            held_out = (begin + place) % _HELD_OUT == 0
            for name, (x, y) in pairs.items():
                moments[name][held_out].add(x, y)
    narrow = None if adapter.refiner is None else adapter.refiner.narrow
    if narrow is not None:
        _aim(narrow, *moments["phi"])
        moments = {name: (fitted.through(narrow), held.through(narrow)) for name, (fitted, held) in moments.items()}
    return {name: _solve(heads[name], *both) for name, both in moments.items()}


class Moments:
    """Sums over pairs from which both the ridge's solution and its error follow."""

    def __init__(self, width_in: int, width_out: int) -> None:
        width = width_in + 1  # a column of ones for the bias
        self.xx = torch.zeros(width, width, dtype=torch.float64)
        self.xy = torch.zeros(width, width_out, dtype=torch.float64)
        self.yy = torch.zeros(width_out, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds pairs x (n, D) and y (n, W)."""
        x, y = torch.cat([x, x.new_ones(len(x), 1)], 1).double().cpu(), y.double().cpu()
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)

    def through(self, narrow: nn.Linear) -> "Moments":
        """Of N x in place of x."""
        weight = torch.block_diag(narrow.weight.detach().double().cpu(), torch.ones(1, 1, dtype=torch.float64))
        after = Moments(narrow.out_features, len(self.yy))
        after.xx, after.xy, after.yy = weight @ self.xx @ weight.T, weight @ self.xy, self.yy
        return after

    @property
    def count(self) -> float:
        """n."""
        return float(self.xx[-1, -1])

    def variance(self) -> float:
        """The sum of squared differences of y from its mean."""
        return float((self.yy - self.xy[-1].square() / self.count).sum())

    def error(self, solution: Tensor) -> float:
        """The sum of squared errors of a solution (D + 1, W)."""
        return float(self.yy.sum() - 2 * (solution * self.xy).sum() + (solution * (self.xx @ solution)).sum())

    def ridge(self, strength: float) -> Tensor:
        """The solution (D + 1, W) of a ridge that leaves the bias free."""
        variance = (self.xx.diagonal()[:-1] - self.xx[-1, :-1].square() / self.count).mean()
        penalty = torch.full((len(self.xx),), float(strength * variance), dtype=torch.float64)
        penalty[-1] = 0
        return torch.linalg.solve(self.xx + penalty.diag(), self.xy)


def _solve(head: nn.Linear, fitted: Moments, held_out: Moments) -> float:
    solution = _best(fitted, held_out)
    with torch.no_grad():
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
    return held_out.error(solution) / held_out.variance()


def _best(fitted: Moments, held_out: Moments) -> Tensor:
    """The ridge's solution (D + 1, W) of the strength with the least error on held-out captions."""
    return min((fitted.ridge(strength) for strength in _STRENGTHS), key=held_out.error)


def _aim(narrow: nn.Linear, fitted: Moments, held_out: Moments) -> None:
    """Turns N's directions to those of c on which the ridge's prediction rests, the weightiest first.

    Those are the first of the principal components of the prediction, and if N has room for more, directions at right
    angles to them.
    """
    solution = _best(fitted, held_out)[:-1]
    mean = fitted.xx[-1, :-1, None] / fitted.count
    covariance = fitted.xx[:-1, :-1] / fitted.count - mean @ mean.T
    components = torch.linalg.eigh(solution.T @ covariance @ solution).eigenvectors.flip(1)[:, : narrow.out_features]
    needed = solution @ components
    spare = narrow.weight.detach().double().cpu().T[:, needed.shape[1] :]
    with torch.no_grad():
        narrow.weight.copy_(torch.linalg.qr(torch.cat([needed, spare], 1)).Q.T)


@torch.no_grad()
def _pairs(
    adapter: LLMDiffAdapter, base: ImageModel, terms: Terms, captions: list[str]
) -> list[dict[str, tuple[Tensor, Tensor]]]:
    """The pairs of each caption: c (S, D) with text features (S, W), and the last c with the pooled vector."""
    encoding = _encoding(adapter.text_encoding, terms, captions)
    text = base.encode(captions)
    lengths = _lengths(text)
    last = last_token(encoding)
    pooled = text.get("added_cond_kwargs", {}).get("text_embeds")
    pairs = []
    for i, length in enumerate(lengths):
        c = encoding.embeds[i][encoding.mask[i]]
        one = {"phi": (c, text["encoder_hidden_states"][i][partners(len(c), length)])}
        if adapter.pool and pooled is not None:
            one["pool"] = (last[i : i + 1], pooled[i : i + 1])
        pairs.append(one)
    return pairs


def partners(tokens: int, length: int) -> Tensor:
    """The place, of the `length` that the base attends to, that each of a caption's tokens is paired with: (S,)."""
    return (torch.arange(1, tokens + 1) * length + tokens - 1) // tokens - 1


def _encoding(reader: TextEncoding, terms: Terms, captions: list[str]) -> Encoding:
    """c without noise, on the CPU."""
    device, training = reader.norm.weight.device, reader.training
    start, stack, mask = (part.to(device) for part in terms.batch(captions))
    reader.eval()
    try:
        return Encoding(reader(start, stack, mask), mask).to("cpu", torch.float32)
    finally:
        reader.train(training)


def _lengths(text: Inputs) -> list[int]:
    """The number of places of its text features that the base attends to, for each caption."""
    if (mask := text.get("encoder_attention_mask")) is not None:
        return [int(count) for count in mask.sum(1)]
    features = text["encoder_hidden_states"]
    return [features.shape[1]] * len(features)
