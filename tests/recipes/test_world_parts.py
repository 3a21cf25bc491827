"""The parts that the recipe of the world trains, and what they are trained on."""

import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from embedded_base.modules import tokenizer as make_tokenizer
from llmdiff.scenes.facts import Backdrop, Count, Related
from llmdiff.world.atlas import STYLES
from llmdiff.world.captions import PLACES
from llmdiff.world.drawing import pixels
from llmdiff.world.scene import Placed, Scene
from llmdiff.world.things import NAMES, THINGS
from llmdiff.world.vocabulary import CELL, COLOURS, SIZES
from world import autoencoder, data, denoising, modules, pool, settings, text
from world.data import Stream
from world.machine import Machine
from world.readout import ThingReadout

HERE = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def vae() -> Any:
    torch.manual_seed(0)
    return modules.autoencoder((8, 8, 8, 16)).eval().requires_grad_(False)


def falls(objective: Any, steps: int, batch: int, share: float) -> None:
    """A few steps on one batch bring the loss down."""
    optimizer = torch.optim.AdamW(objective.module.parameters(), lr=2e-3)
    same = objective.batch(batch, torch.Generator().manual_seed(0))
    losses = []
    for _ in range(steps):
        figures = objective.loss(*same)
        optimizer.zero_grad()
        figures[0].backward()
        optimizer.step()
        losses.append(figures[0].item())
    assert len(figures) == len(objective.figures)
    assert np.isfinite(losses).all()
    assert losses[-1] < share * losses[0]


def test_every_word_of_plain_captions_is_one_token() -> None:
    words = {word for thing in THINGS for name in (thing.noun, thing.plural) for word in re.split("[ -]", name)}
    words |= {*COLOURS, *SIZES, "a", "an", "and", "two", "four", "left", "right", "of", "above", "below"}
    words |= {word for place in PLACES.values() for word in place.split()}
    tokenizer = modules.tokenizer()
    spelled = [word for word in words if len(tokenizer(word, add_special_tokens=False)["input_ids"]) != 1]
    assert spelled == []


def test_captions_fit_and_come_back_from_their_tokens() -> None:
    tokenizer = modules.tokenizer()
    longest = 0
    for index in range(200):
        caption = Stream(9).caption(index, 0).text
        ids = tokenizer(caption)["input_ids"]
        longest = max(longest, len(ids))
        words = re.sub("([,-])", r" \1 ", caption).split()
        assert tokenizer.decode(ids, skip_special_tokens=True).split() == words
        assert len(ids) == len(words) + 2
    assert 20 < longest <= modules.TEXT_TOKENS


def test_a_stream_is_a_function_of_its_seed_and_its_things_are_the_first() -> None:
    stream = Stream(4, data.SINGLE, 3)
    assert [stream.scene(n) for n in range(20)] == [Stream(4, data.SINGLE, 3).scene(n) for n in range(20)]
    assert {thing.kind for n in range(40) for thing in stream.scene(n).things} == set(NAMES[:3])
    assert stream.picture(0).shape == (data.SINGLE, data.SINGLE, 3)
    assert len({stream.caption(0, n).text for n in range(20)}) > 1
    assert stream.caption(0, 3) == stream.caption(0, 3)


@pytest.mark.parametrize("index", range(6))
def test_the_cells_with_a_thing_are_those_that_differ_from_the_empty_picture(index: int) -> None:
    scene = Stream(5).scene(index)
    empty = Scene(scene.background, (), scene.style)
    differs = (pixels(scene) != pixels(empty)).any(-1).reshape(16, CELL, 16, CELL).mean((1, 3))
    names, _ = data.cells(scene)
    assert (names > 0)[differs > 0.8].all()
    assert not (names > 0)[differs == 0].any()
    assert {NAMES[n - 1] for n in np.unique(names) if n} == {thing.kind for thing in scene.things}


def test_a_cell_says_which_part_of_its_thing_it_is() -> None:
    names, spots = data.cells(Scene("day", (Placed(NAMES[0], "own", "large", 40, 16),), STYLES[0]))
    y, x = np.argwhere(names)[0]
    assert spots[:, y, x].tolist() == [x - 5, y - 2]


def test_a_pool_is_made_in_parts_and_goes_on_after_a_kill(vae, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "PART", 2)
    monkeypatch.setattr(pool, "CAPTIONS", 2)
    stream, shares = Stream(6, data.SINGLE, 5), []
    assert pool.scene_pool(stream, 5, vae, tmp_path, HERE, time.monotonic() - 1, shares.append) is None
    whole = pool.scene_pool(stream, 5, vae, tmp_path, HERE, on_part=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    again = pool.scene_pool(stream, 5, vae, tmp_path, HERE, on_part=shares.append)
    assert len(shares) == 3
    assert whole is not None
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert len(whole.latents) == 6
    x = pool.as_model_input(torch.from_numpy(stream.pictures(range(6))))
    expected = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    assert torch.allclose(whole.latents.float(), expected, atol=2e-3)
    captions = [stream.caption(n, k).text for n in range(6) for k in range(2)]
    assert torch.equal(whole.ids.flatten(0, 1).long(), modules.token_ids(modules.tokenizer(), captions))
    names, spots = data.cells(stream.scene(4))
    assert torch.equal(whole.names[4], torch.from_numpy(names))
    assert torch.equal(whole.spots[4], torch.from_numpy(spots))


def test_parts_that_other_processes_draw_are_the_same(vae, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "PART", 1)
    stream = Stream(6, data.SINGLE, 5)
    alone = pool.scene_pool(stream, 4, vae, tmp_path / "alone", HERE)
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: range(4))
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda _: None)  # that of threads
    monkeypatch.setattr(pool, "ProcessPoolExecutor", Threads)
    beside = pool.scene_pool(stream, 4, vae, tmp_path / "beside", HERE)
    assert alone is not None
    assert beside is not None
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


