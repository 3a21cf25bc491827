"""φ in closed form: the solution is that of the ridge, and it brings replace mode nearer to the base."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapter.tiny import build_pixart, build_sdxl
from llmdiff.adapter import LLMDiffAdapter, RefinerConfig
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel
from llmdiff.precompute import LiveTerms
from llmdiff.progress import silent
from llmdiff.training.ridge_init import Moments, _aim, fit, fitting_captions, partners
from tiny_base import build_base

WORDS = ["red", "blue", "ball", "box", "house", "on", "the", "and"]
CAPTIONS = [f"a {a} {b} {c}" for a in WORDS[:5] for b in WORDS[3:] for c in WORDS[::2]]


def test_the_solution_is_that_of_the_ridge() -> None:
    """Against a plain least-squares problem with the penalty as additional rows, on centred numbers."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 4, generator=rng) + 3, torch.randn(50, 2, generator=rng)
    moments = Moments(4, 2)
    for part in range(0, 50, 10):
        moments.add(x[part : part + 10], y[part : part + 10])
    solution = moments.ridge(0.1)
    centred = (x - x.mean(0)).double()
    penalty = 0.1 * centred.square().sum(0).mean()
    rows = torch.cat([centred, penalty.sqrt() * torch.eye(4)])
    expected = torch.linalg.lstsq(rows, torch.cat([(y - y.mean(0)).double(), torch.zeros(4, 2)])).solution
    assert torch.allclose(solution[:-1], expected, atol=1e-6)
    errors = (x.double() @ solution[:-1] + solution[-1] - y).square().sum()
    assert moments.error(solution) == pytest.approx(errors.item(), rel=1e-6)
    assert moments.variance() == pytest.approx((y - y.mean(0)).square().sum().item(), rel=1e-5)


@given(tokens=st.integers(1, 60), length=st.integers(1, 77))
def test_partners_keep_the_order_and_end_together(tokens: int, length: int) -> None:
    found = partners(tokens, length).tolist()
    assert len(found) == tokens
    assert found == sorted(found)
    assert found[-1] == length - 1
    assert found[0] >= 0
    if tokens == length:
        assert found == list(range(length))


def make(
    llm: LanguageModel, pipe: Any, refiner: RefinerConfig | None = None
) -> tuple[LLMDiffAdapter, ImageModel, LiveTerms]:
    adapter = LLMDiffAdapter.create(pipe, llm, mode="replace", refiner=refiner)
    return adapter, ImageModel(pipe), LiveTerms(llm, adapter.config.reading)


@pytest.mark.parametrize("build", [build_base, build_sdxl, build_pixart])
def test_captions_that_were_not_fitted_on_are_nearer_to_the_base(tiny_llm: LanguageModel, build: Any) -> None:
    adapter, base, terms = make(tiny_llm, build())
    before = {name: p.detach().clone() for name, p in adapter.named_parameters()}
    random_state = torch.get_rng_state()
    shares = fit(adapter, base, terms, CAPTIONS, silent)
    assert torch.equal(random_state, torch.get_rng_state())
    changed = {name for name, p in adapter.named_parameters() if not torch.equal(p, before[name])}
    heads = {"phi", "pool"} if adapter.pool else {"phi"}
    assert shares.keys() == heads
    assert changed == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    assert all(0 < share < 0.9 for share in shares.values())
    again, base, terms = make(tiny_llm, build())
    assert fit(again, base, terms, CAPTIONS, silent) == shares
    assert torch.equal(again.phi.weight, adapter.phi.weight)


@pytest.mark.parametrize("build", [build_base, build_sdxl])
def test_a_refiner_that_narrows_keeps_what_the_prediction_needs(tiny_llm: LanguageModel, build: Any) -> None:
    whole = fit(*make(tiny_llm, build()), CAPTIONS, silent)["phi"]
    shares = []
    for out in (tiny_llm.width - 1, 4, 1):
        adapter, base, terms = make(tiny_llm, build(), RefinerConfig(width=8, out=out))
        shares.append(fit(adapter, base, terms, CAPTIONS, silent)["phi"])
        directions = adapter.refiner.narrow.weight
        assert torch.allclose(directions @ directions.T, torch.eye(out), atol=1e-5)
    assert [whole, *shares] == pytest.approx(sorted([whole, *shares]), rel=0.02), "the fewer, the worse"
    assert shares[0] == pytest.approx(whole, rel=0.05)
    assert 1 - shares[-1] < 0.8 * (1 - whole)


def test_no_directions_predict_better_than_those_that_narrowing_starts_with() -> None:
    """Reduced-rank regression, against the best of many directions near it and of many at random."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(400, 6, generator=rng) @ torch.randn(6, 6, generator=rng)
    y = x @ torch.randn(6, 3, generator=rng) + 0.1 * torch.randn(400, 3, generator=rng)
    fitted, held_out = Moments(6, 3), Moments(6, 3)
    fitted.add(x[:300], y[:300])
    held_out.add(x[300:], y[300:])
    narrow = torch.nn.Linear(6, 2, bias=False)
    _aim(narrow, fitted, held_out)

    def error(directions: torch.Tensor) -> float:
        other = torch.nn.Linear(6, 2, bias=False)
        other.weight.data.copy_(directions)
        through = fitted.through(other)
        return through.error(through.ridge(1e-9))

    found = error(narrow.weight.data)
    near = [narrow.weight.data + 0.05 * torch.randn(2, 6, generator=rng) for _ in range(50)]
    assert found < 1.001 * min(error(one) for one in near)
    assert found < min(error(torch.randn(2, 6, generator=rng)) for _ in range(200))


def test_an_adapter_without_phi_and_too_few_captions_are_refused(tiny_llm: LanguageModel) -> None:
    adapter, base, terms = make(tiny_llm, build_base())
    with pytest.raises(LLMDiffError, match="at least 10 captions"):
        fit(adapter, base, terms, CAPTIONS[:9], silent)
    other = LLMDiffAdapter.create(build_base(), tiny_llm, mode="augment")
    with pytest.raises(LLMDiffError, match="fits φ of replace mode"):
        fit(other, base, terms, CAPTIONS, silent)


@pytest.mark.parametrize(
    ("own", "expected"), [(["b", "a", "", "d", "a"], ["a", "d", "b"]), ([f"{i}" for i in range(9)], ["0", "1", "2"])]
)
def test_captions_that_are_read_anyway_come_first(own: Sequence[str], expected: list[str]) -> None:
    assert fitting_captions(["a", "d", "x"], own, count=3) == expected
