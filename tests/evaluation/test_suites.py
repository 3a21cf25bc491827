"""Suites in the forms of their public repositories, and layouts as their scorers look for pictures."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.suite_pictures import LAYOUTS, arrange, write_suite_prompts
from llmdiff.evaluation.suites import SUITES, read_suite
from llmdiff.generation import listed, read_prompt_file
from tiny_base import Places

COPIES = {
    "geneval": '{"tag": "colors", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a red cup"}\n'
    '{"tag": "counting", "include": [], "prompt": "a photo of two dogs"}\n',
    "compbench": "a green bench and a blue bowl.\ta green bench\na red apple\n\n",
    "unigenbench": "index,prompt_en,sub_dims_en\n"
    '7,"Two pandas, in ink.","{""Testpoints"": [""Style""]}"\n12,A fox.,{}\n',
    "parti": 'Prompt\tCategory\tChallenge\tNote\nthe words "Fly" on a wall\tArts\tBasic\t\n"quoted\tA\tB\t\n',
    "drawbench": 'Prompts,Category\n"A red car, and a white sheep.",Colors\nA black apple.,Colors\n',
    "jsonl": '{"prompt": "a cup", "anything": [1]}\n{"prompt": "two cups"}\n',
}
TEXTS = {
    "geneval": ["a photo of a red cup", "a photo of two dogs"],
    "compbench": ["a green bench and a blue bowl.", "a red apple"],
    "unigenbench": ["Two pandas, in ink.", "A fox."],
    "parti": ['the words "Fly" on a wall', '"quoted'],
    "drawbench": ["A red car, and a white sheep.", "A black apple."],
    "jsonl": ["a cup", "two cups"],
    "dpg": ["A long prompt.", "Another one."],
}


def copy_of(suite: str, folder: Path) -> Path:
    if suite == "dpg":
        (folder / "prompts").mkdir()
        for name, text in zip(("COCOval2014000000000042", "midjourney3"), TEXTS["dpg"], strict=True):
            (folder / "prompts" / f"{name}.txt").write_text(text + "\n")
        return folder / "prompts"
    path = folder / f"{suite}.copy"
    path.write_text(COPIES[suite])
    return path


def drawn(prompts: Path, folder: Path) -> Path:
    """Pictures in the places and of the prompts of a file for `llmdiff generate`, each of another grey."""
    folder.mkdir()
    for number, one in enumerate(listed(read_prompt_file(prompts, {}), folder)):
        info = PngInfo()
        info.add_text("parameters", f"{one.request.prompts[0]}\nSteps: 20")
        Image.new("RGB", (8, 8), (number,) * 3).save(one.path, pnginfo=info)
    return folder


def laid_out(suite: str, tmp_path: Path, pictures: int) -> tuple[Path, int]:
    prompts = read_suite(suite, copy_of(suite, tmp_path))
    write_suite_prompts(prompts, tmp_path / "prompts.jsonl", pictures)
    folder = drawn(tmp_path / "prompts.jsonl", tmp_path / "drawn")
    out = tmp_path / "out"
    return out, arrange(suite, prompts, folder, pictures, out)


def grey(path: Path, at: tuple[int, int] = (0, 0)) -> int:
    return Image.open(path).convert("RGB").getpixel(at)[0]  # type: ignore[index, return-value]


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_prompts_are_read_as_they_stand(suite: str, tmp_path: Path) -> None:
    found = read_suite(suite, copy_of(suite, tmp_path))
    assert [one.prompt for one in found] == TEXTS[suite]
    if suite == "unigenbench":
        assert [one.name for one in found] == ["7", "12"]
        assert json.loads(found[0].row["sub_dims_en"]) == {"Testpoints": ["Style"]}


def test_geneval_finds_metadata_and_samples(tmp_path: Path) -> None:
    """As evaluation/evaluate_images.py goes through its folder."""
    out, count = laid_out("geneval", tmp_path, 4)
    assert count == 10
    assert sorted(path.name for path in out.iterdir() if path.name.isdigit()) == ["00000", "00001"]
    for number, folder in enumerate(sorted(out.iterdir())):
        metadata = json.loads((folder / "metadata.jsonl").read_text())
        assert metadata == json.loads(COPIES["geneval"].splitlines()[number])
        samples = sorted((folder / "samples").iterdir())
        assert all(re.match(r"\d+\.png", path.name) for path in samples)
        assert [grey(path) for path in samples] == [4 * number + place for place in range(4)]


def test_dpg_cuts_four_pictures_out_of_one(tmp_path: Path) -> None:
    """As dpg_bench/compute_dpg_bench.py crops, with --resolution 8 --pic-num 4."""
    out, _ = laid_out("dpg", tmp_path, 4)
    for number, name in enumerate(("COCOval2014000000000042", "midjourney3")):
        corners = [(0, 0), (8, 0), (0, 8), (8, 8)]
        assert [grey(out / f"{name}.png", corner) for corner in corners] == [4 * number + n for n in range(4)]


def test_compbench_reads_prompt_and_number_from_the_name(tmp_path: Path) -> None:
    """As BLIPvqa_eval/BLIP_vqa.py sorts and reads."""
    out, _ = laid_out("compbench", tmp_path, 2)
    names = [path.name for path in (out / "samples").iterdir()]
    names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
    assert [name.split("_")[0] for name in names] == [text for text in TEXTS["compbench"] for _ in range(2)]
    assert [grey(out / "samples" / name) for name in names] == [0, 1, 2, 3]


def test_unigenbench_finds_pictures_by_index(tmp_path: Path) -> None:
    out, _ = laid_out("unigenbench", tmp_path, 4)
    assert [grey(out / f"{index}_{place}.png") for index in (7, 12) for place in range(4)] == list(range(8))


@pytest.mark.parametrize(
    ("suite", "text", "sentence"),
    [
        ("geneval", '{"tag": "colors"}\n', "Line 1 of .* is not of the form"),
        ("geneval", "{\n", "not usable JSON"),
        ("geneval", "\n\n", "has no prompts"),
        ("unigenbench", "id,prompt_en\n1,a cup\n", "lacks the column index, prompt_en or"),
        ("unigenbench", "index,prompt_en\n1,a cup\n1,a dog\n", "the same name"),
        ("drawbench", 'Prompts,Category\n"a cup\n', "not a table"),
        ("drawbench", "Prompts,Category\n ,Colors\n", "is empty"),
        ("parti", "a cup\n", "lacks the column Prompt"),
    ],
)
def test_copies_of_another_form_are_refused(suite: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text(text)
    with pytest.raises(LLMDiffError, match=sentence):
        read_suite(suite, tmp_path / "copy")


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LLMDiffError, match="There is no suite 'x'"):
        read_suite("x", tmp_path)
    with pytest.raises(LLMDiffError, match="cannot be read"):
        read_suite("geneval", tmp_path / "none")
    with pytest.raises(LLMDiffError, match="no folder"):
        read_suite("dpg", tmp_path / "none")
    prompts = read_suite("geneval", copy_of("geneval", tmp_path))
    write_suite_prompts(prompts, tmp_path / "p.jsonl", 1)
    folder = drawn(tmp_path / "p.jsonl", tmp_path / "drawn")
    assert "parti" not in LAYOUTS
    with pytest.raises(LLMDiffError, match="no scorer of its own"):
        arrange("parti", prompts, folder, 1, tmp_path / "out")
    with pytest.raises(LLMDiffError, match=r"s1\.png of .* is missing"):
        arrange("geneval", prompts, folder, 2, tmp_path / "out")
    with pytest.raises(LLMDiffError, match="JSON lines"):
        write_suite_prompts(prompts, tmp_path / "p.txt", 1)
    first, second = sorted(folder.iterdir())
    first.write_bytes(second.read_bytes())
    with pytest.raises(LLMDiffError, match="another prompt"):
        arrange("geneval", prompts, folder, 1, tmp_path / "out")
    with pytest.raises(LLMDiffError, match="already"):
        arrange("geneval", prompts, folder, 1, folder)


@pytest.mark.parametrize(
    ("suite", "text", "sentence"),
    [
        ("compbench", "a cup_of tea\n", "cannot be the name of a file"),
        ("compbench", "a cup " * 50 + "\n", "cannot be the name of a file"),
        ("unigenbench", "index,prompt\nx,a cup\n", "no number"),
    ],
)
def test_what_a_scorer_could_not_read_is_refused(suite: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text(text)
    prompts = read_suite(suite, tmp_path / "copy")
    write_suite_prompts(prompts, tmp_path / "p.jsonl", 1)
    folder = drawn(tmp_path / "p.jsonl", tmp_path / "drawn")
    with pytest.raises(LLMDiffError, match=sentence):
        arrange(suite, prompts, folder, 1, tmp_path / "out")


def test_from_a_copy_to_a_scorer_s_folder(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, file = copy_of("geneval", tmp_path), tmp_path / "prompts.jsonl"
    suite = ["evaluate", "suite"]
    assert main([*suite, "prompts", "geneval", str(copy), "--out", str(file), "--pictures", "2"]) == 0
    models = ["--base", str(places.base), "--adapter", "none", "--steps", "1"]
    assert main(["generate", "--prompts", str(file), "--out", str(tmp_path / "drawn"), *models]) == 0
    places_of = [str(copy), str(tmp_path / "drawn"), "--out", str(tmp_path / "out"), "--pictures", "2"]
    assert main([*suite, "arrange", "geneval", *places_of]) == 0
    assert (tmp_path / "out" / "00001" / "samples" / "00001.png").is_file()
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
