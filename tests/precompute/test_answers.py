"""Answers: asked once, by content, and given as they were."""

import torch
from torch import Tensor

from llmdiff.precompute import Answers

NOISY, T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([700, 500])
CAPTIONS = ["a red cup", ""]


class Base:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Tensor:
        self.asked += 1
        return NOISY * 3 + self.asked


def test_the_same_question_is_asked_once_also_by_another_process(tmp_path):
    base = Base()
    first = Answers(tmp_path, of=["base"]).get(NOISY, T, CAPTIONS, base)
    answers = Answers(tmp_path, of=["base"])
    again = answers.get(NOISY.clone(), T.clone(), list(CAPTIONS), base)
    assert base.asked == 1
    assert torch.equal(first, NOISY * 3 + 1)
    assert torch.equal(again, first)
    again += 1
    assert torch.equal(answers.get(NOISY, T, CAPTIONS, base), first)


def test_another_question_or_another_base_is_asked_anew(tmp_path):
    base, answers = Base(), Answers(tmp_path, of=["base"])
    answers.get(NOISY, T, CAPTIONS, base)
    for question in ((NOISY + 1e-6, T, CAPTIONS), (NOISY, T + 1, CAPTIONS), (NOISY, T, ["a red cup", "a"])):
        answers.get(*question, base)
    Answers(tmp_path, of=["other"]).get(NOISY, T, CAPTIONS, base)
    assert base.asked == 5
