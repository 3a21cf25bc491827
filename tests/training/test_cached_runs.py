"""Runs with caches: shared between runs, of every kind, and a start that is fitted."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.precompute import latents, terms
from llmdiff.training import Recipe, load_recipe, train
from llmdiff.training.run_manifest import _binding
from tiny_base import Places

KINDS = {
    "all": {},
    "grouped": {"terms": "grouped", "groups": 2},
    "live terms": {"terms": "none"},
    "live latents": {"latents": False},
    "checked": {"check": True},
}


def write_recipe(folder: Path, places: Places, name: str, **changes: object) -> str:
    recipe = {
        "folder": str(folder / name),
        "base": str(places.base),
        "llm": str(places.llm),
        "mode": "replace",
        "data": {"kind": "scenes", "captions": 12, "pictures": 2},
        "precision": "float32",
        "loop": {"steps": 3, "batch_size": 2, "log_every": 1, "warmup": 1},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return str(path)


def weights(summary: dict[str, str]) -> dict[str, Tensor]:
    return load_file(Path(summary["adapter"]) / "adapter.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0) -> bool:
    return all(torch.allclose(value, other[name], rtol=0, atol=tolerance) for name, value in one.items())


def never(*_: object) -> None:
    pytest.fail("it is computed again")


def test_another_run_beside_it_finds_what_the_first_has_computed(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(write_recipe(tmp_path, places, "one"))
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()) == ["latents", "terms"]
    monkeypatch.setattr(latents, "encode_pictures", never)
    monkeypatch.setattr(terms, "extract_stack", never)
    assert same(weights(first), weights(train(write_recipe(tmp_path, places, "two"))))
    elsewhere = write_recipe(tmp_path, places, "three", cache={"folder": str(tmp_path / "cache")})
    assert same(weights(first), weights(train(elsewhere)))


def test_every_kind_of_cache_trains_to_nearly_the_same(places: Places, tmp_path: Path) -> None:
    found = {}
    for name, cache in KINDS.items():
        found[name] = weights(train(write_recipe(tmp_path, places, name, cache=cache)))
    assert same(found["all"], found["checked"])
    assert same(found["all"], found["live latents"], 5e-3)
    assert same(found["all"], found["live terms"], 5e-3)
    g = found["grouped"]["text_encoding.g"]
    assert torch.equal(g[:2], g[:1].expand(2))
    assert torch.equal(g[2:], g[2:3].expand(2))
    assert len(set(found["all"]["text_encoding.g"].tolist())) == 4


@pytest.mark.slow  # of the pictures that workers bring, tests/data/test_prefetch.py shows the same
def test_workers_change_no_bit(places: Places, tmp_path: Path) -> None:
    """Nor does it matter how many there were before an interruption: they are no part of what a run is."""
    loop = {"steps": 3, "batch_size": 4, "micro_batch": 3, "warmup": 1}
    runs = [
        train(write_recipe(tmp_path, places, f"{count}", loop=loop, cache={"latents": False, "workers": count}))
        for count in (0, 2)
    ]
    assert same(*map(weights, runs))
    recipes = [Recipe.model_validate_json((tmp_path / name / "recipe.json").read_text()) for name in "02"]
    assert [recipe.cache.workers for recipe in recipes] == [0, 2]


def test_a_run_goes_on_with_other_workers(places: Places, tmp_path: Path) -> None:
    sources = [write_recipe(tmp_path, places, f"{count}", cache={"workers": count}) for count in (0, 2)]
    one, other = (_binding(load_recipe(source)) for source in sources)
    assert one == other


def test_a_fitted_start_is_another_one_and_needs_replace_mode(places: Places, tmp_path: Path) -> None:
    plain = weights(train(write_recipe(tmp_path, places, "plain")))
    fitted = weights(train(write_recipe(tmp_path, places, "fitted", warm_start="ridge")))
    assert not same({"phi.weight": plain["phi.weight"]}, fitted, 0.05)
    with pytest.raises(LLMDiffError, match="which augment mode lacks"):
        train(write_recipe(tmp_path, places, "no", warm_start="ridge", mode="augment"))
    assert not (tmp_path / "no").exists()
