"""All scores of tiny models in one table."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import overview
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.overview import Overview, evaluate_all
from llmdiff.generation import renderer
from llmdiff.scenes.scene import Scene
from tiny_base import Places
from tiny_similarity import save_similarity

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_similarity(tmp_path_factory.mktemp("siglip"), "siglip")


def small(places: Places, siglip: str, **options: object) -> Overview:
    models = {"base": str(places.base), "adapter": str(places.adapter), "siglip": siglip, "features": siglip}
    return Overview(**models | {"limit": 1, "seeds": 4, "steps": 1, "guidance_sweep": (1.0, 4.0)} | options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def others_are_tested_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that draw for themselves have tests of their own; their rows are what counts here."""
    row = {"scenes": 6, "wordings": 4, "same": 0.25, "low": 0.1, "high": 0.4}
    models = ("base", "adapted", "difference")
    monkeypatch.setattr(overview, "evaluate_consistency", lambda **_: [row | {"model": model} for model in models])
    ends = {"wording": "plain", "low": 0.0, "high": 0.5}
    distances = [ends | {"things": things, "distance": n / 8} for n, things in enumerate((1, 2, "all"))]
    monkeypatch.setattr(overview, "evaluate_distance", lambda **_: distances)


@pytest.fixture
def _cheap_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read a picture of noise takes the checker half a second."""
    cheap = replace(DOMAINS[1], read=lambda image: Scene("night" if sum(image.tobytes()) % 2 else "day", ()))
    monkeypatch.setitem(DOMAINS, 1, cheap)


@pytest.mark.usefixtures("_cheap_reading")
def test_every_score_of_every_system_and_the_adapter_beside_each(
    places: Places, siglip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = evaluate_all(small(places, siglip), tmp_path)
    found = {(row["score"], row["system"]): row for row in rows}
    systems = ["base", "base at 1", "adapted", "drawn", "adapted - base", "adapted - base at 1"]
    for score in ("scene", "facts", "siglip", "fd", "cmmd"):
        own = [row for row in rows if row["score"] == score]
        assert [row["system"] for row in own] == systems
        assert all(row["low"] <= row["mean"] <= row["high"] for row in own)
        assert {(row["prompts"], row["pictures"]) for row in own} == {(6, 24)}
    gain = found["siglip", "adapted"]["mean"] - found["siglip", "base at 1"]["mean"]
    assert found["siglip", "adapted - base at 1"]["mean"] == pytest.approx(gain)
    assert found["consistency", "adapted - base"]["pictures"] == 24
    assert found["distance, plain", "adapted"]["mean"] == 0.25

    def never(*_: object) -> None:
        raise AssertionError("pictures that are there are not drawn again")

    monkeypatch.setattr(renderer.Renderer, "draw_batch", never)
    again = evaluate_all(small(places, siglip), tmp_path)
    assert [row["mean"] for row in again] == [row["mean"] for row in rows]


def test_prompts_and_reference_of_one_s_own(places: Places, siglip: str, tmp_path: Path) -> None:
    """They need no scenes: there is the score of the model, and the distances to the pictures given."""
    (tmp_path / "prompts.txt").write_text("a red cup\na dog\n" * 10)
    own = {"prompts": tmp_path / "prompts.txt", "guidance_sweep": ()}
    with pytest.raises(LLMDiffError, match="need --reference"):
        evaluate_all(small(places, siglip, **own), tmp_path)
    with pytest.warns(UserWarning, match="knows picture-book scenes alone"):
        rows = evaluate_all(small(places, siglip, **own, features="embedded"), tmp_path)
    assert [(row["score"], row["system"]) for row in rows] == [
        ("siglip", "base"), ("siglip", "adapted"), ("siglip", "adapted - base"),
    ]  # fmt: skip
    pictures = next(path for path in tmp_path.iterdir() if (path / "base").is_dir()) / "base"
    rows = evaluate_all(small(places, siglip, **own, reference=pictures, adapter="none"), tmp_path)
    distances = {row["score"]: row["mean"] for row in rows if row["score"] != "siglip"}
    assert distances["fd"] == pytest.approx(0, abs=1e-6)
    assert distances["cmmd"] <= 1e-6


def test_few_pictures_have_no_distances_and_drawn_ones_are_right(places: Places, siglip: str, tmp_path: Path) -> None:
    rows = evaluate_all(small(places, siglip, adapter="none", seeds=1, guidance_sweep=()), tmp_path)
    assert {row["score"] for row in rows} == {"scene", "facts", "siglip", "consistency"}
    drawn = {row["score"]: row["mean"] for row in rows if row["system"] == "drawn"}
    assert drawn["scene"] == drawn["facts"] == 1
    (folder,) = tmp_path.glob("*/drawn")
    pairs = [(path, folder.parent / "reference" / path.name) for path in sorted(folder.glob("*.png"))]
    assert len(pairs) == 6
    images = [[np.asarray(Image.open(path)) for path in pair] for pair in pairs]
    assert all(not np.array_equal(one, other) for one, other in images)


@pytest.mark.usefixtures("_cheap_reading")
@pytest.mark.fault("identity")
def test_an_adapter_that_was_trained_on_is_drawn_with_anew(places: Places, siglip: str, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(places.adapter, tmp_path / "adapter"))
    settings = small(places, siglip, adapter=str(adapter), seeds=1, guidance_sweep=())
    before = evaluate_all(settings, tmp_path / "out")
    weights = load_file(adapter / "adapter.safetensors")
    for name, weight in weights.items():
        if weight.is_floating_point():
            weights[name] = weight + 0.5
    save_file(weights, adapter / "adapter.safetensors")
    after = evaluate_all(settings, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    changed = {
        old["system"]
        for old, new in zip(before, after, strict=True)
        if old["score"] == "siglip" and old["mean"] != new["mean"]
    }
    assert changed == {"adapted", "adapted - base"}
