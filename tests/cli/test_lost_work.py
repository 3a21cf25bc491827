"""What has been drawn is kept, however the command ends, and nobody's file is taken."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.running import Run
from llmdiff.generation import Models, read_png
from llmdiff.generation.renderer import Renderer
from tiny_base import Places

pytestmark = pytest.mark.fault("lost work")


def command(places: Places, *options: object) -> list[str]:
    models = ["--base", places.base, "--adapter", places.adapter]
    script = "import sys; from llmdiff.cli import main; sys.exit(main())"
    return [sys.executable, "-c", script, "generate", *map(str, [*models, *options])]


@pytest.fixture
def ends_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the n-th picture end the order."""

    def end(number: int, error: BaseException) -> None:
        stock, count = Renderer.draw, [0]

        def draw(self: Renderer, *arguments: Any) -> Any:
            count[0] += 1
            if count[0] == number:
                raise error
            return stock(self, *arguments)

        monkeypatch.setattr(Renderer, "draw", draw)

    return end


FAULTS = [
    (KeyboardInterrupt(), 130, "interrupted"),
    (OSError(28, "full"), 1, "disk is full"),
    (MemoryError(), 1, "memory"),
]


@pytest.mark.parametrize(("error", "status", "words"), FAULTS, ids=["Ctrl-C", "full", "memory"])
def test_pictures_that_are_drawn_are_kept(
    run: Run, places: Places, ends_at: Any, error: BaseException, status: int, words: str
) -> None:
    ends_at(4, error)
    result = run(
        "generate", "a", "--num", 6, "--seed", 1, "--steps", 1, "--base", places.base, "--adapter", places.adapter
    )
    assert (result.status, result.stdout.split()) == (status, [f"out/a-s{seed}.png" for seed in (1, 2, 3)])
    (line,) = result.stderr.splitlines()
    assert words in line
    assert sorted(map(str, Path("out").iterdir())) == result.stdout.split()
    assert [read_png(Path(path))[1].pictures[0].picture.seed for path in result.stdout.split()] == [1, 2, 3]


def test_a_sheet_has_those_that_there_are(run: Run, places: Places, ends_at: Any) -> None:
    ends_at(6, KeyboardInterrupt())
    models = ["--base", places.base, "--adapter", places.adapter, "--steps", 1]
    result = run("generate", "a", "--num", 6, "--seed", 1, "--compare", "--out", "sheet.png", "--json", *models)
    assert result.status == 130
    assert [row["metadata"]["picture"]["seed"] for row in json.loads(result.stdout)["pictures"]] == [1, 2]
    assert [one.picture.seed for one in read_png(Path("sheet.png"))[1].pictures] == [1, 2]


def test_a_demo_shows_what_there_is(run: Run, places: Places, ends_at: Any) -> None:
    ends_at(6, KeyboardInterrupt())
    result = run("demo", "--base", places.base, "--adapter", places.adapter, "--steps", 1, "--json")
    assert result.status == 130
    shown = json.loads(result.stdout)
    assert len(shown["prompts"]) == 2
    assert Path(shown["sheet"]).is_file()


@pytest.mark.slow
def test_a_real_interrupt_in_the_midst(places: Places, tmp_path: Path) -> None:
    """A signal, while the second of many pictures is drawn."""
    process = subprocess.Popen(
        command(places, "a", "--num", 500, "--seed", 1, "--steps", 20),
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "out/a-s2.png").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    drawn = stdout.split()
    assert {str(path.relative_to(tmp_path)) for path in (tmp_path / "out").iterdir()} == set(drawn)
    assert all(read_png(tmp_path / path) for path in drawn)


