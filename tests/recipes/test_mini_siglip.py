"""The embedded SigLIP's recipe: families that differ in one thing, what is true of them, and a loss that falls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from embedded_base import modules
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.scenes.scene import Scene
from llmdiff.scenes.vocabulary import IMAGE_SIZE
from llmdiff.training.randomness import Streams
from mini_siglip import data, model, retrieval, train


@pytest.fixture(scope="module")
def words() -> CLIPTokenizer:
    return modules.tokenizer(["a small red ball and two blue cups by day at night left of a large"], model.TOKENS)


def fits(scene: Scene) -> bool:
    """Whether all things are whole in the picture and none touches another."""
    inside = all(
        thing.side // 2 < min(thing.x, thing.y) and max(thing.x, thing.y) < IMAGE_SIZE - thing.side // 2
        for thing in scene.things
    )
    apart = all(
        max(abs(a.x - b.x), abs(a.y - b.y)) >= (a.side + b.side) // 2
        for a in scene.things
        for b in scene.things
        if a != b
    )
    return inside and apart


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_family_is_of_scenes_that_differ_and_can_be_drawn(seed: int) -> None:
    scenes = data.family(np.random.default_rng(seed))
    assert len(scenes) == data.FAMILY == len(set(scenes))
    assert all(fits(scene) for scene in scenes)
    assert scenes == data.family(np.random.default_rng(seed))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_caption_is_true_of_its_own_scene(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = data.family(rng)
    truth = data.truth(scenes, [data.caption(scene, rng) for scene in scenes])
    assert truth.diagonal().all()


def test_captions_tell_most_of_a_family_apart() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(50):
        scenes = data.family(rng)
        shares.append(data.truth(scenes, [data.caption(scene, rng) for scene in scenes]).float().mean())
    assert 0.25 <= np.mean(shares) < 0.5


def test_the_loss_of_pairs_is_siglip_s_where_each_caption_is_true_of_one_picture(words: CLIPTokenizer) -> None:
    siglip = model.build(words).eval()
    ids = modules.token_ids(words, ["a red ball", "two cups", "a ball at night"])
    with torch.no_grad():
        output = siglip(input_ids=ids, pixel_values=torch.randn(3, 3, 64, 64), return_loss=True)
    loss = train.pair_loss(output.logits_per_image, torch.eye(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(output.loss.item(), rel=1e-5)


def test_it_learns(words: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    objective = train.SiglipObjective(words)
    optimizer = torch.optim.AdamW(objective.groups(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = objective.loss(np.arange(2), 0, Streams(0, range(2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    still = [name for name, p in objective.module.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "k_proj.bias" not in name and "in_proj_bias" not in name] == []


def test_an_interrupted_run_ends_in_the_weights_of_a_whole_one(
    words: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And scores pictures by the code that serves any SigLIP."""
    monkeypatch.setattr(train, "caption_tokenizer", lambda: words)
    train.main(tmp_path / "whole", steps=4, families=1)
    run = train.Trainer.run

    def interrupted(self: train.Trainer, on_step: object) -> None:
        self.settings = self.settings.model_copy(update={"steps": 2})
        run(self)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "run", interrupted)
        train.main(tmp_path / "cut", steps=4, families=1)
    train.main(tmp_path / "cut", steps=4, families=1)
    whole, cut = (ImageTextModel.load(str(tmp_path / name / "model")) for name in ("whole", "cut"))
    assert whole.revision == cut.revision
    found = retrieval.retrieval(cut, groups=1, size=4, families=2)
    assert (found["picture_of_caption_count"], found["picture_of_family_count"]) == (4, 8)
    assert all(0 <= found[name] <= 1 for name in ("picture_of_caption", "caption_of_picture", "picture_of_family"))


def test_a_choice_is_right_where_the_caption_is_true() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.2, 0.8], [0.1, 0.5, 0.4]])
    truth = torch.tensor([[True, False, False], [False, True, False], [False, True, True]])
    assert retrieval._chosen(cosines, truth) == [True, False, True]
