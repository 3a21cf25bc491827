"""PNGs from strangers: what they ask for is bounded, and nothing is loaded that nobody has named or confirmed."""

import copy
import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from generation.test_redraw import anyone, draw
from llmdiff.errors import LLMDiffError
from llmdiff.generation import read_png, regenerate
from llmdiff.generation.provenance import scheduler_config
from llmdiff.generation.untrusted import scheduler_of
from tiny_base import Places

pytestmark = pytest.mark.fault("png")
FIRST_VERSION = Path(__file__).parents[1] / "first_version" / "base-alone.png"


@pytest.fixture(scope="module")
def drawn(places: Places, tmp_path_factory: pytest.TempPathFactory) -> tuple[Image.Image, dict[str, Any]]:
    """A picture of the base alone and its document."""
    image, document = read_png(draw(places, tmp_path_factory.mktemp("drawn") / "x.png", adapter=False))
    return image, document.model_dump(mode="json")


def forged(path: Path, drawn: tuple[Image.Image, dict[str, Any]], change: Callable[[dict[str, Any]], None]) -> Path:
    """A PNG with a changed record."""
    image, content = copy.deepcopy(drawn)
    change(content)
    info = PngInfo()
    info.add_text("llmdiff", json.dumps(content))
    image.save(path, pnginfo=info)
    return path


def the_models(**names: str | None) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["pictures"][0]["models"].update(names)


