"""Pictures of a file of prompts: in any batches and any order, begun anew at any moment, divided among processes."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmdiff.errors import LLMDiffError
from llmdiff.generation import GenerationRequest, PictureSettings, Renderer, draw_listed, listed, read_png
from llmdiff.generation import share_of_process as share
from llmdiff.generation.bulk import Listed
from tiny_base import Places

PROMPTS = ("a box", "the blue house on a red ball", "a box", "", "a cat")


def order(places: Places, **options: object) -> dict[str, object]:
    return {"base": str(places.base), "adapter": str(places.adapter), "steps": 2, "size": "16x16", "seed": 3} | options


def requests(places: Places, **options: object) -> dict[int, GenerationRequest]:
    """Of four prompts in lines 1, 2, 3 and 12, the second with settings of its own."""
    own = {2: {"negative": "red", "scale": 0.5, "num": 2}}
    lines = {1: PROMPTS[0], 2: PROMPTS[1], 3: PROMPTS[2], 12: PROMPTS[4]}
    common = order(places, **options)
    return {
        line: GenerationRequest.model_validate(common | own.get(line, {}) | {"prompts": [prompt]})
        for line, prompt in lines.items()
    }


def drawn_alone(places: Places, picture: Listed) -> np.ndarray:
    renderer = Renderer.load(picture.request.models(), device="cpu")
    return np.array(renderer.draw(picture.settings((16, 16))))


def pixels(path: Path) -> np.ndarray:
    return np.array(read_png(path)[0])


def test_files_are_named_by_line_prompt_and_seed(places: Places, tmp_path: Path) -> None:
    assert [one.path.name for one in listed(requests(places), tmp_path)] == [
        "01-a-box-s3.png",
        "02-the-blue-house-on-a-red-ball-s3.png",
        "02-the-blue-house-on-a-red-ball-s4.png",
        "03-a-box-s3.png",
        "12-a-cat-s3.png",
    ]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_picture_is_the_one_that_is_drawn_alone(batch_size: int, places: Places, tmp_path: Path) -> None:
    pictures = listed(requests(places), tmp_path)
    assert sorted(draw_listed(pictures, batch_size)) == [one.path for one in pictures]
    for one in pictures:
        found, expected = pixels(one.path), drawn_alone(places, one)
        assert np.array_equal(found, expected) if batch_size == 1 else np.abs(found - expected.astype(int)).max() <= 1
        record = read_png(one.path)[1].pictures[0]
        assert record.picture == one.settings((16, 16))
    assert list(draw_listed(pictures, batch_size)) == []


def test_an_order_goes_on_where_it_ended(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = listed(requests(places), tmp_path)
    drawing = draw_listed(pictures)
    first = list(itertools.islice(drawing, 2))
    drawing.close()
    there = sorted(tmp_path.iterdir())
    assert set(first) <= set(there) < {one.path for one in pictures}
    before = {path: path.stat().st_mtime_ns for path in there}
    assert sorted([*there, *draw_listed(pictures)]) == [one.path for one in pictures]
    assert {path: path.stat().st_mtime_ns for path in there} == before
    monkeypatch.setattr(Renderer, "load", None)  # all are there: no model is needed
    assert list(draw_listed(pictures)) == []


@pytest.mark.fault("identity")
@pytest.mark.parametrize("left", [0, 1], ids=["all there", "one missing"])
@pytest.mark.parametrize("part", ["adapter", "base", "llm"])
def test_pictures_of_models_that_have_changed_since_are_not_gone_on_from(
    part: str, left: int, places: Places, tmp_path: Path
) -> None:
    """As after more training of an adapter in its folder; a base or an LLM is looked at only if it is loaded."""
    own = tmp_path / part
    shutil.copytree(getattr(places, part), own)
    models = {part: str(own)} if part != "llm" else {"llm": str(own)}
    pictures = listed(requests(places, **models), tmp_path / "out")[:3]
    list(draw_listed(pictures))
    assert list(draw_listed(pictures)) == []
    for one in pictures[:left]:
        one.path.unlink()
    changed = max(own.rglob("*.safetensors"), key=lambda path: "unet" in str(path))
    save_file({name: 1.5 * tensor for name, tensor in load_file(changed).items()}, changed, {"format": "pt"})
    before = sorted((tmp_path / "out").iterdir())
    if left or part == "adapter":
        with pytest.raises(LLMDiffError, match=r"was drawn before there was a change of .*choose another --out"):
            list(draw_listed(pictures))
    else:
        assert list(draw_listed(pictures)) == []
    assert sorted((tmp_path / "out").iterdir()) == before


@pytest.mark.fault("lost work")
def test_a_picture_that_another_process_has_made_meanwhile_is_named(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = listed(requests(places), tmp_path / "out")[:2]
    stock = Renderer.draw_batch

    def draw(self: Renderer, *arguments: Any) -> Any:
        pictures[0].path.parent.mkdir(exist_ok=True)
        pictures[0].path.write_bytes(b"theirs")
        return stock(self, *arguments)

    monkeypatch.setattr(Renderer, "draw_batch", draw)
    with pytest.raises(LLMDiffError, match=r"has been made meanwhile, by another process that draws the same"):
        list(draw_listed(pictures))
    assert pictures[0].path.read_bytes() == b"theirs"


@pytest.mark.fault("lost work")
@pytest.mark.parametrize("content", [b"", bytes(900), b"GIF89a", b"cut", b"folder"])
def test_what_is_no_picture_of_ours_is_named_with_the_remedy(content: bytes, places: Places, tmp_path: Path) -> None:
    pictures = listed(requests(places), tmp_path)[:1]
    list(draw_listed(pictures))
    whole = pictures[0].path.read_bytes()
    pictures[0].path.unlink()
    if content == b"folder":
        pictures[0].path.mkdir()
    else:
        pictures[0].path.write_bytes(whole[:-20] if content == b"cut" else content)
    with pytest.raises(LLMDiffError, match=r"01-a-box-s3.png is in the place of a picture .*remove it\.$"):
        list(draw_listed(pictures))


@pytest.mark.parametrize("change", [{"steps": 3}, {"adapter": "none"}, {"size": "24x16"}])
def test_a_picture_of_another_order_is_not_taken_for_it(
    change: dict[str, object], places: Places, tmp_path: Path
) -> None:
    list(draw_listed(listed(requests(places), tmp_path)[:1]))
    with pytest.raises(LLMDiffError, match="choose another --out"):
        list(draw_listed(listed(requests(places, **change), tmp_path)))


def test_processes_share_all_pictures_and_no_two_have_one(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = listed(requests(places), tmp_path)
    assert share(pictures) == pictures
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(share(pictures))
    assert sorted(one.path for part in shares for one in part) == [one.path for one in pictures]


@pytest.mark.fault("terminal")
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4), st.integers(-3, 9))
def test_only_a_launcher_s_numbers_divide_pictures(rank: str, world: int) -> None:
    """Others would leave pictures out, or none of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", rank)
        patch.setenv("WORLD_SIZE", str(world))
        number = rank.strip() or "0"
        if number.isascii() and number.isdecimal() and int(number) < world:
            assert share(range(20)) == range(int(number), 20, world)  # type: ignore[arg-type]
        else:
            with pytest.raises(LLMDiffError, match="unset"):
                share(range(20))  # type: ignore[arg-type]


def test_of_a_batch_that_fails_each_is_drawn_alone(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Renderer.draw_batch

    def too_large(self: Renderer, pictures: list[PictureSettings], on_step: object = None) -> object:
        if len(pictures) > 1 or pictures[0].prompt == "a cat":
            raise LLMDiffError(f"There is not enough memory for {len(pictures)}.")
        return whole(self, pictures)

    monkeypatch.setattr(Renderer, "draw_batch", too_large)
    pictures = listed(requests(places), tmp_path)
    with pytest.raises(LLMDiffError, match="memory for 1"):
        list(draw_listed(pictures, batch_size=2))
    assert set(tmp_path.iterdir()) == {pictures[0].path, pictures[3].path}
