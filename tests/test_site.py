"""The documentation site: every command on it has the options that it is given, and every block of code is code.

Shell lines that begin with `llmdiff` are parsed by the command line itself and not run; YAML that has `data:` is a
recipe. Python is compiled, and what it imports from llmdiff is there. On the pages of `RUN` it also runs, as it stands,
on tiny models in a folder in which the names that it uses are there.
"""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
import yaml
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.cli.app import app
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from llmdiff.training import Recipe, train
from tiny_base import Places

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
RUN = ("beside", "index", "llms", "memory", "proxy", "reference/python")
NAMES_ELSEWHERE = {
    "/models/my-sd15": "my-sd",
    "runs/fox/adapter": "my-adapter",
    "meta-llama/Llama-3.3-70B-Instruct": "my-llm",
    'num=4, base="my-sd"': 'num=2, steps=2, base="my-sd"',
}
"""What stands for models of a reader's own, and what is there in its place."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of code of a page in any of some languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [code for language, code in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every line that calls llmdiff, also by accelerate."""
    found = []
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:2] == ["accelerate", "launch"] and "llmdiff" in words:
                words = words[words.index("llmdiff") :]
            if words[:1] == ["llmdiff"]:
                found.append(words[1:])
    return found


def test_the_command_line_takes_every_command_that_is_shown() -> None:
    refused, seen = [], 0
    root = typer.main.get_command(app)
    for page in PAGES:
        for words in commands(page):
            seen += 1
            try:
                parse(root, words)
            except Exception as error:
                refused.append(f"{page.name}: llmdiff {shlex.join(words)}: {error!r}")
    assert refused == []
    assert seen > 40


def parse(command: Any, words: list[str]) -> None:
    """Parses words as a command's arguments, without calling it."""
    path = "llmdiff"
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, path, words = command.commands[words[0]], f"{path} {words[0]}", words[1:]
    if hasattr(command, "commands"):
        assert set(words) <= {"--help", "--version"}, f"there is no {path} {words[:1]}"
        return
    if "--help" not in words:
        command.make_context(path, list(words))


def test_a_wrong_option_would_be_found() -> None:
    root = typer.main.get_command(app)
    wrong = ("generate 'a cup' --stepz 3", "generate --steps three", "trian fox.yaml", "evaluate scenes --prompts v9")
    for line in wrong:
        with pytest.raises(BaseException):  # noqa: B017
            parse(root, shlex.split(line))


def test_every_recipe_is_one() -> None:
    every = [(page.name, block) for page in PAGES for block in blocks(page, "yaml")]
    recipes = [(name, block) for name, block in every if re.search("^data:", block, re.MULTILINE)]
    assert len(recipes) >= 2
    for name, block in recipes:
        assert Recipe.model_validate(yaml.safe_load(block)), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_compiles_and_names_what_is_there(page: Path) -> None:
    for code in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmdiff"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.fixture
def folder(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models of the names that pages use."""
    for name, target in (("my-sd", places.base), ("my-adapter", places.adapter), ("my-llm", places.llm)):
        (tmp_path / name).symlink_to(target, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_python_runs(name: str, folder: Path, tiny_llm: LanguageModel, places: Places) -> None:
    page = ROOT / "docs" / f"{name}.md"
    pipe = load_pipeline(places.base)
    pipe.enable_model_cpu_offload = lambda: None  # which needs an accelerator
    names: dict[str, Any] = {
        "torch": torch, "pipe": pipe, "latents": torch.randn(1, 4, 8, 8), "t": 700,
        "StableDiffusionImg2ImgPipeline": StableDiffusionImg2ImgPipeline,
        "LanguageModel": LanguageModel, "LLMDiffAdapter": LLMDiffAdapter,
    }  # fmt: skip
    if name == "beside":
        names["adapter"] = LLMDiffAdapter.from_pretrained(places.adapter).attach(pipe)
    code = "".join(blocks(page, "python", "py"))
    for told, here in NAMES_ELSEWHERE.items():
        code = code.replace(told, here)
    assert code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no proxy to be reached
        exec(compile(code, str(page), "exec"), names)
    if name == "beside":
        with names["adapter"].disable_adapter():
            alone = pipe.unet(names["latents"], 700, encoder_hidden_states=names["plain"]).sample
        assert not torch.equal(names["noise"], alone)


def test_the_recipe_of_the_guide_trains_on_ones_own_pictures(places: Places, tmp_path: Path) -> None:
    (recipe,) = blocks(ROOT / "docs" / "data.md", "yaml")
    (tmp_path / "fox.yaml").write_text(recipe)
    (tmp_path / "pictures").mkdir()
    for n in range(60):
        Image.new("RGB", (24, 16 + n % 2), (4 * n, 90, 30)).save(tmp_path / "pictures" / f"{n}.png")
        (tmp_path / "pictures" / f"{n}.txt").write_text(f"fox number {n}\nthe red fox number {n}\n")
    mine = {"base": places.base, "llm": places.llm, "data.path": tmp_path / "pictures", "folder": tmp_path / "run"}
    short = {"loop.steps": 2, "loop.sample_every": 1, "samples": "[a red ball]"}
    done = train(str(tmp_path / "fox.yaml"), [f"{key}={value}" for key, value in {**mine, **short}.items()])
    assert done["steps"] == 2
    assert (tmp_path / "run" / "adapter" / "config.json").is_file()
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2
    assert "heldout" in (tmp_path / "run" / "log.jsonl").read_text()


def test_pages_that_are_not_there_are_left_out_and_new_ones_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "site"))
    import hooks

    for name in ("index.md", "new.md", "reference/a.md", "results/b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# x")
    nav = [{"Start": "index.md"}, {"More": ["app.md"]}, {"Reference": ["reference/a.md", {"B": "reference/b.md"}]}]
    config = hooks.on_config(SimpleNamespace(docs_dir=str(tmp_path), nav=nav))
    assert config.nav == [{"Start": "index.md"}, {"Reference": ["reference/a.md"]}, {"Further": ["new.md"]}]


@pytest.mark.slow
def test_the_site_is_built_with_strict_links_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', text) == []
    for name, word in (("recipe", "distil_layers"), ("cli", "--average-rewritings"), ("adapter", "from_pretrained")):
        assert word in (tmp_path / "site" / "reference" / f"{name}.html").read_text(encoding="utf-8")