def Threads(workers: int, _context: Any, initializer: Any) -> Any:  # noqa: N802 - in the place of a class
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(workers)


def test_words_have_the_same_numbers_in_every_process() -> None:
    phrases = data.plain_phrases()
    assert len({str(sorted(make_tokenizer(phrases).get_vocab().items())) for _ in range(4)}) == 1


def test_a_readout_learns_what_the_cells_show() -> None:
    torch.manual_seed(0)
    names, spots = (torch.from_numpy(part)[None] for part in data.cells(Stream(5).scene(1)))
    features, readout = torch.randn(1, 24, 16, 16), ThingReadout(24, len(NAMES))
    optimizer = torch.optim.AdamW(readout.parameters(), lr=0.02)
    losses: list[Tensor] = []
    for _ in range(40):
        losses.append(torch.stack(readout(features, names, spots)))
        optimizer.zero_grad()
        losses[-1].sum().backward()
        optimizer.step()
    assert (losses[-1] < 0.5 * losses[0]).all()


def test_the_truth_of_a_caption_is_all_that_it_states() -> None:
    for index in range(60):
        caption = Stream(8).caption(index, 0)
        kinds, counts, marks, place = text._truth(caption, np.random.default_rng(index))
        assert len(set(kinds.tolist())) == text.ASKED
        said = {
            NAMES[kinds[q]]: (counts[q], {text._MARKS[m] for m in np.flatnonzero(marks[q])}) for q in range(text.ASKED)
        }
        for fact in caption.facts:
            if isinstance(fact, Count):
                assert said[fact.look.kind][0] >= fact.n
                assert {v for v in (fact.look.colour, fact.look.size) if v} <= said[fact.look.kind][1]
            elif isinstance(fact, Related):
                assert ("a", fact.relation) in said[fact.a.kind][1]
                assert ("b", fact.relation) in said[fact.b.kind][1]
        places = [fact.name for fact in caption.facts if isinstance(fact, Backdrop)]
        assert place == (text._PLACES[places[0]] if places else 0)
        named = {fact.look.kind for fact in caption.facts if isinstance(fact, Count)}
        assert all((count > 0) == (name in named) for name, (count, _) in said.items())


def test_the_autoencoder_learns() -> None:
    torch.manual_seed(0)
    pictures = autoencoder.pictures(4, 5)
    assert pictures.shape == (4, data.SINGLE, data.SINGLE, 3)
    objective = autoencoder.AutoencoderObjective(modules.autoencoder((8, 8, 8, 16)), pictures, HERE)
    falls(objective, steps=8, batch=2, share=0.9)


def test_decibels_and_scale(vae) -> None:
    x = autoencoder.pictures(4, 5)
    scale = autoencoder.latent_scale(vae, x)
    assert (vae.encode(pool.as_model_input(x)).latent_dist.mean.std() * scale).item() == pytest.approx(1)
    assert 0 < autoencoder.decibels(vae, x) < 15


def test_the_text_encoder_learns() -> None:
    torch.manual_seed(0)
    falls(text.TextObjective(modules.text_encoder(1), text.captions(8, Stream(8)), HERE), steps=8, batch=8, share=0.9)


@pytest.fixture
def denoiser() -> denoising.DenoisingObjective:
    torch.manual_seed(0)
    text_encoder = modules.text_encoder(1)
    facts = text.FactReadout(text_encoder.config.hidden_size)
    objective = denoising.DenoisingObjective(modules.unet((16, 32), 1), text_encoder, facts, HERE)
    _, *drawn = pool.drawn(Stream(9, data.SINGLE), 0, 3)
    objective.pool = pool.Pool(torch.randn(3, 16, 8, 8).half(), *map(torch.from_numpy, drawn))
    objective.settings = settings.load("tiny", []).singles
    return objective


def test_the_u_net_learns_and_the_text_encoder_with_it(denoiser) -> None:
    falls(denoiser, steps=10, batch=4, share=0.9)
    still = [name for name, p in denoiser.module.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "final" not in name and "k_proj.bias" not in name] == []


def test_a_batch_is_a_function_of_its_generator_and_drops_captions(denoiser) -> None:
    first, second = (denoiser.batch(200, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    empty = modules.token_ids(modules.tokenizer(), [""])
    assert (first[2] == empty).all(1).float().mean() == pytest.approx(0.1, abs=0.07)
    assert (first[1] >= 800).float().mean() > 0.3  # a fifth, were all alike


def test_the_full_size() -> None:
    with torch.device("meta"):
        unet = modules.unet()
        vae = modules.autoencoder()
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(24.8e6, rel=0.01)
    heads = {m.heads for m in unet.modules() if type(m).__name__ == "Attention"}
    assert heads == {2, 4}
    assert sum(p.numel() for p in vae.parameters()) < 4e6


@pytest.mark.slow
def test_a_compiler_sees_the_u_net_and_the_text_encoder_as_one_graph(denoiser) -> None:
    same = denoiser.batch(2, torch.Generator().manual_seed(0))
    expected = denoiser.loss(*same)
    denoiser._denoise = torch.compile(denoiser._denoised, backend="eager", fullgraph=True, dynamic=False)
    assert torch.allclose(denoiser.loss(*same), expected)
