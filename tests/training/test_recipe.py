"""Recipes: what is wrong with one is told in one sentence."""

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdiff.data import FolderData, SceneData
from llmdiff.errors import LLMDiffError
from llmdiff.training import Recipe, load_recipe, presets
from llmdiff.training.recipe import OLD_KEYS
from privileges import laid_down

FIRST = Path(__file__).parent / "first_version"
GOOD = """
folder: out
mode: replace
reading: {extraction: last, max_tokens: 64}
data: {kind: folder, path: my/pictures}
loop: {steps: 10, learning_rate: 1.0e-3}
samples: [a cup]
"""


def write(folder: Path, text: str) -> str:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return str(folder / "recipe.yaml")


def complaint(source: str, *options: str) -> str:
    with pytest.raises(LLMDiffError) as caught:
        load_recipe(source, list(options))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert "pydantic" not in text
    return text


def test_a_recipe_is_read(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.data == FolderData(kind="folder", path=Path("my/pictures"))
    assert (recipe.mode, recipe.base, recipe.objective.caption_dropout) == ("replace", "embedded", 0.1)
    assert (recipe.reading.extraction, recipe.reading.max_tokens) == ("last", 64)
    assert (recipe.loop.steps, recipe.loop.learning_rate) == (10, 1e-3)


@pytest.mark.parametrize("name", presets())
def test_presets_are_valid(name):
    recipe = load_recipe(name)
    assert recipe.samples
    assert load_recipe(name, ["loop.steps=7"]).loop.steps == 7


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_presets_of_full_size_follow_what_is_known_to_work(name):
    """Two blocks of a refiner, a fifth of long captions, a tenth of none: all else is as in the first version."""
    recipe, first = load_recipe(name), load_recipe(str(FIRST / f"{name}.yaml"))
    assert recipe.refiner is not None
    assert recipe.refiner.blocks == 2
    assert (recipe.objective.longest_captions, recipe.objective.caption_dropout) == (0.2, 0.1)
    assert first.refiner is None
    same = {"refiner": None, "objective": first.objective}
    assert recipe.model_copy(update=same) == first


def test_the_embedded_preset_of_the_first_version_is_what_it_is_today():
    assert load_recipe(str(FIRST / "embedded.yaml")) == load_recipe("embedded")


def test_the_keys_of_the_first_version_go_on_working_wherever_they_are_given(tmp_path):
    old = load_recipe(str(FIRST / "embedded.yaml"), ["min_snr=5", "distil=3", "lora={rank: 4}"])
    options = ["objective.min_snr=5", "objective.distil=3", "lora.rank=4"]
    assert old == load_recipe("embedded", options)
    assert Recipe.model_validate_json((FIRST / "recipe.json").read_text()) == old
    for value, option in enumerate(OLD_KEYS.values(), 1):
        options = [f"{option}={0.1 * value if 'share' in option or 'dropout' in option else value}"]
        if "timesteps" in option:
            options = [f"{option}=mid-range"]
        key = next(key for key, name in OLD_KEYS.items() if name == option)
        same = [one.replace(option, key) for one in options]
        assert load_recipe("sd15", same) == load_recipe("sd15", options) != load_recipe("sd15")


def test_the_last_option_wins_by_either_name(tmp_path):
    source = write(tmp_path, GOOD + "late: 0.2")
    assert load_recipe(source, ["late=0.3", "objective.high_noise_share=0.4"]).objective.high_noise_share == 0.4
    assert load_recipe(source, ["objective.high_noise_share=0.4", "late=0.3"]).objective.high_noise_share == 0.3


def test_the_embedded_preset_is_one():
    assert "embedded" in presets()
    assert isinstance(load_recipe("embedded").data, SceneData)


def test_a_file_in_any_language_is_read(tmp_path):
    assert load_recipe(write(tmp_path, GOOD.replace("a cup", "une tasse ébréchée 杯"))).samples == [
        "une tasse ébréchée 杯"
    ]


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ("loop.steps=500", lambda recipe: recipe.loop.steps == 500),
        ("mode=augment", lambda recipe: recipe.mode == "augment"),
        ("reading.noise=false", lambda recipe: recipe.reading.noise is False),
        ("reading.template=Describe: {prompt}", None),
        ("reading.template='Describe: {prompt}'", lambda recipe: recipe.reading.template == "Describe: {prompt}"),
        ("samples=[a, b=c]", lambda recipe: recipe.samples == ["a", "b=c"]),
        ("data={kind: scenes, captions: 5}", lambda recipe: recipe.data == SceneData(kind="scenes", captions=5)),
        ("loop.learning_rate=3e-4", lambda recipe: recipe.loop.learning_rate == 3e-4),
        ("base=", None),
    ],
)
def test_options_are_set(tmp_path, option, read):
    source = write(tmp_path, GOOD)
    if read is None:
        complaint(source, option)
    else:
        assert read(load_recipe(source, [option]))


