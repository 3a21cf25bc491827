"""What sprites explain is exact: right to the last digit, and the same however a processor rounds."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdiff.scenes.checker import read
from llmdiff.scenes.matching import PALETTE, gains, soft_background, soft_picture, soft_sprites
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, SIZES
from scenes.pictures import BACKGROUND, PICTURES, drawing, noise, smear, wash

EXTREMES = {
    "white": wash((255, 255, 255)),
    "black": wash((0, 0, 0)),
    "checks": np.indices((64, 64)).sum(0)[..., None].repeat(3, 2).astype(np.uint8) % 2 * 255,
    "stripes": np.indices((64, 64))[1][..., None].repeat(3, 2).astype(np.uint8) // 3 % 2 * 255,
    "noise": noise(0),
    "dark and light": noise(1, 0, 2) * 255,
}


def softened(picture: np.ndarray) -> torch.Tensor:
    return soft_picture(torch.from_numpy(picture).permute(2, 0, 1).double())


@given(PICTURES, BACKGROUND, st.sampled_from(list(SIZES)), st.randoms())
@settings(max_examples=10, deadline=None)
def test_a_gain_is_what_laying_the_sprite_there_brings(picture, name, size, random):
    soft, under, sprites = softened(picture).long(), soft_background(name).long(), soft_sprites(size)
    gain, before = gains(softened(picture), name, size)
    for _ in range(5):
        kind, colour, y, x = (random.randrange(n) for n in gain.shape)
        alpha, body, details = (part[kind].long() for part in (sprites.alpha, sprites.body, sprites.details))
        frame = (..., slice(y, y + len(alpha)), slice(x, x + len(alpha)))
        laid = 4 * (body * PALETTE[colour].long()[:, None, None] + details) + under[frame] * (256 - alpha)
        without, with_it = 256 * (soft - under)[frame], 256 * soft[frame] - laid
        assert gain[kind, colour, y, x] == (without.square() - with_it.square()).sum()
        assert before[kind, 0, y, x] == (without.square() * (alpha >= 13)).sum()


def change_correlations(monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    exact = torch.fft.irfft2
    monkeypatch.setattr(torch.fft, "irfft2", lambda *args, **kwargs: change(exact(*args, **kwargs)))


@pytest.mark.parametrize("name", EXTREMES)
def test_correlations_are_far_from_where_rounding_would_decide(monkeypatch, name):
    """The FFT is off by a hundredth of what would change a number that it is rounded to."""
    errors: list[float] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        errors.append(float((x - x.round()).abs().max()))
        return x

    change_correlations(monkeypatch, note)
    for background in BACKGROUNDS:
        for size in SIZES:
            gains(softened(EXTREMES[name]), background, size)
    assert len(errors) == 3 * len(BACKGROUNDS) * len(SIZES)
    assert max(errors) < 0.005


@given(PICTURES, st.integers(0, 2**32))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rounding_a_hundred_times_as_coarse_reads_the_same(monkeypatch, picture, seed):
    expected = read(picture)
    generator = torch.Generator().manual_seed(seed)
    with monkeypatch.context() as patch:
        change_correlations(patch, lambda x: x + 0.8 * torch.rand(x.shape, generator=generator).double() - 0.4)
        assert read(picture) == expected


@cache
def digest() -> str:
    """Of what is computed and read from pictures whose best places tie, nearly tie, or do not."""
    total = hashlib.sha256()
    smears = [smear(COLOURS["pink"], 24), smear((90, 60, 30), 11.5, 20, 40, "night")]
    for picture in (wash(COLOURS["brown"]), wash(COLOURS["white"]), *smears, drawing(3), noise(4)):
        for size in SIZES:
            for part in gains(softened(picture), "day", size):
                total.update(part.long().numpy().tobytes())
        total.update(repr(read(picture)).encode())
    return total.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(
    "processor",
    [
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
    ],
    ids=lambda settings: settings["MKL_ENABLE_INSTRUCTIONS"],
)
def test_every_processor_computes_the_same(processor: dict[str, str]) -> None:
    command = [sys.executable, "-c", "from scenes.test_matching import digest; print(digest())"]
    place = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=os.environ | processor | place, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()
