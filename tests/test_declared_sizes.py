"""Configs of models from strangers: a model or one sentence, before anything is allocated by them."""

import copy
import json
import resource
import shutil
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from language.families import ALIBI, FAMILIES, RECURRENT, build
from llmdiff.base.loading import load_pipeline
from llmdiff.declared_sizes import Held, check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.features import VisionModel
from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.language import LanguageModel
from llmdiff.training.meta import meta_base, meta_llm
from tiny_base import Places
from tiny_gguf import write_gguf
from tiny_llm import build_tokenizer
from tiny_similarity import KINDS, save_similarity

HUGE = (10**9, 10**18)
ODD = (10**6, -1, 0, 1e300, None, "x", [1, 2], {})
PARTS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "scheduler": "scheduler_config.json",
}
LARGER = "declares a larger model than its weight files hold"


def load_llm(folder: Path) -> object:
    return LanguageModel.load(str(folder))


def places_in(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every plain value of a JSON tree, by its owner and key."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from places_in(value)
        elif not str(key).startswith("_"):
            yield node, key


def said(load: Callable[[], object]) -> str:
    """The sentence that refuses a model, and nothing of one that loads; in seconds and without gigabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load()
            sentence = ""
        except LLMDiffError as error:
            sentence = str(error)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1_000_000  # kB
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def try_all(file: Path, values: tuple[object, ...], load: Callable[[], object]) -> dict[object, list[str]]:
    """What is said of a config with each value in the place of each of its own, by that value."""
    whole, found = file.read_text(), {}
    places = len(list(places_in(json.loads(whole))))
    for value in values:
        found[str(value)] = []
        for number in range(places):
            config = copy.deepcopy(json.loads(whole))
            owner, key = list(places_in(config))[number]
            owner[key] = value
            file.write_text(json.dumps(config))
            found[str(value)].append(said(load))
    file.write_text(whole)
    return found


@pytest.fixture
def llm(places: Places, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places.llm, tmp_path / "llm"))


@pytest.fixture
def base(places: Places, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places.base, tmp_path / "base"))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"])
@pytest.mark.parametrize("size", HUGE)
def test_an_llm_is_no_larger_than_its_weights(llm: Path, name: str, size: int) -> None:
    config = json.loads((llm / "config.json").read_text())
    (llm / "config.json").write_text(json.dumps(config | {name: size}))
    assert LARGER in said(lambda: load_llm(llm))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unet", {"block_out_channels": [10**9, 10**9]}),
        ("unet", {"cross_attention_dim": 10**9}),
        ("unet", {"layers_per_block": 10**6}),
        ("unet", {"layers_per_block": 5000}),
        ("unet", {"transformer_layers_per_block": 10**9}),
        ("vae", {"block_out_channels": [10**8, 10**8]}),
        ("vae", {"latent_channels": 10**9}),
        ("text_encoder", {"vocab_size": 10**9}),
        ("text_encoder", {"hidden_size": 10**8}),
        ("text_encoder", {"num_hidden_layers": 10**6}),
        ("text_encoder", {"num_hidden_layers": 9000}),
        ("text_encoder", {"max_position_embeddings": 10**9}),
    ],
)
def test_a_base_is_no_larger_than_its_weights(base: Path, part: str, change: dict[str, Any]) -> None:
    file = base / part / PARTS[part]
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert LARGER in said(lambda: load_pipeline(base))


@pytest.mark.fault("hostile sizes")
def test_any_huge_number_is_an_llm_or_a_sentence(llm: Path) -> None:
    found = try_all(llm / "config.json", HUGE, lambda: load_llm(llm))
    assert all(any(LARGER in sentence for sentence in sentences) for sentences in found.values())


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("name", ["block_count", "embedding_length", "feed_forward_length"])
@pytest.mark.parametrize("size", [5000, 10**9])
def test_a_gguf_file_is_no_larger_than_its_weights(tmp_path: Path, name: str, size: int) -> None:
    file = tmp_path / "x.gguf"
    write_gguf(file, build_tokenizer())
    content = file.read_bytes()
    place = content.index(f"llama.{name}".encode()) + len(f"llama.{name}") + 4  # behind the type of the number
    file.write_bytes(content[:place] + struct.pack("<I", size) + content[place + 4 :])
    assert said(lambda: LanguageModel.load(str(file)))


@pytest.mark.slow
@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("family", FAMILIES | ALIBI | RECURRENT)
def test_any_value_is_an_llm_of_any_family_or_a_sentence(family: str, tmp_path: Path) -> None:
    build(family, (FAMILIES | ALIBI | RECURRENT)[family], torch.float32).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    assert said(lambda: load_llm(tmp_path)) == ""
    try_all(tmp_path / "config.json", HUGE + ODD, lambda: load_llm(tmp_path))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("text_config", "vocab_size"),
        ("text_config", "hidden_size"),
        ("text_config", "num_hidden_layers"),
        ("text_config", "max_position_embeddings"),
        ("vision_config", "hidden_size"),
        ("vision_config", "image_size"),
        ("vision_config", "num_hidden_layers"),
    ],
)
def test_a_scoring_model_is_no_larger_than_its_weights(kind: str, part: str, name: str, tmp_path: Path) -> None:
    folder = save_similarity(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    config[part][name] = 10**9
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert LARGER in said(lambda: ImageTextModel.load(folder))
    assert LARGER in said(lambda: VisionModel.load(folder))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("kind", KINDS)
def test_what_prepares_pictures_asks_for_no_huge_ones(kind: str, tmp_path: Path) -> None:
    folder = save_similarity(tmp_path, kind)
    file = tmp_path / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    for name in ("size", "crop_size"):
        if isinstance(settings.get(name), dict):
            changed = settings | {name: dict.fromkeys(settings[name], 10**6)}
            file.write_text(json.dumps(changed))
            assert f"asks for pictures of {name}" in said(lambda: ImageTextModel.load(folder))


@pytest.mark.slow
@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_any_value_is_a_scoring_model_or_a_sentence(kind: str, file: str, tmp_path: Path) -> None:
    folder = save_similarity(tmp_path, kind)

    def score() -> None:
        ImageTextModel.load(folder).similarity([Image.new("RGB", (40, 30))], ["a red cup"])

    assert said(score) == ""
    try_all(tmp_path / file, HUGE + ODD, score)


@pytest.mark.slow
@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("part", PARTS)
def test_any_value_is_a_base_or_a_sentence(base: Path, part: str) -> None:
    try_all(base / part / PARTS[part], HUGE + ODD, lambda: load_pipeline(base))


@pytest.mark.fault("hostile sizes")
def test_a_dry_run_builds_no_model_of_any_size(llm: Path, base: Path) -> None:
    """It has no weights to hold a config to."""
    for file, change in (
        (llm / "config.json", {"vocab_size": 10**15}),
        (base / "unet/config.json", {"layers_per_block": 10**6}),
    ):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with torch.device("meta"):
        assert LARGER in said(lambda: meta_llm(str(llm)))
        assert LARGER in said(lambda: meta_base(str(base)))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"a": 1, "a": 2}', "\0"])
def test_texts_that_are_no_config_of_an_llm(llm: Path, text: str) -> None:
    (llm / "config.json").write_text(text)
    assert "config.json" in said(lambda: load_llm(llm))


def test_weights_that_are_tied_or_missing_or_exchanged_are_allowed() -> None:
    held = Held(tensors=1, numbers=40_000_000)
    with held_to("It", lambda: held), torch.device("meta"):
        module = nn.Module()
        for name in "ab":
            module.register_parameter(name, nn.Parameter(torch.empty(40_000_000)))
        for _ in range(9):
            module.a = nn.Parameter(torch.empty(40_000_000))
        module.b = None
    with pytest.raises(LLMDiffError, match="It declares a larger model"), held_to("It", lambda: held):
        module.register_buffer("c", torch.empty(2**29, device="meta"))
    nn.Linear(10**6, 10**6, device="meta")  # and none of it outlives the context


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), held_to("It", lambda: None):
        raise RuntimeError("something else")
    with pytest.raises(LLMDiffError, match="than there is memory for"), held_to("It", lambda: None):
        torch.empty(10**9, 10**9)


@pytest.mark.parametrize("config", [{"num_hidden_layers": 126, "layer_norm_eps": 1e-5}, {"sample_size": [128, 256]}, 7])
def test_what_models_have_is_allowed(config: object) -> None:
    check_config("It", config)
