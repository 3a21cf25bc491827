"""`llmdiff generate` with nothing but a base and its adapter, as a new user would, on every family of base models."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from adapter.families import AUGMENTED, FAMILIES
from adapter.tiny import build_pixart, build_sd, perturb
from base.original_layout import save_checkpoint
from cli.running import Run
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import GenerationRequest, generate
from llmdiff.language import LanguageModel
from tiny_base import Places
from tiny_parts import build_vae

ALL = FAMILIES | AUGMENTED
AT_OWN_SIZE = [  # 1024 pixels take half a minute
    pytest.param(name, marks=[pytest.mark.slow] if name == "Kandinsky 3" else []) for name in ALL
]
SIZES = {"Sana": (32, 32), "Hunyuan-DiT": (64, 64), "Kandinsky 3": (256, 256)}
OWN_RULES = {"Kandinsky 3": "256x256 where 1024x1024"}  # its autoencoder is smaller than its pipeline takes for granted


@dataclass(frozen=True)
class Saved:
    """Folders of a family's base model and of adapters for it, by mode."""

    base: Path
    adapters: dict[str, Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, places: Places) -> Callable[[str], Saved]:
    """Saves a family, once in this module."""
    llm = LanguageModel.load(str(places.llm))
    found: dict[str, Saved] = {}

    def save(name: str) -> Saved:
        if name not in found:
            root, pipe = tmp_path_factory.mktemp("family"), ALL[name].build()
            pipe.save_pretrained(root / "base")
            modes = ("augment", "replace") if name in FAMILIES else ("augment",)
            for mode in modes:
                perturb(LLMDiffAdapter.create(pipe, llm, mode=mode)).save_pretrained(root / mode)
            found[name] = Saved(root / "base", {mode: root / mode for mode in modes})
        return found[name]

    return save


@pytest.mark.parametrize("name", AT_OWN_SIZE)
def test_a_picture_beside_the_base_models(run: Run, saved: Callable[[str], Saved], name: str) -> None:
    places = saved(name)
    result = run("generate", "a red cup", "--base", places.base, "--adapter", places.adapters["augment"],
                 "--steps", 2, "--seed", 1, "--compare", "--device", "cpu")  # fmt: skip
    assert result.status == 0, result.stderr
    assert (OWN_RULES[name] in result.stderr) if name in OWN_RULES else (result.stderr == "")
    ours, base = Image.open("out/a-red-cup-s1.png"), Image.open("out/a-red-cup-s1-base.png")
    assert ours.size == base.size == SIZES.get(name, (16, 16))
    assert ours.tobytes() != base.tobytes()
    assert run("regenerate", "out/a-red-cup-s1-compare.png", "--trust").stdout.endswith("(identical)\n")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:The base model drew a picture")
def test_every_step_is_reported(saved: Callable[[str], Saved], name: str) -> None:
    shares: list[float] = []
    request = GenerationRequest(
        prompts=["a", "b"], base=str(saved(name).base), adapter="none", steps=2, size=(64, 64), device="cpu"
    )
    generate(request, lambda stage, share: shares.append(share))
    assert shares[1:] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", FAMILIES)
def test_replace_mode_needs_no_text_encoder(run: Run, saved: Callable[[str], Saved], name: str, tmp_path: Path) -> None:
    places = saved(name)
    base = Path(shutil.copytree(places.base, tmp_path / "base"))
    for part in base.iterdir():
        if part.name.startswith(("text_encoder", "tokenizer")):
            shutil.rmtree(part)
    options = ["--base", base, "--steps", 2, "--device", "cpu", "--negative", "a box"]
    result = run("generate", "a red cup", "--adapter", places.adapters["replace"], *options)
    assert (result.status, result.stderr) == (0, "")
    for needing in (["--adapter", places.adapters["augment"]], ["--adapter", "none"]):
        assert "lacks its t" in run("generate", "a red cup", *needing, *options).stderr
    assert "lacks its t" in run("generate", "a", "--adapter", places.adapters["replace"], *options, "--compare").stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prompt", ["word " * 5000, "a \0 🦊 cup", "-no people"])
def test_odd_prompts(run: Run, saved: Callable[[str], Saved], name: str, prompt: str) -> None:
    for adapter in ("none", *saved(name).adapters.values()):
        options = ["--base", saved(name).base, "--adapter", adapter, "--steps", 1, "--size", "64x64"]
        result = run("generate", *options, "--", prompt)
        assert result.status == 0, result.stderr
        assert all(line.startswith("warning: ") for line in result.stderr.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", ["8x8", "24x24", "40x72", "64x64"])
def test_any_size_is_drawn_or_explained(run: Run, saved: Callable[[str], Saved], name: str, size: str) -> None:
    result = run("generate", "a", "--base", saved(name).base, "--adapter", "none", "--steps", 1, "--size", size)
    if result.status:
        assert result.stderr.startswith(f"error: The base model cannot draw a picture of {size} ")
    else:
        assert "x".join(map(str, Image.open(result.stdout.strip()).size)) == size or "where" in result.stderr
    assert len(result.stderr.splitlines()) <= 1


def test_a_size_that_the_denoiser_cannot_take(run: Run, tmp_path: Path) -> None:
    parts = build_pixart().components | {"vae": build_vae(levels=4)}
    type(build_pixart())(**parts).save_pretrained(tmp_path / "base")
    result = run("generate", "a", "--base", "base", "--adapter", "none", "--steps", 1, "--size", "24x24")
    assert result.status == 1
    assert result.stderr.startswith("error: The base model cannot draw a picture of 24x24 ")
    assert "ask for 64x64" in result.stderr


def test_a_single_file(run: Run, saved: Callable[[str], Saved], tmp_path: Path) -> None:
    places = saved("SD 1.x")
    file = save_checkpoint(build_sd(), tmp_path / "one.safetensors")
    options = ["a red cup", "--adapter", places.adapters["augment"], "--steps", 2, "--seed", 1]
    result = run("generate", *options, "--base", file, "--base-config", places.base, "--out", "file.png")
    assert (result.status, result.stderr) == (0, "")
    run("generate", *options, "--base", places.base, "--out", "folder.png")
    assert Image.open("file.png").tobytes() == Image.open("folder.png").tobytes()
    assert run("regenerate", "file.png", "--trust").stdout == "file-again.png (identical)\n"
    moved = Path(shutil.copytree(places.base, tmp_path / "moved"))
    assert run("regenerate", "file.png", "--base-config", moved, "--trust").stdout.endswith("(identical)\n")


def test_a_wrong_base_is_named_before_anything_is_loaded(run: Run, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "v1-5.ckpt")
    for option in ("none", "./nowhere"):
        result = run("generate", "a", "--base", "v1-5.ckpt", "--adapter", option)
        assert result.status == 1
        assert "pickle" in result.stderr
