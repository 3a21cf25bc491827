from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llmdiff.errors import LLMDiffError
from llmdiff.generation import read_picture
from llmdiff.study import Study, StudyConfig, new_study
from study.pictures import make_study, picture_folder


def test_pictures_lose_their_names_and_all_but_their_pixels(tmp_path: Path) -> None:
    for system in ("secretive", "other"):
        folder = picture_folder(tmp_path / system, "red", 3)
        for path in folder.glob("*.png"):
            info = PngInfo()
            info.add_text(
                "parameters", f"picture number {int(path.stem)} <b>&amp;</script>\nSteps: 20, Model: {system}"
            )
            Image.open(path).save(path, pnginfo=info, exif=Image.Exif())
            path.with_suffix(".txt").unlink()
    systems = {name: {"pictures": str(tmp_path / name)} for name in ("secretive", "other")}
    study = new_study(StudyConfig.make(systems=systems), tmp_path / "study")
    files = list((tmp_path / "study" / "pictures").iterdir())
    assert len(files) == 6 + len(study.checks)
    for path in files:
        assert not any(name.encode() in path.read_bytes() for name in ("secretive", "parameters", "Steps"))
    for pair in study.pairs:
        assert pair.prompt.startswith("picture number")
        for shown in pair.pictures:
            original, _ = read_picture(tmp_path / shown.system / f"{pair.name}.png")
            copy, chunks = read_picture(study.picture(shown.picture))
            assert chunks == {}
            assert np.array_equal(np.asarray(original), np.asarray(copy))


def test_every_two_systems_make_a_pair_of_each_prompt(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", "green", count=12)
    assert len(study.pairs) == 3 * 12
    first = [pair.pictures[0].system for pair in study.pairs]
    assert set(first) == {"red", "blue", "green"}, "which of a pair is first is left to chance"
    assert Study.load(tmp_path / "study") == study


def sides(study: Study) -> list[tuple[str, str]]:
    """Name and first system of each pair: what a rater is not to know."""
    return [(pair.name, pair.pictures[0].system) for pair in study.pairs]


def test_sides_and_order_are_by_a_seed_that_nobody_who_knows_this_code_can_guess(tmp_path: Path) -> None:
    drawn = [make_study(tmp_path / str(number), "red", "blue", count=20, seed=None) for number in range(2)]
    given = [make_study(tmp_path / f"given {number}", "red", "blue", count=20, seed=7) for number in range(2)]
    assert len({study.seed for study in drawn} | {0, 7}) == 4
    assert sides(drawn[0]) != sides(drawn[1])
    assert sides(given[0]) == sides(given[1]) != sides(drawn[0])
    assert given[0].identity != given[1].identity, "what the page tells says nothing of the seed"
    assert min(study.seed for study in drawn) > 10**6, "too many to be tried"


def test_where_the_pairs_of_a_prompt_stand_says_nothing_of_three_systems(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", "green", count=12)
    orders = {
        tuple(frozenset(shown.system for shown in pair.pictures) for pair in study.pairs if pair.name == name)
        for name in {pair.name for pair in study.pairs}
    }
    assert len(orders) >= 4, "of six"


def test_the_wrong_picture_of_a_check_is_another_one_of_the_same_size(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=5)
    assert len(study.checks) == 5
    for check in study.checks:
        right, wrong = (np.asarray(read_picture(study.picture(shown.picture))[0]) for shown in check.pictures)
        assert right.shape == wrong.shape
        assert not np.array_equal(right, wrong)
        assert right.sum() == wrong.sum(), "its pieces are those of the right one"


@pytest.mark.parametrize("trials", [1, 7, 40])
def test_sides_are_balanced_repeats_are_exchanged_and_checks_are_among_the_others(tmp_path: Path, trials: int) -> None:
    study = make_study(tmp_path, "red", "blue", count=30, trials=trials, repeats=0.2)
    shown = study.trials_for("a" * 32, {})
    assert shown == study.trials_for("a" * 32, {})
    pairs = [trial for trial in shown if trial.kind == "pair"]
    assert len(pairs) == len({trial.index for trial in pairs}) == min(trials, 30)
    assert abs(sum(trial.flipped for trial in pairs) - len(pairs) / 2) <= 0.5
    by_index = {trial.index: trial for trial in pairs}
    repeats = [trial for trial in shown if trial.kind == "repeat"]
    assert len(repeats) == int(np.ceil(0.2 * len(pairs)))
    for trial in repeats:
        assert trial.flipped != by_index[trial.index].flipped
        assert shown.index(trial) > shown.index(by_index[trial.index])
    assert sum(trial.kind == "check" for trial in shown) == len(study.checks) >= 5


def test_pairs_that_were_shown_least_come_next(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=20, trials=10)
    shown = dict.fromkeys(range(10), 1)
    assert {t.index for t in study.trials_for("b" * 32, shown) if t.kind == "pair"} == set(range(10, 20))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "blue" / "001.png").unlink(), "'red' has a picture '001' and 'blue' has none"),
        (lambda folder: Image.new("RGB", (8, 8)).save(folder / "blue" / "001.png"), "different sizes"),
        (lambda folder: (folder / "blue" / "001.txt").write_text("another"), "another prompt"),
        (lambda folder: [p.unlink() for p in folder.rglob("001.txt")], "001.txt"),
        (lambda folder: (folder / "blue" / "001.png").write_bytes(b"no picture"), "not a picture"),
        (lambda folder: Image.new("RGB", (32, 32)).save(folder / "blue" / "001.jpg"), "two pictures '001'"),
    ],
)
def test_systems_that_cannot_be_compared_are_refused(tmp_path: Path, spoil: object, sentence: str) -> None:
    systems = {name: {"pictures": str(picture_folder(tmp_path / name, name, 3))} for name in ("red", "blue")}
    spoil(tmp_path)
    with pytest.raises(LLMDiffError, match=sentence):
        new_study(StudyConfig.make(systems=systems), tmp_path / "study")
    with pytest.raises(LLMDiffError, match="There is no study"):
        Study.load(tmp_path / "study")


