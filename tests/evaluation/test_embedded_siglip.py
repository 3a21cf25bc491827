"""Scores of the embedded SigLIP behave: what spoils a picture, or its prompt, costs something."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import evaluate_pictures
from llmdiff.evaluation.overview import Overview, evaluate_all
from llmdiff.evaluation.set_distances import cmmd, frechet
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Detail, describe
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.phrasing import Style, natural_text
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from mini_siglip.retrieval import retrieval

COUNT = 60
_DETAIL = Detail(colour=1.0, size=1.0, relation=1.0, background=1.0)


@pytest.fixture(scope="module")
def siglip() -> ImageTextModel:
    return ImageTextModel.load("embedded")


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Image.Image], list[str]]:
    """Drawn pictures and captions of them, half in plain words and half in natural ones."""
    images, texts = [], []
    for number in range(COUNT):
        rng = np.random.default_rng((983, number))
        scene = sample_scene(rng)
        said = describe(scene, rng, _DETAIL)
        images.append(Image.fromarray(draw(scene)))
        texts.append(natural_text(said, rng, Style(held_out=0.2)) if number % 2 else plain_text(said))
    return images, texts


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 60, (64, 64, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


SPOILT = {
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "noise": noisy,
    "black": lambda image: Image.new("RGB", image.size),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
}


def test_pictures_of_another_size_are_of_another_domain(tmp_path: Path) -> None:
    picture = tmp_path / "a"
    picture.mkdir()
    Image.new("RGB", (96, 64)).save(picture / "0.png")
    (picture / "0.txt").write_text("a red ball")
    with pytest.raises(LLMDiffError, match="nothing of a picture of 96x64"):
        evaluate_pictures({"a": picture}, "embedded")


def test_it_finds_pictures_of_unseen_scenes(siglip: ImageTextModel) -> None:
    """Of 60 pictures, where chance is 2 %, and of four that differ in one thing, where chance is 40."""
    found = retrieval(siglip, groups=1, size=60, families=30)
    assert found["picture_of_caption"] > 0.75
    assert found["caption_of_picture"] > 0.75
    assert found["picture_of_family"] > 0.6


@pytest.mark.parametrize("spoil", SPOILT)
def test_spoilt_pictures_score_lower(
    siglip: ImageTextModel, scenes: tuple[list[Image.Image], list[str]], spoil: str
) -> None:
    images, texts = scenes
    whole = siglip.similarity(images, texts).scores
    worse = siglip.similarity([SPOILT[spoil](image) for image in images], texts).scores
    error = (whole - worse).std() / COUNT**0.5
    assert (whole - worse).mean() > 3 * error


def test_shuffled_prompts_score_lower(siglip: ImageTextModel, scenes: tuple[list[Image.Image], list[str]]) -> None:
    images, texts = scenes
    own, other = (siglip.similarity(images, some).scores for some in (texts, texts[1:] + texts[:1]))
    assert (own > other).float().mean() > 0.9


def test_the_end_of_a_long_prompt_counts(siglip: ImageTextModel) -> None:
    things = (Thing("cup", "red", "large", 16, 46), Thing("ball", "blue", "small", 46, 46))
    begin = "A picture of a big red cup left of a small blue ball, drawn for children. " * 4
    for place, other in (("night", "day"), ("day", "night"), ("snow", "desert")):
        picture = Image.fromarray(draw(Scene(place, things)))
        right, wrong = (f"{begin}A big red cup, and behind it {one}." for one in (place, other))
        found = siglip.similarity([picture] * 2, [right, wrong])
        assert found.in_pieces == 2
        assert found.scores[0] > found.scores[1]


@pytest.mark.parametrize("distance", [cmmd, frechet])
def test_spoilt_sets_are_farther(siglip: ImageTextModel, scenes: tuple[list[Image.Image], list[str]], distance) -> None:
    images, _ = scenes
    reference = siglip.embed(
        [Image.fromarray(draw(sample_scene(np.random.default_rng((984, n))))) for n in range(COUNT)]
    )
    whole = distance(siglip.embed(images), reference)
    assert abs(distance(reference, reference)) < 1e-6 or distance is cmmd
    for spoil in SPOILT.values():
        assert distance(siglip.embed([spoil(image) for image in images]), reference) > whole


def test_it_is_small_and_whole(siglip: ImageTextModel) -> None:
    from llmdiff.models import find

    folder: Path = find("siglip").pull()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
    assert all(weight.dtype == torch.float32 for weight in siglip._model.parameters())
    assert siglip.revision == ImageTextModel.load(str(folder)).revision


@pytest.mark.slow
def test_a_guidance_of_20_is_farther_from_what_is_told_than_one_of_4(tmp_path: Path) -> None:
    """By the facts shown, and by both distances to drawn scenes."""
    settings = Overview(adapter="none", limit=4, seeds=1, guidance_sweep=(20.0,))
    rows = {(row["score"], row["system"]): row["mean"] for row in evaluate_all(settings, tmp_path)}
    assert rows["facts", "base at 20"] < rows["facts", "base"] < rows["facts", "drawn"]
    assert rows["siglip", "base"] < rows["siglip", "drawn"]
    for score in ("fd", "cmmd"):
        assert rows[score, "base at 20"] > rows[score, "base"] > rows[score, "drawn"]
