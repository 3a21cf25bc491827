import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, LlamaConfig

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.clip_iqa import TEXTS, clip_iqa
from llmdiff.evaluation.similarity import ImageTextModel
from tiny_similarity import KINDS, save_similarity

LONG = "A red cup stands on a table, and a blue ball lies in front of it. " * 6


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_similarity(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def model(folder: str) -> ImageTextModel:
    return ImageTextModel.load(folder)


def images(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)) for _ in range(count)]


def test_scores_are_those_of_the_model_itself(model: ImageTextModel, folder: str) -> None:
    """By transformers' own forward, whose logits are the cosines times its scale, plus its bias."""
    texts = ["a red cup", "two blue balls at night"]
    loaded = AutoModel.from_pretrained(folder)
    kind = loaded.config.model_type
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 64}
    inputs = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **padding)
    pixels = AutoImageProcessor.from_pretrained(folder)(images=images(2), return_tensors="pt")
    known = {"input_ids": inputs["input_ids"]}
    if kind == "clip":
        known["attention_mask"] = inputs["attention_mask"]
    with torch.no_grad():
        logits = loaded(**known, **pixels).logits_per_image
        cosines = (logits - getattr(loaded, "logit_bias", 0)) / loaded.logit_scale.exp()
    assert torch.allclose(model.similarity(images(2), texts).scores, cosines.diagonal(), atol=1e-5)


def test_a_score_is_the_same_alone_and_in_company_and_in_any_order(model: ImageTextModel) -> None:
    pictures, texts = images(20), [f"a cup number {n} " + "red " * (n % 7) for n in range(20)]
    together = model.similarity(pictures, texts).scores
    alone = torch.cat([model.similarity([x], [y]).scores for x, y in zip(pictures[:3], texts[:3], strict=True)])
    assert torch.allclose(together[:3], alone, atol=1e-5)
    order = list(range(20))
    random.Random(0).shuffle(order)
    shuffled = model.similarity([pictures[n] for n in order], [texts[n] for n in order]).scores
    assert torch.allclose(shuffled, together[order], atol=1e-5)


def test_the_end_of_a_long_prompt_counts(model: ImageTextModel) -> None:
    found = model.similarity(images(1) * 2, [LONG + "At night.", LONG + "By day."])
    assert found.in_pieces == 2
    assert abs(found.scores[0] - found.scores[1]) > 1e-5
    assert model.similarity(images(1), ["a cup"]).in_pieces == 0


def test_a_text_in_pieces_is_the_mean_of_them(model: ImageTextModel) -> None:
    pieces = list(model.pieces(LONG))
    assert len(pieces) > 1
    each = model.similarity(images(1) * len(pieces), pieces).scores
    assert torch.allclose(model.similarity(images(1), [LONG]).scores, each.mean(), atol=1e-5)


@given(st.text(max_size=400))
@settings(max_examples=30, deadline=None)
def test_pieces_lose_nothing_but_space(text: str) -> None:
    pieces = list(_MODEL.pieces(text))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) < 2 or len(_MODEL._tokenizer(piece)["input_ids"]) <= 64 for piece in pieces)


class _Characters:
    """A tokenizer of characters."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [0, *map(ord, text), 0]}


_MODEL = ImageTextModel.__new__(ImageTextModel)
_MODEL._tokenizer, _MODEL._length = _Characters(), 64


def test_a_very_long_text_takes_no_recursion_and_little_time(model: ImageTextModel) -> None:
    assert sum(1 for _ in model.pieces("word " * 1000)) > 10


def test_clip_iqa_is_the_share_of_praise(model: ImageTextModel) -> None:
    scores = clip_iqa(model, images(3))
    praise, blame = (model.similarity(images(3), [text] * 3).scores for text in TEXTS)
    assert torch.allclose(scores, torch.sigmoid(100 * (praise - blame)), atol=1e-4)


def test_the_revision_of_a_folder_is_its_content(folder: str, model: ImageTextModel, tmp_path: Path) -> None:
    loaded = AutoModel.from_pretrained(folder)
    assert ImageTextModel.load(folder).revision == model.revision
    with torch.no_grad():
        next(loaded.parameters()).view(-1)[0] += 1
    loaded.save_pretrained(tmp_path)
    for kind in (AutoTokenizer, AutoImageProcessor):
        kind.from_pretrained(folder).save_pretrained(tmp_path)
    assert ImageTextModel.load(str(tmp_path)).revision != model.revision


def test_what_is_no_such_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LLMDiffError, match="model of pictures and texts"):
        ImageTextModel.load(str(tmp_path))
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(LLMDiffError, match="of the kind 'llama'"):
        ImageTextModel.load(str(tmp_path))


def test_missing_weights_are_an_error(folder: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in Path(folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(sorted(weights)[3])
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(LLMDiffError, match="lacks the weights"):
        ImageTextModel.load(str(tmp_path))