def test_a_study_is_not_made_over_another(tmp_path: Path) -> None:
    study = make_study(tmp_path, "red", "blue", count=2)
    systems = {name: {"pictures": str(tmp_path / name)} for name in study.systems}
    with pytest.raises(LLMDiffError, match="already"):
        new_study(StudyConfig.make(systems=systems), study.folder)


def test_systems_are_drawn_from_fixed_prompts_and_equal_seeds(tmp_path: Path) -> None:
    systems = {"base": {"adapter": "none", "steps": 1}, "adapted": {"adapter": "embedded", "steps": 1}}
    config = StudyConfig.make(systems=systems, prompts=["a red ball", "a blue box"], seeds=2)
    study = new_study(config, tmp_path / "study")
    assert sorted((pair.prompt, pair.name[-2:]) for pair in study.pairs) == [
        ("a blue box", "s0"), ("a blue box", "s1"), ("a red ball", "s0"), ("a red ball", "s1"),
    ]  # fmt: skip
    (tmp_path / "study" / "study.json").unlink()
    with pytest.raises(LLMDiffError, match="prompts have changed"):
        new_study(StudyConfig.make(systems=systems, prompts=["a red ball"]), tmp_path / "study")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"systems": {"a": {"pictures": "x"}}}, "2 to 20 systems"),
        ({"systems": {"a": {"pictures": "x", "steps": 3}, "b": {}}}, "'steps'"),
        ({"systems": {"a": {"pictures": "x"}, "b": {"adaptr": "x"}}}, "'adaptr'"),
        ({"systems": {"a": {}, "b": {"adapter": "none"}}}, "no prompts"),
        ({"systems": {"a": {"pictures": "x"}, "(equal)": {"pictures": "x"}}}, "bracket"),
        ({"systems": {"a": {"pictures": "x"}, "b": {"pictures": "x"}}, "trials": 0}, "trials"),
        ({"systems": {"a": {"pictures": "x"}, "b": {"pictures": "x"}}, "questions": ("follows", "follows")}, "twice"),
    ],
)
def test_settings_that_will_not_do_are_one_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(LLMDiffError, match=sentence):
        StudyConfig.make(**settings)


def test_a_file_of_settings_names_folders_beside_it(tmp_path: Path) -> None:
    picture_folder(tmp_path / "a", "red", 2)
    picture_folder(tmp_path / "b", "blue", 2)
    file = tmp_path / "study.yaml"
    file.write_text("title: Two\nsystems:\n  a: {pictures: a}\n  b: {pictures: ./b}\ntrials: 3\n")
    config = StudyConfig.read(file, trials=1)
    assert (config.title, config.trials) == ("Two", 1)
    assert new_study(config, tmp_path / "study").systems == ("a", "b")
