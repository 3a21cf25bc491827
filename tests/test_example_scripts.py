"""The scripts in examples/, run as they stand on the embedded models."""

import json
import runpy
import warnings
from pathlib import Path

import pytest

from llmdiff.proxy import store
from proxy.loopback import loopback

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
LEAVES = {
    "draw": ["out/boat.png"], "attach": ["out/base.png", "out/scale-1.0.png"], "own_loop": ["out/loop.png"],
    "sibling_pipelines": ["out/first.png", "out/second.png"], "train": ["runs/few/adapter/config.json"],
    "proxy": ["out/proxy-0.png", "out/proxy-1.png"],
}  # fmt: skip
PRINTS = {"draw": "identical: True", "read_llm": "llmdiff", "train": "4 steps", "evaluate": "counting"}


def test_every_script_is_in_the_list() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {name for name in SCRIPTS if f"[{name}.py]({name}.py)" not in text} == set()
    assert set(LEAVES) | set(PRINTS) == set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "home", lambda: tmp_path / "home")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = runpy.run_path(str(FOLDER / f"{name}.py"))
        if name == "proxy":
            with loopback() as endpoint:
                script["main"](endpoint.url, "echo")
                assert len(endpoint.asked) == 2
        else:
            script["main"]()
    assert all((tmp_path / path).is_file() for path in LEAVES.get(name, ()))
    assert PRINTS.get(name, "") in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((FOLDER / "start.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in code:
            exec(compile(cell, "start.ipynb", "exec"), names)
    near, far = (float(line.rpartition(" ")[2]) for line in capsys.readouterr().out.strip().splitlines()[-2:])
    assert near > far
