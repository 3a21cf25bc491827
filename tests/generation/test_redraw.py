"""Redrawing: pixel for pixel from the file alone, and a warning when something has changed since."""

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file, save_file

from llmdiff.errors import LLMDiffError
from llmdiff.generation import (
    Document,
    GenerationRequest,
    Models,
    PictureSettings,
    Renderer,
    comparison_sheet,
    generate,
    read_png,
    regenerate,
    write_png,
)
from llmdiff.language import LanguageModel
from tiny_base import Places, save_adapter, save_base


@pytest.fixture
def copies(places: Places, tmp_path: Path) -> Places:
    """Models of one's own; the adapter still names the shared LLM."""
    return Places(
        Path(shutil.copytree(places.base, tmp_path / "base")),
        places.llm,
        Path(shutil.copytree(places.adapter, tmp_path / "adapter")),
    )


def draw(places: Places, path: Path, adapter: bool = True) -> Path:
    request = GenerationRequest(
        prompts=["a red ball\non the blue house"],
        negative="box",
        steps=3,
        seed=11,
        guidance=4.0,
        scale=0.7,
        base=str(places.base),
        adapter=str(places.adapter) if adapter else "none",
    )
    (picture,) = generate(request)
    write_png(path, picture.image, picture.document())
    return path


def anyone(models: str) -> bool:
    """Trusts whatever a file names."""
    return True


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the chunk of a PNG."""
    image, document = read_png(path)
    content = json.loads(document.model_dump_json())
    change(content)
    write_png(path, image, Document.model_validate(content))


@pytest.mark.parametrize("adapter", [True, False])
def test_pixel_for_pixel_without_a_warning(places: Places, tmp_path: Path, adapter: bool) -> None:
    path = draw(places, tmp_path / "x.png", adapter)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        redrawn = regenerate(path, confirm=anyone)
    assert redrawn.identical
    assert redrawn.changes == ()
    assert redrawn.image.tobytes() == Image.open(path).tobytes()
    assert redrawn.document == read_png(path)[1]


def test_an_llm_in_fewer_bits_is_remembered(places: Places, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    models = {"base": str(places.base), "adapter": str(places.adapter), "quantization": "int8"}
    request = GenerationRequest(prompts=["a red ball"], steps=2, seed=11, size="16x16", **models)
    with pytest.warns(UserWarning, match=r"quantization None.*quantization int8"):
        (picture,) = generate(request)
    write_png(tmp_path / "x.png", picture.image, picture.document())
    with pytest.warns(UserWarning, match=r"quantization None.*quantization int8"):
        redrawn = regenerate(tmp_path / "x.png", confirm=anyone)
    assert redrawn.identical


def test_a_comparison_sheet(places: Places, tmp_path: Path) -> None:
    request = GenerationRequest(
        prompts=["a ball", "a box"], steps=2, seed=3, num=2, base=str(places.base), adapter=str(places.adapter),
        compare=True,
    )  # fmt: skip
    pictures = generate(request)
    sheet = comparison_sheet(pictures)
    document = Document(kind="comparison", pictures=tuple(picture.metadata for picture in pictures))
    write_png(tmp_path / "sheet.png", sheet, document)
    redrawn = regenerate(tmp_path / "sheet.png", confirm=anyone)
    assert redrawn.identical
    assert redrawn.image.tobytes() == sheet.tobytes()


def test_the_scheduler_comes_from_the_file(places: Places, tmp_path: Path) -> None:
    """Also one that draws noise of its own at every step."""
    renderer = Renderer.load(Models(base=str(places.base)), device="cpu")
    settings = PictureSettings(prompt="a", steps=3, guidance=3, scale=1, seed=4, width=16, height=16)
    stock = renderer.draw(settings)
    renderer.pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(
        renderer.pipe.scheduler.config, timestep_spacing="trailing"
    )
    image = renderer.draw(settings)
    assert image.tobytes() != stock.tobytes()
    write_png(tmp_path / "x.png", image, Document(kind="picture", pictures=(renderer.record(settings),)))
    assert regenerate(tmp_path / "x.png", confirm=anyone).identical


def test_a_base_model_that_has_changed(copies: Places, tmp_path: Path) -> None:
    path = draw(copies, tmp_path / "x.png")
    file = copies.base / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.bias"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="weights|pixels") as caught:
        redrawn = regenerate(path, confirm=anyone)
    assert not redrawn.same
    (change,) = redrawn.changes
    then, now = re.fullmatch(r"the base model's weights \((\w{12}) then, (\w{12}) now\)", change).groups()  # type: ignore[union-attr]
    assert then != now
    assert any("differs" in str(one.message) for one in caught)


def test_an_adapter_that_has_changed(copies: Places, tmp_path: Path, tiny_llm: LanguageModel) -> None:
    path = draw(copies, tmp_path / "x.png")
    (file,) = copies.adapter.glob("*.safetensors")
    weights = load_file(file)
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, file, metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="adapter's weights|pixels"):
        assert not regenerate(path, confirm=anyone).identical


def test_a_change_that_leaves_the_pixels_alone_is_still_named(places: Places, tmp_path: Path) -> None:
    path = draw(places, tmp_path / "x.png")

    def older(content: dict[str, object]) -> None:
        content["pictures"][0]["provenance"]["versions"]["torch"] = "2.0.0"  # type: ignore[index]

    rewrite(path, older)
    with pytest.warns(UserWarning, match=r"torch \(2.0.0 then"):
        redrawn = regenerate(path, confirm=anyone)
    assert redrawn.identical


@pytest.mark.parametrize(("edit", "difference", "same"), [(1, 1, True), (4, 4, True), (8, 8, False)])
def test_pixels_edited_since(places: Places, tmp_path: Path, edit: int, difference: int, same: bool) -> None:
    """A few levels of 255 are what another processor's rounding makes; more is another picture."""
    path = draw(places, tmp_path / "x.png")
    image, document = read_png(path)
    red, green, blue = image.getpixel((3, 3))  # type: ignore[misc]
    image.putpixel((3, 3), (red, green ^ edit, blue))
    write_png(path, image, document)
    with pytest.warns(UserWarning, match=rf"by up to {difference} of 255 levels"):
        redrawn = regenerate(path, confirm=anyone)
    assert (redrawn.identical, redrawn.difference, redrawn.same) == (False, difference, same)


