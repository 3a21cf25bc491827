"""What the embedded base's parts learn: a few steps on one batch bring every loss down."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedded_base import data, modules, train_autoencoder, train_base, train_text
from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.description import Caption
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Backdrop, Count, Look, Related
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS, SIZES
from llmdiff.training.randomness import Streams


def train(objective: Any, steps: int, batch: int, rate: float = 1e-3) -> list[float]:
    """The losses of steps on the same samples and noise."""
    optimizer = torch.optim.AdamW(objective.groups(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = objective.loss(np.arange(batch), 0, Streams(0, range(batch)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def base_objective() -> train_base.BaseObjective:
    torch.manual_seed(0)
    tokenizer = modules.tokenizer(["a small red ball and two blue cups by day at night"])
    latents = torch.randn(3, 8, 16, 16).half()
    return train_base.BaseObjective(latents, tokenizer, modules.text_encoder(tokenizer), precision=torch.float32)


def assert_falls(losses: list[float], share: float) -> None:
    assert np.isfinite(losses).all()
    assert losses[-1] < share * losses[0]


def test_the_base_learns(base_objective):
    assert_falls(train(base_objective, steps=8, batch=3), 0.9)
    still = [name for name, p in base_objective.module.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "final" not in name] == []


def test_the_base_sees_a_caption_of_each_scene_worded_anew(base_objective):
    first, second = base_objective._caption(0), base_objective._caption(30)
    scene = data.scene(21, 0)
    worded = {plain_caption(scene, np.random.default_rng(seed)).text for seed in range(400)}
    assert {first, second} <= {*worded, ""}
    captions = [base_objective._caption(n) for n in range(0, 900, 3)]
    assert len(set(captions)) > 3
    assert sum(text == "" for text in captions) == pytest.approx(30, abs=15)


def test_in_its_course_the_base_hears_every_relation_at_the_noisiest(base_objective, monkeypatch):
    heard = []
    monkeypatch.setattr(base_objective, "_caption", lambda index, detail: heard.append(detail) or "")
    told = []
    base_objective.unet.register_forward_pre_hook(lambda _module, args: told.append(args[1]))
    samples = np.arange(60)
    for step in (0, train_base._COURSE.start):
        base_objective.loss(samples, step, Streams(0, samples))
    assert set(heard[:60]) == {None}
    assert {detail.relation for detail in heard[60:]} == {1.0}
    early, late = ((t >= 900).float().mean() for t in told)
    assert late > early + 0.15


def test_the_autoencoder_learns():
    torch.manual_seed(0)
    objective = train_autoencoder.AutoencoderObjective(modules.autoencoder(), precision=torch.float32)
    assert_falls(train(objective, steps=6, batch=2), 0.9)


def test_crops_are_windows_of_their_pictures():
    x = data.pixels([data.scene(1, n) for n in range(2)])
    crops = train_autoencoder._crops(x, Streams(0, range(2)))
    assert crops.shape == (4, 3, 32, 32)
    for n, crop in enumerate(crops):
        windows = x[n // 2].unfold(1, 32, 1).unfold(2, 32, 1)
        same = (windows == crop[:, None, None]).flatten(3).all(-1).all(0)
        assert same.any()


def test_latents_of_unit_scale(monkeypatch):
    torch.manual_seed(0)
    vae = modules.autoencoder().eval()
    monkeypatch.setattr(
        train_autoencoder.data, "scene", lambda seed, n: data.sample_scene(np.random.default_rng(n % 8))
    )
    monkeypatch.setattr(train_autoencoder, "range", lambda n: range(8), raising=False)
    scale = train_autoencoder.latent_scale(vae)
    x = data.pixels([data.sample_scene(np.random.default_rng(n)) for n in range(8)])
    with torch.no_grad():
        assert (vae.encode(x).latent_dist.mean * scale).std().item() == pytest.approx(1, abs=1e-4)


def test_the_text_encoder_learns():
    torch.manual_seed(0)
    objective = train_text.TextObjective(modules.tokenizer(["a small red ball and two blue cups by day at night"]))
    assert_falls(train(objective, steps=12, batch=8), 0.8)


def test_what_a_caption_states_as_numbers():
    ball, cup = Look("ball", "red", "small"), Look("cup", "blue")
    facts = (Count(ball, 1), Count(cup, 1), Related(ball, "above", cup), Backdrop("snow"))
    counts, marks, place = train_text._truth(Caption("", facts))
    assert {KINDS[n]: int(counts[n]) for n in counts.nonzero()[:, 0]} == {"ball": 1, "cup": 1}
    colours, sizes, sides = marks.split([len(COLOURS), len(SIZES), 8], dim=1)
    assert list(COLOURS)[int(colours[KINDS.index("ball")].argmax())] == "red"
    assert sizes.sum() == 1
    assert sides.sum() == 2
    assert sides[KINDS.index("ball"), 2] == sides[KINDS.index("cup"), 4 + 2] == 1
    assert list(BACKGROUNDS)[int(place)] == "snow"
    assert int(train_text._truth(Caption("", (Count(ball, 1),)))[2]) == len(BACKGROUNDS)


def test_kinds_named_twice_are_counted_together():
    facts = (Count(Look("ball", "red"), 1), Count(Look("ball", "blue"), 2))
    counts, marks, _ = train_text._truth(Caption("", facts))
    assert counts[KINDS.index("ball")] == 3
    assert marks[KINDS.index("ball")].sum() == 2


class Half(nn.Module):
    """In place of an autoencoder: halves of the first pixels."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.config = type("Config", (), {"scaling_factor": 2.0})
        self.calls = 0

    def encode(self, x: Tensor) -> Any:
        self.calls += len(x)
        mean = x[:, :1, :16, :16] / 2
        return type("Output", (), {"latent_dist": type("Dist", (), {"mean": mean})})


def test_latents_of_scenes_are_scaled_and_kept(tmp_path):
    vae = Half()
    latents = train_base.scene_latents(vae, 3, tmp_path)
    expected = data.pixels([data.scene(21, n) for n in range(3)])[:, :1, :16, :16]
    assert torch.allclose(latents.float(), expected, atol=1e-3)
    assert torch.equal(train_base.scene_latents(vae, 3, tmp_path), latents)
    assert vae.calls == 3
    assert len(train_base.scene_latents(vae, 4, tmp_path)) == 4
    assert vae.calls == 7
    other = Half(1.0)
    train_base.scene_latents(other, 3, tmp_path)
    assert other.calls == 3


def test_pixels_are_the_drawing():
    scene = data.scene(3, 5)
    assert scene == data.scene(3, 5)
    assert scene != data.scene(3, 6)
    pixels = data.pixels([scene, data.scene(3, 6)])
    assert pixels.shape == (2, 3, 64, 64)
    assert np.array_equal(((pixels[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), draw(scene))