def test_a_disk_that_fills_up(run: Run, places: Places) -> None:
    """Of files, by a limit on their size: the second picture's prompt is too long for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    models = ["--base", places.base, "--adapter", places.adapter, "--steps", 1]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
        result = run("generate", "a", "box " * 8000, "house", "--seed", 1, *models)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert (result.status, result.stdout) == (1, "out/a-s1.png\n")
    assert result.stderr.splitlines()[-1].startswith("error: The disk is full")
    assert [path.name for path in Path("out").iterdir()] == ["a-s1.png"]


@pytest.mark.slow
def test_two_at_once_take_each_others_names(places: Places, tmp_path: Path) -> None:
    order = command(places, "a", "--num", 8, "--seed", 1, "--steps", 1)
    running = [subprocess.Popen(order, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert len({*printed[0], *printed[1]}) == 16
    assert len(list((tmp_path / "out").iterdir())) == 16


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_a_name_that_is_taken_by_anything_is_left_alone(run: Run, places: Places, what: str) -> None:
    Path("out").mkdir()
    taken = Path("out/a-s1.png")
    if what == "link":
        taken.symlink_to("nowhere")
    else:
        taken.write_text("mine") if what == "file" else taken.mkdir()
    models = ["--base", places.base, "--adapter", places.adapter, "--steps", 1]
    assert run("generate", "a", "--seed", 1, *models).stdout == "out/a-s1-2.png\n"
    assert taken.exists() == (what != "link")
    assert run("regenerate", "out/a-s1-2.png", "--trust").stdout.startswith("out/a-s1-2-again.png")
    assert run("regenerate", "out/a-s1-2.png", "--trust").stdout.startswith("out/a-s1-2-again-2.png")


def test_a_file_of_prompts_is_drawn_once(run: Run, places: Places) -> None:
    Path("prompts.txt").write_text("a box\n\na cat\n")
    options = ["--prompts", "prompts.txt", "--steps", 1, "--base", places.base, "--adapter", places.adapter]
    first = run("generate", *options)
    assert (first.status, first.stdout.split()) == (0, ["out/1-a-box-s0.png", "out/3-a-cat-s0.png"])
    again = run("generate", *options, "--json")
    assert json.loads(again.stdout) == {"written": [], "skipped": 2}
    mixed = run("generate", "a dog", *options)
    assert (mixed.status, mixed.stdout) == (1, "")
    assert "With --prompts there are no other prompts" in mixed.stderr


@pytest.mark.slow
def test_a_file_of_prompts_survives_being_killed_at_any_moment(places: Places, tmp_path: Path) -> None:
    """Every picture is there once, and is the one that is drawn alone, in a process of its own or in any order."""
    count, chance = 200, random.Random(seed := time.time_ns())
    print(f"moments of random.Random({seed})")
    lines = tmp_path / "prompts.jsonl"
    lines.write_text("\n".join(json.dumps({"prompt": f"a box number {n}", "seed": n}) for n in range(count)))
    options = ["--prompts", lines, "--steps", 1, "--size", "16x16", "--out"]
    out = tmp_path / "out"
    for enough in sorted(chance.sample(range(1, count - 20), 3)):
        process = subprocess.Popen(command(places, *options, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list(out.glob("*.png"))) < enough:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.wait()
    subprocess.run(command(places, *options, out), check=True, stdout=subprocess.DEVNULL)
    drawn = {read_png(path)[1].pictures[0].picture.seed: path for path in out.iterdir()}
    assert sorted(drawn) == list(range(count))
    assert len(list(out.iterdir())) == count
    renderer = Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)), device="cpu")
    for number in chance.sample(range(count), count):
        found, document = read_png(drawn[number])
        assert renderer.draw(document.pictures[0].picture).tobytes() == found.tobytes()
    for number in chance.sample(range(count), 3):
        alone = [f"a box number {number}", "--steps", 1, "--size", "16x16", "--seed", number, "--out", tmp_path / "one"]
        subprocess.run(command(places, *alone), check=True, stdout=subprocess.DEVNULL)
        (path,) = (tmp_path / "one").glob(f"*-s{number}.png")
        assert read_png(path)[0].tobytes() == read_png(drawn[number])[0].tobytes()