def test_models_that_have_moved(copies: Places, tmp_path: Path) -> None:
    path = draw(copies, tmp_path / "x.png")
    base = copies.base.rename(tmp_path / "moved-base")
    adapter = copies.adapter.rename(tmp_path / "moved-adapter")
    with pytest.raises(LLMDiffError, match="base"):
        regenerate(path, confirm=anyone)
    redrawn = regenerate(path, base=str(base), adapter=str(adapter))
    assert redrawn.identical
    assert redrawn.document.pictures[0].models.base == str(base)


def test_models_that_do_not_fit_each_other(places: Places, tmp_path: Path) -> None:
    path = draw(places, tmp_path / "x.png")
    with pytest.raises(LLMDiffError):
        regenerate(path, adapter=str(places.base), confirm=anyone)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("scheduler", {"_class_name": "AutoencoderKL"}, "scheduler"),
        ("scheduler", {"_class_name": "os"}, "scheduler"),
        ("dtype", "float3", "float3"),
        ("dtype", "load", "load"),
    ],
)
def test_names_that_are_not_what_they_should_be(
    places: Places, tmp_path: Path, key: str, value: object, words: str
) -> None:
    path = draw(places, tmp_path / "x.png", adapter=False)

    def forge(content: dict[str, object]) -> None:
        content["pictures"][0]["provenance"][key] = value  # type: ignore[index]

    rewrite(path, forge)
    with pytest.raises(LLMDiffError, match=words):
        regenerate(path, confirm=anyone)


def test_a_device_that_is_not_here(places: Places, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    path = draw(places, tmp_path / "x.png", adapter=False)

    def elsewhere(content: dict[str, object]) -> None:
        content["pictures"][0]["provenance"]["device"] = "cuda"  # type: ignore[index]

    rewrite(path, elsewhere)
    with pytest.warns(UserWarning, match=r"the device \(cuda then, cpu now\)"):
        assert regenerate(path, confirm=anyone).identical


def test_another_base_of_the_same_shape_is_noticed(tmp_path: Path, places: Places) -> None:
    other = save_base(tmp_path / "other", seed=9)
    adapter = save_adapter(tmp_path / "adapter", other, LanguageModel.load(str(places.llm)))
    path = draw(places, tmp_path / "x.png")
    with pytest.warns(UserWarning, match="weights|pixels"):
        redrawn = regenerate(path, base=str(other), adapter=str(adapter))
    assert any("base model's weights" in change for change in redrawn.changes)
