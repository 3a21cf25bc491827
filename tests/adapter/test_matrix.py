"""Every family of base models beside every feature of diffusers in both modes: each cell works, or says why it cannot.

The outcomes are recorded with the results (``matrix`` in the properties of each test), for the table in the docs.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from adapter.case import Case, Feature
from adapter.changes import distance
from adapter.families import AUGMENTED, FAMILIES, REFUSED
from adapter.features import FEATURES
from adapter.tiny import PROMPT
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel

ALL = FAMILIES | AUGMENTED


WHOLE = "SD 1.x"
"""The family of which the fast tests try every feature; each feature is tried in one more at most."""


def cells() -> list[Any]:
    """Families and features; `make matrix` tries them all, the fast tests some."""
    found = []
    for row, family in enumerate(ALL):
        for column, (name, feature) in enumerate(FEATURES.items()):
            slow = feature.slow or (family != WHOLE and (row + column) % len(ALL) != 0)
            found.append(pytest.param(family, name, marks=pytest.mark.slow if slow else ()))
    return found


@pytest.fixture(scope="module")
def refusals(tiny_llm: LanguageModel) -> dict[str, str]:
    """What is said of each family that replace mode cannot serve."""
    said = {}
    for name, family in AUGMENTED.items():
        with pytest.raises(LLMDiffError, match='use mode="augment"') as refusal:
            LLMDiffAdapter.create(family.build(), tiny_llm, mode="replace")
        said[name] = f"refused: {refusal.value}"
    return said


@pytest.mark.parametrize(("family", "feature"), cells())
def test_cell(
    family: str,
    feature: str,
    mode: str,
    make_adapter: Callable[..., LLMDiffAdapter],
    refusals: dict[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    outcome = refusals.get(family) if mode == "replace" else None
    outcome = outcome or ALL[family].lack(feature, mode, FEATURES[feature].needs)
    if FEATURES[feature].only not in (None, family):
        outcome = outcome or f"tried on {FEATURES[feature].only} alone: it takes minutes"
    if outcome is not None:
        record_property("matrix", (family, feature, mode, outcome))
        pytest.skip(outcome)
    case = Case(ALL[family], mode, make_adapter)
    check = FEATURES[feature].check or (lambda case: PICTURES[mode](case, FEATURES[feature]))
    record_property("matrix", (family, feature, mode, check(case) or "works"))


@pytest.mark.parametrize("family", AUGMENTED)
def test_a_family_that_cannot_be_trained_on_is_refused(
    family: str, mode: str, record_property: Callable[[str, object], None]
) -> None:
    with pytest.raises(LLMDiffError, match="cannot be trained on yet") as refusal:
        ImageModel(ALL[family].build()).check_trainable()
    for feature in ("training", "gradient checkpointing"):
        record_property("matrix", (family, feature, mode, f"refused: {refusal.value}"))


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_no_adapter_fits_is_refused(
    family: str,
    mode: str,
    make_adapter: Callable[..., LLMDiffAdapter],
    record_property: Callable[[str, object], None],
) -> None:
    pipe = REFUSED[family]()
    with pytest.raises(LLMDiffError, match="has no cross-attention layer that an adapter can join") as refusal:
        make_adapter(pipe, mode=mode)
    record_property("matrix", (family, "any", mode, f"refused: {refusal.value}"))


def test_what_diffusers_gets_wrong_it_still_gets_wrong() -> None:
    """Once this fails, the reasons that are given for it can go."""
    with pytest.raises(AttributeError, match="text_model"):
        FAMILIES["SD 1.x"].draw(FAMILIES["SD 1.x"].build(), "a", clip_skip=1)
    for name, place in {"Sana": 1, "Kandinsky 3": 2, "Hunyuan-DiT": 2}.items():
        encode = ALL[name].build().encode_prompt
        twice, once = (encode(["a", "a red ball"], num_images_per_prompt=n)[place] for n in (2, 1))
        assert not torch.equal(twice, once.repeat_interleave(2, 0)), name
    assert not hasattr(ALL["Kandinsky 3"].build().movq.encode(torch.ones(1, 3, 16, 16)), "latent_dist")


@functools.cache
def plain_base(family: str) -> Tensor:
    """The picture of a family's base model without any feature."""
    return ALL[family].draw(ALL[family].build(), PROMPT)


def augments(case: Case, feature: Feature) -> None:
    """At scale 0 the picture is the base model's bit for bit; otherwise the LLM has its say in it."""
    base = feature.base(case)
    if "augment" in feature.seen:
        assert distance(base.float(), plain_base(case.family.name)) > 1e-3
    pipe, adapter = feature.pipeline(case)
    picture = feature.draw(case, pipe)
    assert distance(picture, base) > 1e-3
    feature.compare(case, picture)
    adapter.scale = 0
    assert torch.equal(feature.draw(case, pipe), base)
    adapter.scale = 1
    adapter.detach()
    assert torch.equal(feature.draw(case, pipe), base)


def replaces(case: Case, feature: Feature) -> None:
    """Without any text encoder, the picture is the prompt's, as a slow reading of it has it."""
    pipe, _ = feature.pipeline(case)
    picture = feature.draw(case, pipe)
    assert picture.isfinite().all()
    feature.compare(case, picture)
    assert torch.equal(feature.draw(case, pipe), picture)
    assert distance(feature.draw(case, pipe, "blue"), picture) > 1e-3
    if "replace" in feature.seen:
        assert distance(picture.float(), case.draw(case.attached()[0])) > 1e-3


PICTURES = {"augment": augments, "replace": replaces}
