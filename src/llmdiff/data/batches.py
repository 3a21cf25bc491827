"""The picture and the caption of sample n of a run: a function of (seed, n), the data and the batch size.

An epoch has every picture as often as its weight says, in a shuffled order. The pictures of one batch have one size:
on the way through an epoch each size fills batches of its own, and what does not fill one goes into the next epoch.
Nothing is kept but the epoch at hand, so any sample of a run can be asked for at any time, in any process.

Letters in shapes: B samples of a batch.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from llmdiff.data.captioned import Captioned, Size

_DROPOUT, _ORDER, _ROUND, _CAPTION = 1, 2, 4, 5  # set apart what is drawn with one seed; 3 is that of noise


class Sample(NamedTuple):
    """The picture that a sample shows, and the caption that it has."""

    picture: int
    caption: int | None
    """The number of its caption among those of the picture; None for the empty prompt."""

    def text(self, captions: Sequence[tuple[str, ...]]) -> str:
        """The words of its caption, of the captions of all pictures."""
        return "" if self.caption is None else captions[self.picture][self.caption]


class _Share(NamedTuple):
    """The pictures of one size and weight, by their numbers."""

    weight: Fraction
    pictures: np.ndarray

    def before(self, epoch: int) -> int:
        """The number of samples of earlier epochs that are of them."""
        return epoch * len(self.pictures) * self.weight.numerator // self.weight.denominator

    def epoch_of(self, sample: int) -> int:
        """The epoch that has a sample, the first one of them being 0."""
        return -(-(sample + 1) * self.weight.denominator // (len(self.pictures) * self.weight.numerator)) - 1


class Batches:
    """The batches of a run.

    Args:
        data: captioned pictures.
        batch_size: samples of an optimizer step.
        seed: of the run.
        dropout: share of samples whose caption is dropped.
        longest: share of those that have a picture's longest caption, of pictures with several; by lot if None.

    Example:
        >>> batches = Batches(data, batch_size=8, seed=0)
        >>> batches.sample(11).text(data.captions)  # the fourth sample of step 1
        'a red fox'
    """

    def __init__(
        self, data: Captioned, batch_size: int, seed: int, dropout: float = 0.0, longest: float | None = None
    ) -> None:
        self._batch_size, self._seed, self._dropout, self._longest = batch_size, seed, dropout, longest
        self._captions = data.captions
        sizes: dict[Size, int] = {}
        self._size = np.array([sizes.setdefault(data.size(i), len(sizes)) for i in range(len(data))])
        self._shares = _shares(data.weights, self._size)
        self._sizes = sorted(self._shares)
        self._steps = range(0)
        self._batches = np.empty((0, batch_size), np.int64)

    def sample(self, n: int) -> Sample:
        """Sample number `n` of the run; the samples of step s are s · B … s · B + B - 1."""
        step, place = divmod(n, self._batch_size)
        picture = int(self.pictures(step)[place])
        if self._rng(_DROPOUT, n).random() < self._dropout:
            return Sample(picture, None)
        return Sample(picture, self._caption(self._captions[picture], n))

    def _caption(self, texts: tuple[str, ...], n: int) -> int:
        if len(texts) == 1:
            return 0
        rng = self._rng(_CAPTION, n)
        if self._longest is None:
            return int(rng.integers(len(texts)))
        longest = max(range(len(texts)), key=lambda i: len(texts[i]))
        others = [i for i in range(len(texts)) if i != longest]
        return longest if rng.random() < self._longest else others[rng.integers(len(others))]

    def pictures(self, step: int) -> np.ndarray:
        """The numbers of the pictures of a step, (B,)."""
        if step not in self._steps:
            self._open(self._epoch_of(step))
        return self._batches[step - self._steps.start]

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, *key))

    def _epoch_of(self, step: int) -> int:
        """The epoch in which the batch of a step is filled."""
        end = 1
        while self._steps_before(end) <= step:
            end *= 2
        return bisect_right(range(end), step, key=self._steps_before) - 1

    def _steps_before(self, epoch: int) -> int:
        return sum(self._samples_before(epoch, size) // self._batch_size for size in self._sizes)

    def _samples_before(self, epoch: int, size: int) -> int:
        return sum(share.before(epoch) for share in self._shares[size])

    def _open(self, epoch: int) -> None:
        """Lines up the batches that are filled in an epoch, in the order in which they are."""
        order = self._order(epoch)
        ends, batches = [], []
        for size, carried in self._carried(epoch).items():
            places = np.flatnonzero(self._size[order] == size)
            line = np.concatenate([carried, order[places]])
            count = len(line) // self._batch_size
            batches.append(line[: count * self._batch_size].reshape(count, self._batch_size))
            ends.append(places[np.arange(1, count + 1) * self._batch_size - len(carried) - 1])
        self._batches = np.concatenate(batches)[np.argsort(np.concatenate(ends))]
        first = self._steps_before(epoch)
        self._steps = range(first, first + len(self._batches))

    def _carried(self, epoch: int) -> dict[int, np.ndarray]:
        """For each size the pictures of earlier epochs that have not filled a batch, in their order."""
        missing = {size: self._samples_before(epoch, size) % self._batch_size for size in self._sizes}
        lines = {size: np.empty(0, np.int64) for size in self._sizes}
        while any(missing.values()):
            epoch = max(self._epoch_with_last(epoch, size) for size in self._sizes if missing[size])
            order = self._order(epoch)
            for size in (size for size in self._sizes if missing[size]):
                found = order[self._size[order] == size][-missing[size] :]
                lines[size] = np.concatenate([found, lines[size]])
                missing[size] -= len(found)
        return lines

    def _epoch_with_last(self, epoch: int, size: int) -> int:
        """The last epoch before this one that has pictures of a size: with small weights, many have none."""
        return max(share.epoch_of(share.before(epoch) - 1) for share in self._shares[size])

    def _order(self, epoch: int) -> np.ndarray:
        """The pictures of an epoch, shuffled."""
        shares = (share for size in self._sizes for share in self._shares[size])
        slots = np.concatenate([self._slots(share, number, epoch) for number, share in enumerate(shares)])
        return slots[self._rng(_ORDER, epoch).permutation(len(slots))]

    def _slots(self, share: _Share, number: int, epoch: int) -> np.ndarray:
        """An epoch's pictures of a share: whole rounds in order, or a window of ever new rounds in lots' order."""
        count = len(share.pictures)
        rounds, places = np.divmod(np.arange(share.before(epoch), share.before(epoch + 1)), count)
        if share.weight.denominator > 1:
            for one in np.unique(rounds):
                lots = self._rng(_ROUND, number, int(one)).permutation(count)
                places[rounds == one] = lots[places[rounds == one]]
        return share.pictures[places]


def _shares(weights: Sequence[float], size: np.ndarray) -> dict[int, list[_Share]]:
    """The pictures of each size, grouped by weight."""
    groups: defaultdict[int, defaultdict[float, list[int]]] = defaultdict(lambda: defaultdict(list))
    for picture, weight in enumerate(weights):
        groups[int(size[picture])][weight].append(picture)
    return {
        number: [_Share(Fraction(str(weight)), np.array(pictures)) for weight, pictures in group.items()]
        for number, group in groups.items()
    }
