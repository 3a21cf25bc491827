from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import ScenePrompt, evaluate_pictures, scene_prompts
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import scene_with
from tiny_similarity import save_similarity


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_similarity(tmp_path_factory.mktemp("siglip"), "siglip")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_similarity(tmp_path_factory.mktemp("clip"), "clip")


def write(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        info = PngInfo()
        if number % 2:
            info.add_text("parameters", f"a cup number {number}\nSteps: 20")
        else:
            (folder / f"{number}.txt").write_text(f"a cup number {number}\n")
        image.save(folder / f"{number}.png", pnginfo=info)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {"base": write(tmp_path / "base", 6, 1), "adapted": write(tmp_path / "adapted", 6, 2)}


def test_rows_are_the_scores_of_each_folder_and_their_difference(folders: dict[str, Path], siglip: str) -> None:
    rows = {row["system"]: row for row in evaluate_pictures(folders, siglip=siglip)}
    model = ImageTextModel.load(siglip)
    means = {}
    for system, folder in folders.items():
        images = [Image.open(folder / f"{n}.png").convert("RGB") for n in range(6)]
        means[system] = model.similarity(images, [f"a cup number {n}" for n in range(6)]).scores.mean().item()
        assert rows[system]["mean"] == pytest.approx(means[system], abs=1e-6)
        assert rows[system]["low"] <= rows[system]["mean"] <= rows[system]["high"]
    assert rows["adapted - base"]["mean"] == pytest.approx(means["adapted"] - means["base"], abs=1e-6)
    assert rows["base"]["revision"] == model.revision
    assert (rows["base"]["prompts"], rows["base"]["pictures"], rows["base"]["in_pieces"]) == (6, 6, 0)


def test_a_folder_beside_itself_differs_by_nothing(folders: dict[str, Path], siglip: str, clip: str) -> None:
    rows = evaluate_pictures({"a": folders["base"], "b": folders["base"]}, siglip=siglip, clip=clip)
    differences = [row for row in rows if row["system"] == "b - a"]
    assert [row["score"] for row in differences] == ["siglip", "clip-iqa"]
    assert all(row["mean"] == row["low"] == row["high"] == 0 for row in differences)


def test_other_pixels_have_other_scores(folders: dict[str, Path], siglip: str, clip: str) -> None:
    """Blur, noise and a black frame: what a trained model makes of them is its own, but it sees them."""
    (before, after) = ({}, {})
    for found in (before, after):
        found |= {
            row["score"]: row["mean"] for row in evaluate_pictures({"a": folders["base"]}, siglip=siglip, clip=clip)
        }
        Image.new("RGB", (32, 32)).save(folders["base"] / "0.png")
    assert before["siglip"] != after["siglip"]
    assert before["clip-iqa"] != after["clip-iqa"]


def scenes(
    folder: Path, spoil: Callable[[Image.Image], Image.Image], prompts: Sequence[ScenePrompt], turn: int
) -> Path:
    """Pictures of prompts as the domain draws them, spoiled, beside their prompts or, turned, those of others."""
    folder.mkdir()
    for number, prompt in enumerate(prompts):
        picture = draw(scene_with(prompt.facts, np.random.default_rng(number)))
        spoil(Image.fromarray(picture)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(prompts[(number + turn) % len(prompts)].prompt)
    return folder


def test_spoiled_pictures_and_shuffled_prompts_cost_facts(tmp_path: Path) -> None:
    prompts = [prompt for prompt in scene_prompts(1) if prompt.group in ("plain", "relations")]
    rng = np.random.default_rng(0)
    spoils = {
        "whole": lambda image: image,
        "blur": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
        "noise": lambda image: Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        "black": lambda image: Image.new("RGB", image.size),
    }
    folders = {name: scenes(tmp_path / name, spoil, prompts, 0) for name, spoil in spoils.items()}
    rows = evaluate_pictures(folders, scenes=True)
    rows += evaluate_pictures({"shuffled": scenes(tmp_path / "shuffled", spoils["whole"], prompts, 1)}, scenes=True)
    means = {(row["score"], row["system"]): row["mean"] for row in rows}
    assert means["scene", "whole"] == means["facts", "whole"] == 1
    for name in ("blur", "noise", "black", "shuffled"):
        assert means["scene", name] == 0
        assert means["facts", name] < 0.6


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "3.png").unlink(), "has a picture '3'"),
        (
            lambda folder: (folder / "2.txt").write_text("a dog"),
            "'2' of 'base' has another prompt",
        ),
        (lambda folder: (folder / "2.txt").unlink(), r"put its prompt beside it, into a file 2\.txt"),
        (lambda folder: (folder / "2.png").write_bytes(b"x"), "not a picture"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "has no pictures"),
    ],
)
def test_a_picture_that_is_missing_is_an_error_and_no_zero(
    folders: dict[str, Path], siglip: str, spoil: object, sentence: str
) -> None:
    spoil(folders["adapted"])
    with pytest.raises(LLMDiffError, match=sentence):
        evaluate_pictures(folders, siglip=siglip)


def test_scores_that_are_not_finite_are_an_error(
    folders: dict[str, Path], siglip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ImageTextModel, "features_of_texts", lambda self, texts: torch.full((len(texts), 32), torch.nan)
    )
    with pytest.raises(LLMDiffError, match="not a finite number"):
        evaluate_pictures({"a": folders["base"]}, siglip=siglip)


def test_there_must_be_something_to_score(folders: dict[str, Path]) -> None:
    with pytest.raises(LLMDiffError, match="--siglip"):
        evaluate_pictures(folders)
    with pytest.raises(LLMDiffError, match="name a folder"):
        evaluate_pictures({}, siglip="x")