def test_the_last_option_wins_and_new_branches_grow(tmp_path):
    source = write(tmp_path, "data: {kind: scenes}")
    assert load_recipe(source, ["loop.steps=5", "loop.steps=6"]).loop.steps == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "speed: 3", "there is no key 'speed'"),
        (GOOD.replace("steps", "stepps"), "there is no key 'loop.stepps'"),
        (GOOD.replace("path:", "colour: red, path:"), "colour"),
        (GOOD.replace("10,", "ten,"), "loop.steps: input should be a valid integer"),
        (GOOD.replace("10,", "0,"), "loop.steps: input should be greater than or equal to 1, got 0"),
        (GOOD.replace("replace", "both"), "mode: input should be 'augment' or 'replace', got 'both'"),
        (GOOD.replace("last", "lost"), "Unknown extraction 'lost'"),
        (GOOD.replace("max_tokens: 64", "template: hello"), "template 'hello'"),
        (GOOD.replace("kind: folder", "kind: web"), "web"),
        (
            GOOD.replace("path: my/pictures", "path: p, weight: 0"),
            "data.folder.weight: input should be greater than or equal to 0.000001",
        ),
        (GOOD.replace("path: my/pictures", "path: p, crop: round"), "crop: input should be 'centre' or 'buckets'"),
        ("data: {kind: dataset, path: a/b, streaming: true}", "streaming needs a limit"),
        ("data: {sources: []}", "data.mixed.sources: list should have at least 1 item"),
        ("data: {sources: [{kind: folder}]}", "the key 'data.mixed.sources.0.folder.path' is missing"),
        (GOOD.replace("kind: folder, ", ""), "kind"),
        (GOOD.replace("data:", "date:"), "data"),
        (GOOD + "late: 0.1\nobjective: {high_noise_share: 0.1}", "'late' and 'objective.high_noise_share'"),
        (GOOD + "late: 0.1\nobjective: 5", "objective: input should be keys and values, got 5"),
        (GOOD + "late: much", "objective.high_noise_share: input should be a valid number"),
        (GOOD.replace("[a cup]", "a cup"), "samples: input should be a valid list"),
        ("a: [1, 2", "is not usable YAML"),
        ("just words", "holds no keys"),
        ("", "holds no keys"),
        ("- a\n- b", "holds no keys"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, said):
    assert said in complaint(write(tmp_path, text))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("steps", "is not of the form key=value"),
        ("=5", "is not of the form key=value"),
        ("loop.steps=[1", "is not usable YAML"),
        ("mode.sub=1", "goes into 'mode', which has no keys of its own"),
        ("loop.steps.more=1", "goes into 'steps', which has no keys of its own"),
        ("loop.speed=1", "there is no key 'loop.speed'"),
        ("loop=5", "loop"),
        ("loop.seed=-1", "loop.seed: input should be greater than or equal to 0, got -1"),
        ("data={kind: scenes, seed: -1}", "seed: input should be greater than or equal to 0, got -1"),
    ],
)
def test_what_is_wrong_with_an_option_is_told(tmp_path, option, said):
    assert said in complaint(write(tmp_path, GOOD), option)


def test_a_recipe_that_is_not_there_is_told_with_the_presets(tmp_path):
    for source in (str(tmp_path / "none.yaml"), str(tmp_path), "embeded"):
        assert "give a YAML file or a preset (" in complaint(source)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in complaint(str(tmp_path / "binary.yaml"))