@pytest.fixture
def no_reach(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where a connection was tried or a pipeline was loaded from; the first fails."""
    tried: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(str(arguments))
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tried


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"base": "owner/name"}, "'owner/name'"),
        ({"base": "./elsewhere"}, "'./elsewhere'"),
        ({"base": "/dev/zero"}, "'/dev/zero'"),
        ({"base": "x.safetensors", "base_config": "owner/configs"}, "'owner/configs'"),
        ({"base": "embedded", "adapter": "owner/adapter"}, "'owner/adapter'"),
        ({"base": "embedded", "adapter": "embedded", "llm": "owner/llm"}, "'owner/llm'"),
        ({"base": "embedded", "adapter": "embedded", "llm": "//host/share/llm.gguf"}, "llm.gguf"),
        ({"base": "embedded", "adapter": "embedded"}, "llmdiff models pull smollm2-135m"),
        ({"base": "embedded", "adapter": "embedded", "llm": "gemma3-270m"}, "llmdiff models pull gemma3-270m"),
    ],
)
def test_nothing_is_loaded_or_fetched_that_nobody_has_named(
    drawn: tuple[Image.Image, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_reach: list[str],
    names: dict[str, str],
    told: str,
) -> None:
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    path = forged(tmp_path / "x.png", drawn, the_models(**names))
    asked: list[str] = []
    with pytest.raises(LLMDiffError) as caught:
        regenerate(path, confirm=lambda models: bool(asked.append(models)))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked == [] or told in asked[0]
    assert no_reach == []
    assert not (tmp_path / "home").exists()


def test_what_is_named_is_loaded_and_nothing_else_asked_for(places: Places, tmp_path: Path) -> None:
    path = draw(places, tmp_path / "x.png")
    asked: list[str] = []
    with pytest.raises(LLMDiffError, match="neither named nor confirmed"):
        regenerate(path, base=str(places.base), confirm=lambda models: bool(asked.append(models)))
    assert asked == [f"the adapter {str(places.adapter)!r}"]
    named = {"base": str(places.base), "adapter": str(places.adapter)}
    assert regenerate(path, **named, confirm=lambda models: pytest.fail(models)).identical
    assert regenerate(path, confirm=anyone).identical


def test_an_adapters_llm_on_the_hub_is_asked_for(places: Places, tmp_path: Path, no_reach: list[str]) -> None:
    path = draw(places, tmp_path / "x.png")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for file in places.adapter.iterdir():
        (adapter / file.name).write_bytes(file.read_bytes())
    config = json.loads((adapter / "config.json").read_text())
    config["llm"]["name"] = "owner/llm"
    del config["crc32"]  # as whoever edits the file does
    (adapter / "config.json").write_text(json.dumps(config))
    with pytest.raises(LLMDiffError, match="the adapter's LLM 'owner/llm'"):
        regenerate(path, base=str(places.base), adapter=str(adapter))
    assert no_reach == []
    assert regenerate(path, base=str(places.base), adapter=str(adapter), llm=str(places.llm)).identical


def with_pictures(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["pictures"][0]["picture"].update(settings)


def many(content: dict[str, Any]) -> None:
    content["kind"] = "comparison"
    content["pictures"] *= 9999
    content["pictures"][0]["picture"].update(width=4096, height=4096)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_pictures(width=8192, height=8192), "changed since"),
        (many, "changed since"),
        (lambda content: content["pictures"].extend(content["pictures"]), "holds 2"),
        (with_pictures(prompt="\ud800"), "valid text"),
        (with_pictures(negative="\udfff"), "valid text"),
    ],
)
def test_amounts_are_bounded_by_the_file(
    drawn: tuple[Image.Image, dict[str, Any]], tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(LLMDiffError, match=words):
        regenerate(forged(tmp_path / "x.png", drawn, change), confirm=anyone)


SETTINGS: list[dict[str, Any]] = [
    {"num_train_timesteps": 10**12},
    {"num_train_timesteps": -5},
    {"num_train_timesteps": "1000"},
    {"num_train_timesteps": 0.5},
    {"num_train_timesteps": True},
    {"beta_start": float("nan")},
    {"beta_end": 1e308},
    {"beta_schedule": "x" * 10**6},
    {"beta_schedule": "none such"},
    {"trained_betas": [[0.1]]},
    {"trained_betas": [0.1] * 200_000},
    {"trained_betas": {"a": 1}},
    {"timestep_spacing": "none such"},
    {"steps_offset": 10**400},
    {"prediction_type": "none such"},
    {"timestep_spacing": ["leading"]},
]


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda one: f"{next(iter(one))}={str(next(iter(one.values())))[:12]}")
def test_scheduler_settings_are_a_scheduler_or_a_sentence(
    drawn: tuple[Image.Image, dict[str, Any]], tmp_path: Path, changes: dict[str, Any]
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["pictures"][0]["provenance"]["scheduler"].update(changes)

    with pytest.raises(LLMDiffError) as caught:
        regenerate(forged(tmp_path / "x.png", drawn, change), confirm=anyone)
    assert len(str(caught.value)) < 600


NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(-(10**7), 10**7), st.booleans())
VALUES = st.recursive(
    st.one_of(NUMBERS, st.none(), st.text(max_size=9)),
    lambda one: st.one_of(st.lists(one, max_size=4), st.dictionaries(st.text(max_size=4), one, max_size=3)),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "clip_sample", "steps_offset",
     "prediction_type", "thresholding", "solver_order", "algorithm_type", "_class_name", "__init__", "self"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["DDIMScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "LCMScheduler",
     "UniPCMultistepScheduler", "HeunDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "SchedulerMixin", "os"]
)  # fmt: skip


@given(name=st.one_of(NAMES, VALUES), settings=st.dictionaries(KEYS, VALUES, max_size=5))
@examples(deadline=None, max_examples=150)
def test_any_scheduler_is_one_or_a_sentence(name: Any, settings: dict[str, Any]) -> None:
    found: list[Any] = []
    said = sentence(lambda: found.append(scheduler_of({**settings, "_class_name": name})))
    assert "\n" not in said
    assert bool(said) != bool(found)
    assert [type(one).__name__ for one in found] in ([], [name])


def test_the_settings_of_every_scheduler_come_back() -> None:
    for stock in (DDIMScheduler(num_train_timesteps=50, trained_betas=[0.1] * 50), DPMSolverMultistepScheduler()):
        recorded = scheduler_config(SimpleNamespace(scheduler=stock))
        provenance = read_png(FIRST_VERSION)[1].pictures[0].provenance.model_copy(update={"scheduler": recorded})
        again = scheduler_of(json.loads(provenance.model_dump_json())["scheduler"])
        assert scheduler_config(SimpleNamespace(scheduler=again)) == recorded


@given(data=st.data())
@examples(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_record_is_a_picture_or_a_sentence(
    drawn: tuple[Image.Image, dict[str, Any]], tmp_path: Path, data: st.DataObject
) -> None:
    def change(content: dict[str, Any]) -> None:
        record = content["pictures"][0]
        parts = [record["picture"], record["provenance"], record["provenance"]["scheduler"], record, content]
        for _ in range(data.draw(st.integers(1, 3))):
            part = data.draw(st.sampled_from(parts))
            part[data.draw(st.sampled_from(sorted(part)))] = data.draw(VALUES)

    path = forged(tmp_path / "x.png", drawn, change)
    said = sentence(lambda: regenerate(path, confirm=anyone))
    assert "\n" not in said


def sentence(call: Callable[[], Any]) -> str:
    """What a call says of what it cannot do, and nothing if it can."""
    try:
        call()
    except LLMDiffError as error:
        return str(error)
    return ""
