"""The adapter's objective on a tiny real Stable Diffusion: it learns, and nothing else does."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmdiff.data import Sample
from llmdiff.language import ExtractionConfig
from llmdiff.precompute import Answers
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.objective import AdapterObjective, shuffled
from llmdiff.training.precision import loss_scaler
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer
from training.tiny_objective import CAPTIONS


class Overfit:
    """The same batch, timesteps and noise in every step."""

    def __init__(self, objective: AdapterObjective) -> None:
        self.objective, self.module, self.groups = objective, objective.module, objective.groups

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        return self.objective.loss(np.arange(4), 0, Streams(0, range(4)))


def overfit(objective: AdapterObjective, folder: Path, steps: int = 30) -> list[float]:
    losses: list[float] = []
    settings = LoopSettings(steps=steps, learning_rate=3e-2, warmup=0, save_every=steps, ema=0)
    scaler = loss_scaler(objective.precision)
    Trainer(Overfit(objective), settings, folder, scaler=scaler).run(
        lambda trainer, figures: losses.append(figures["loss"])
    )
    return losses


def base_state(objective: AdapterObjective) -> dict[str, Tensor]:
    """Every weight that must stay."""
    own = {id(p) for p in objective.adapter.parameters()}
    parts = {
        "unet": objective.base.pipe.unet,
        "vae": objective.base.pipe.vae,
        "text": objective.base.pipe.text_encoder,
        "llm": objective.adapter.llm.model,
    }
    return {
        f"{part}.{name}": p.detach().clone()
        for part, module in parts.items()
        for name, p in module.named_parameters()
        if id(p) not in own
    }


@pytest.mark.parametrize("mode", ["augment", "replace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_an_overfitted_batch_is_learned_by_the_adapter_alone(make, tmp_path, mode, prediction):
    objective = make(prediction, mode=mode, caption_dropout=0.0)
    frozen, before = (
        base_state(objective),
        {name: p.detach().clone() for name, p in objective.adapter.named_parameters()},
    )
    losses = overfit(objective, tmp_path / "run")
    assert min(losses[-5:]) < 0.97 * losses[0]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert [name for name, p in objective.adapter.named_parameters() if torch.equal(p, before[name])] == []
    after = base_state(objective)
    assert [name for name, value in frozen.items() if not torch.equal(value, after[name])] == []


@pytest.mark.parametrize("extraction", ["last", "weighted", "norm-mean"])
def test_other_extractions_train_too(make, tmp_path, extraction):
    objective = make(reading=ExtractionConfig(extraction=extraction), mode="replace", caption_dropout=0.0)
    losses = overfit(objective, tmp_path / "run", steps=15)
    assert losses[-1] < losses[0]


def test_every_parameter_has_one_group_and_scalars_learn_faster(make):
    objective = make(mode="replace", scalar_rate=7.0)
    groups = objective.groups()
    members = [p for group in groups for p in group["params"]]
    assert {id(p) for p in members} == {id(p) for p in objective.adapter.parameters()}
    assert len(members) == len(list(objective.adapter.parameters()))
    names = {id(p): name for name, p in objective.adapter.named_parameters()}
    fast = {names[id(p)] for p in next(group for group in groups if group.get("rate") == 7.0)["params"]}
    assert fast == {n for n in names.values() if "gate" in n or n in ("text_encoding.g", "text_encoding.raw_h")}
    assert all(group.get("weight_decay") == 0 for group in groups if any(p.ndim < 2 for p in group["params"]))


@pytest.mark.parametrize("mode", ["augment", "replace"])
def test_the_loss_is_that_of_the_formula(make, mode):
    """Section 4, written out: ‖prediction(z_t, c) − target‖², with the encoding read from the LLM itself."""
    objective = make("epsilon", mode=mode, caption_dropout=0.0, reading=ExtractionConfig(noise=False))
    with torch.no_grad():
        for p in objective.adapter.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    loss = objective.loss(np.array([0, 1]), 1, Streams(3, [0, 1]))
    order = np.random.default_rng((0, 2, 0)).permutation(4)[:2]
    z = objective.latents[order].float()
    rng = Streams(3, [0, 1])
    noise, t = rng.normal(*z.shape[1:]), (1000 * rng.uniform()).long()
    abar = objective.base.pipe.scheduler.alphas_cumprod[t].view(2, 1, 1, 1)
    noisy = abar.sqrt() * z + (1 - abar).sqrt() * noise
    captions = [CAPTIONS[n] for n in order]
    ids = objective.base.pipe.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = objective.base.pipe.text_encoder(ids)[0]
    with torch.no_grad():
        text = objective.adapter.condition(objective.adapter.encode(captions), text)
        said = objective.base.pipe.unet(noisy, t, text).sample
    assert loss.item() == pytest.approx((said - noise).square().mean().item(), rel=1e-3)


def test_the_loss_depends_on_seed_and_sample_alone(make):
    objective = make(mode="replace")
    torch.manual_seed(0)
    first = objective.loss(np.arange(2, 4), 5, Streams(0, [2, 3]))
    torch.manual_seed(1)
    assert torch.equal(first, objective.loss(np.arange(2, 4), 5, Streams(0, [2, 3])))
    assert not torch.equal(first, objective.loss(np.arange(2, 4), 5, Streams(1, [2, 3])))
    assert not torch.equal(first, objective.loss(np.arange(0, 2), 5, Streams(0, [0, 1])))


def test_a_dropped_caption_is_the_empty_prompt_for_both_readers(make, monkeypatch):
    objective = make(mode="augment", caption_dropout=0.0)
    asked: list[list[str]] = []
    batch = objective.terms.batch
    monkeypatch.setattr(
        objective.terms, "batch", lambda captions, **kept: asked.append(captions) or batch(captions, **kept)
    )
    encode = type(objective.base.pipe).encode_prompt

    @functools.wraps(encode)
    def watched(pipe: Any, **arguments: Any) -> Any:
        asked.append(arguments["prompt"])
        return encode(pipe, **arguments)

    monkeypatch.setattr(type(objective.base.pipe), "encode_prompt", watched)
    monkeypatch.setattr(objective.batches, "sample", lambda n: Sample(n, None if n == 1 else 0))
    objective.loss(np.arange(3), 0, Streams(0, range(3)))
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert [text == "" for text in asked[0]] == [False, True, False]


def test_an_untrained_adapter_that_adds_nothing_has_nothing_to_distil(make):
    objective = make(mode="augment", distil=5, caption_dropout=0.5)
    objective.data.teacher_captions = objective.data.captions
    # Where a gradient passes through the output projection, torch may take another kernel, which rounds otherwise.
    assert objective.loss(np.arange(4), 4, Streams(0, range(4))).item() < 1e-10
    assert objective.loss(np.arange(4), 5, Streams(0, range(4))).item() > 0.1


def test_what_is_distilled_is_the_base_model_with_its_own_wording(make, monkeypatch):
    objective = make(mode="replace", distil=1, caption_dropout=0.0)
    asked: list[list[str]] = []
    encode = type(objective.base.pipe).encode_prompt

    @functools.wraps(encode)
    def listening(pipe: Any, *args: Any, **arguments: Any) -> Any:
        asked.append(arguments.get("prompt"))
        return encode(pipe, *args, **arguments)

    monkeypatch.setattr(type(objective.base.pipe), "encode_prompt", listening)
    objective.loss(np.arange(4), 0, Streams(0, range(4)))
    assert sorted(asked[0]) == sorted(text.upper() for text in CAPTIONS)
    noisy, t = torch.randn(4, 4, 8, 8), torch.tensor([1, 300, 600, 900])
    said = objective.base_prediction(noisy, t, CAPTIONS)
    objective.adapter.detach()
    context = objective.base.pipe.encode_prompt(CAPTIONS, objective.base.pipe.device, 1, False)[0]
    with torch.no_grad():
        assert torch.allclose(said, objective.base.pipe.unet(noisy, t, encoder_hidden_states=context).sample, atol=1e-5)


def test_distillation_of_a_batch_is_learned(make, tmp_path):
    losses = overfit(make(mode="replace", distil=1, caption_dropout=0.0), tmp_path / "run")
    assert losses[-1] < 0.5 * losses[0]


def gradients(objective: AdapterObjective, parts: list[list[int]], total: int) -> dict[str, Tensor]:
    """The gradients of the mean loss over samples that come in parts."""
    objective.adapter.zero_grad()
    for part in parts:
        (objective.loss(np.array(part), 0, Streams(0, part)) * (len(part) / total)).backward()
    return {name: p.grad.clone() for name, p in objective.adapter.named_parameters() if p.grad is not None}


def test_a_sample_is_noised_dropped_and_read_alike_whatever_is_beside_it(make):
    """The gradient of a batch is that of its parts: noise, timestep, dropout and the encoding's noise are the sample's
    own, however long the captions beside it are."""
    objective = make(
        mode="replace", caption_dropout=0.3, noise_offset=0.1, min_snr=5.0, loop=LoopSettings(batch_size=8)
    )
    with torch.no_grad():
        objective.adapter.text_encoding.raw_h += 12  # the encoding's noise counts
    whole = gradients(objective, [list(range(8))], 8)
    assert whole.keys() == dict(objective.adapter.named_parameters()).keys()
    for parts in ([[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1], [2, 3], [4, 5], [6, 7]], [[0], [1, 2, 3, 4, 5, 6], [7]]):
        for name, gradient in gradients(objective, parts, 8).items():
            assert torch.allclose(gradient, whole[name], rtol=1e-3, atol=1e-5), name


def test_the_loss_is_weighted_and_offset_as_the_recipe_says(make):
    plain, weighted, offset = (make("epsilon", **keys) for keys in ({}, {"min_snr": 0.5}, {"noise_offset": 0.5}))
    losses = [objective.loss(np.arange(4), 0, Streams(0, range(4))).item() for objective in (plain, weighted, offset)]
    assert losses[1] < losses[0] != losses[2]


def test_without_a_stream_an_encoding_has_no_noise(make):
    objective = make(mode="replace")
    with torch.no_grad():
        objective.adapter.text_encoding.raw_h += 12
        noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
        said = objective.prediction(noisy, t, CAPTIONS[:2])
        assert torch.equal(said, objective.prediction(noisy, t, CAPTIONS[:2]))
        assert not torch.equal(said, objective.prediction(noisy, t, CAPTIONS[:2], Streams(0, [0, 1])))
        objective.adapter.eval()
        assert torch.equal(said, objective.prediction(noisy, t, CAPTIONS[:2]))


@given(
    st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=3).map(tuple), min_size=2, max_size=8),
    st.integers(0, 9),
)
def test_shuffled_captions_are_those_of_another_picture_and_as_many(captions, seed):
    numbered = [tuple(f"{i} {text}" for text in texts) for i, texts in enumerate(captions)]
    found = shuffled(numbered, seed)
    assert found == shuffled(numbered, seed)
    assert [len(texts) for texts in found] == [len(texts) for texts in captions]
    others = [int(texts[0].split()[0]) for texts in found]
    assert sorted(others) == list(range(len(captions)))
    assert all(other != own for own, other in enumerate(others))


def test_with_shuffled_captions_the_llm_reads_another_picture_and_the_teacher_its_own(make, monkeypatch):
    objective = make(shuffle_captions=True, distil=5, caption_dropout=0.0)
    read: list[list[str]] = []
    taught: list[list[str]] = []
    monkeypatch.setattr(
        objective, "_encoding", lambda texts, rng, old=objective._encoding: read.append(texts) or old(texts, rng)
    )
    old = objective.base_prediction
    monkeypatch.setattr(objective, "base_prediction", lambda *given: taught.append(given[2]) or old(*given))
    objective.loss(np.arange(8), 0, Streams(0, range(8)))
    assert sorted(read[0]) == sorted(text.lower() for text in taught[0])
    assert all(own != text.lower() for own, text in zip(read[0], taught[0], strict=True))


@pytest.mark.parametrize("target", [{"distil": 9}, {"distil_layers": 9}])
def test_answers_that_are_kept_change_no_loss_and_layers_are_taught_all_the_same(make, tmp_path, target):
    plain, first, again = (make(caption_dropout=0.0, **target) for _ in range(3))
    expected = plain.loss(np.arange(4), 0, Streams(0, range(4))).item()
    asked = []
    for objective in (first, again):
        objective.answers = Answers(tmp_path / "answers", of=["base"])
        ask = objective._ask_base
        objective._ask_base = lambda *given, ask=ask: asked.append(1) or ask(*given)
        assert objective.loss(np.arange(4), 0, Streams(0, range(4))).item() == expected
    assert len(asked) == (1 if "distil" in target else 2)