def test_control_characters_in_a_recipe_are_not_yaml(tmp_path):
    assert "is not usable YAML" in complaint(write(tmp_path, "folder: a\x01b"))
    assert "NUL characters" in complaint(write(tmp_path, "folder: a\0b"))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghi")
)
HOSTILE = {
    "an alias bomb": (BOMB, "aliases spelled out"),
    "an alias of itself": ("data: &d {kind: mixed, sources: [*d]}", "nested"),
    "lists in lists": ("samples: " + "[" * 50_000, "nested"),
    "keys in keys": ("{a: " * 9_000, "nested"),
    "a number of 5,000 digits": ("loop: {steps: " + "9" * 5_000 + "}", "64 bits"),
    "the same in base 16": ("loop: {steps: 0x" + "f" * 5_000 + "}", "64 bits"),
    "a number without end": ("loop: {learning_rate: .inf}", "not finite"),
    "no number": ("loop: {clip: .nan}", "not finite"),
    "half of a character": ('llm: "\\ud800"', "half of a character"),
    "half of a character as a key": ('"\\udfff": 1', "half of a character"),
    "a day that is none": ("llm: 2025-13-45", "month"),
    "a call of Python": ("llm: !!python/object/apply:os.system [ls]", "tag"),
    "a key given twice": ("llm: a\nllm: b", "stands twice"),
    "a NUL in a path": (GOOD.replace("folder: out", 'folder: "a\\0b"'), "NUL character"),
    "a batch of a trillion": (GOOD.replace("steps: 10", "batch_size: 1000000000000"), "less than or equal to 1048576"),
    "a rate of an exponent": (GOOD.replace("1.0e-3", "1.0e+300"), "less than or equal to 100"),
}
NONSENSE = [
    "", "=", "==", "=5", "loop", "loop=", "loop=5", "loop=null", "loop..steps=5", ".=1", "loop.=1", "." * 3000 + "=1",
    "a." * 3000 + "x=1", "a.b.c=1", "steps=5", "loop.steps=many", "loop.steps=1e400", "loop.steps=-1", "loop.steps=5=6",
    "loop.steps={a: [", "loop.steps=&a [*a]", "loop.steps=" + "9" * 5000, "samples=" + "[" * 9000, "samples=a cup",
    "data=5", "data=null", "data.kind=mixed", "data.kind=5", "data.sources.0.weight=1", "data.path.x=1", "llm=",
    "folder=", 'llm="\\ud800"', "\udcff=1", "llm=\udcff", "late.x=1", "late=x", "objective=1", "lora=5",
    "heldout.share=1", "heldout.share=.nan", "loop.trackers=wandb", "loop.trackers=[1]", "data.resolution=1000000000",
]  # fmt: skip


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(10)
def test_a_hostile_recipe_costs_a_sentence(tmp_path: Path, kind: str) -> None:
    text, said = HOSTILE[kind]
    assert said in complaint(write(tmp_path, text))


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize("option", NONSENSE)
@pytest.mark.timeout(10)
def test_a_nonsense_option_costs_a_short_sentence(tmp_path: Path, option: str) -> None:
    sentence = complaint(write(tmp_path, GOOD), option)
    assert len(sentence.encode()) < 500, "it can be written anywhere"


@pytest.mark.fault("hostile text")
@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("=.[]{}:&*!'\"\udcff\x00"), max_size=40))
def test_any_option_makes_a_recipe_or_a_sentence(option: str) -> None:
    with suppress(LLMDiffError):
        load_recipe("sd15", [option]).model_dump_json().encode()


@pytest.mark.fault("special files")
@pytest.mark.parametrize("name", ["", "a\0b", "\udcff.yaml", "x" * 5000, "folder", "fifo", "large", "secret"])
@pytest.mark.timeout(10)
def test_what_is_no_recipe_file_costs_a_sentence(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"a" * 10**6)
    (tmp_path / "secret").write_text(GOOD)
    (tmp_path / "secret").chmod(0)
    with laid_down():
        sentence = complaint(name)
    assert "cannot be read (" in sentence
    assert ("(no permission)" in sentence) == (name == "secret")
    assert len(sentence.encode()) < 400


def test_an_option_fills_a_section_that_is_empty(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + "lora: null\nrefiner:\n"), ["lora.rank=3", "refiner.blocks=1"])
    assert recipe.lora is not None
    assert recipe.refiner is not None
    assert (recipe.lora.rank, recipe.refiner.blocks) == (3, 1)
