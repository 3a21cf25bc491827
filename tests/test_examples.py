"""The examples in docstrings, run as they stand on tiny models: in a folder in which the names that they use are there.

An example may use the public names of the library, those of the module it stands in, and `pipe`, `llm`, `tokenizer`,
`config`, `adapter` and `text_encoding`, which are the ones that a reader would expect.
"""

import ast
import builtins
import doctest
import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image
from pydantic import ValidationError

import llmdiff
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import ExtractionConfig, LanguageModel, TextEncoding
from llmdiff.study import StudyConfig, new_study
from study.pictures import picture_folder
from tiny_base import Places, build_base
from tiny_similarity import save_similarity

ROOT = Path(llmdiff.__file__).parent
PUBLIC = (
    "", "adapter", "app", "base", "language", "generation", "evaluation", "explanation", "proxy", "training", "study",
)  # fmt: skip
NOT_MADE_BY_USERS = {
    "AppSettings", "BaseDescription", "BlockWeights", "Document", "Exchanges", "Explanation", "Interrupted",
    "LayerShape", "LLMDiffError", "Models", "Nearest", "Picture", "Provenance", "Record", "Redrawn", "Report",
    "ScenePrompt", "SceneReport", "SceneSettings", "SheetEntry", "Tokens", "Word", "WordAttention",
}  # fmt: skip
"""What a user is given, or names within the example of something else."""
SHORT = {
    "demo_prompts", "figure", "listed", "prompt_of", "read_picture", "read_png", "save_png", "sentence",
    "share_of_process", "write_figure", "write_report",
}  # fmt: skip
"""What the example of its neighbour shows."""
OF_OTHER_MODELS = {"LanguageModel", "encode"}
"""Examples whose results are those of the models that they name, and not of tiny ones."""
NOT_RUN = {"evaluate_by_eye", "load_pipeline"}
"""Examples that need a device or a file of many gigabytes, or a minute; the names in them are looked up."""
IN_THE_MIDST = (
    "llmdiff.adapter.modular", "llmdiff.comfyui", "llmdiff.comparison", "llmdiff.data", "llmdiff.precompute",
    "llmdiff.training.costs", "llmdiff.training.layer_distillation", "llmdiff.training.trainer",
)  # fmt: skip
"""Modules whose examples are cut out of a longer program, or fetch models: it is tried that they are Python."""
RECIPE = """
base: my-sd
llm: Qwen/Qwen3-0.6B
data: {kind: folder, path: pictures}
loop: {batch_size: 2, sample_every: 0}
folder: runs/fox
"""


def documented() -> Iterator[tuple[str, str, str]]:
    """Every docstring with an example: its module, its qualified name and itself."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(("llmdiff", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        pending: list[tuple[str, ast.AST]] = [("", ast.parse(path.read_text(encoding="utf-8")))]
        while pending:
            name, node = pending.pop()
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield module, name, text
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.FunctionDef | ast.ClassDef):
                    pending.append((f"{name}.{child.name}".lstrip("."), child))


EXAMPLES = list(documented())


def public_names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for package in PUBLIC:
        module = importlib.import_module(f"llmdiff.{package}".rstrip("."))
        names |= {name: getattr(module, name) for name in module.__all__}
    return names


def names_for(module: str) -> dict[str, Any]:
    """What an example of a module may use without importing it."""
    known: dict[str, Any] = {"torch": torch, "np": np, "Image": Image, "Path": Path, "ValidationError": ValidationError}
    known["StableDiffusionImg2ImgPipeline"] = StableDiffusionImg2ImgPipeline
    parts = [f"llmdiff.scenes.{part}" for part in ("captions", "drawing", "facts", "scene")]
    if module.startswith("llmdiff.world"):
        parts += [f"llmdiff.world.{part}" for part in ("captions", "drawing", "scene")]
    for part in parts:
        found = vars(importlib.import_module(part))
        known |= {name: value for name, value in found.items() if not name.startswith("_")}
    return known | public_names() | vars(importlib.import_module(module))


@pytest.fixture(scope="session")
def for_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pictures and texts, pictures of two systems, and a study of them."""
    folder = tmp_path_factory.mktemp("scores")
    save_similarity(folder / "my-siglip", "siglip")
    for system, colour in (("a", "red"), ("b", "blue")):
        picture_folder(folder / system, colour, 3)
    systems = {system: {"pictures": str(folder / system)} for system in ("a", "b")}
    new_study(StudyConfig.make(systems=systems), folder / "study")
    return folder


@pytest.fixture
def folder(places: Places, for_scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, pictures and a recipe of the names that examples use."""
    home = tmp_path / "home" / "models" / "smollm2-135m-instruct"
    for link, target in (
        (tmp_path / "my-sd", places.base),
        (tmp_path / "my-adapter", places.adapter),
        (tmp_path / "Qwen" / "Qwen3-0.6B", places.llm),
        (home, places.llm),
        *((tmp_path / path.name, path) for path in for_scores.iterdir()),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target, target_is_directory=True)
    (tmp_path / "fox.yaml").write_text(RECIPE)
    (tmp_path / "pictures").mkdir()
    for n in range(4):
        Image.new("RGB", (16, 16), (60 * n, 90, 30)).save(tmp_path / "pictures" / f"{n}.png")
        (tmp_path / "pictures" / f"{n}.txt").write_text(f"fox number {n}")
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("module", "name", "text"), EXAMPLES, ids=[f"{m}:{n}" for m, n, _ in EXAMPLES])
def test_examples_are_right(
    module: str, name: str, text: str, folder: Path, tiny_llm: LanguageModel, tokenizer: Any
) -> None:
    pipe, config = build_base(), ExtractionConfig()
    given = {
        "pipe": pipe,
        "llm": tiny_llm,
        "tokenizer": tokenizer,
        "config": config,
        "adapter": LLMDiffAdapter.create(pipe, tiny_llm),
        "text_encoding": TextEncoding(config, tiny_llm.width, tiny_llm.block_count).eval(),
    }
    names = names_for(module) | given
    example = doctest.DocTestParser().get_doctest(text, names, name, module, None)
    if module.startswith(IN_THE_MIDST):
        assert all(compile(one.source, name or module, "single") for one in example.examples)
        return
    if name in NOT_RUN:
        check_names(example.examples, names)
        return
    if name in OF_OTHER_MODELS:
        for one in example.examples:
            one.want = ""
            one.source = f"_ = ({one.source.strip()})\n" if is_expression(one.source) else one.source
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, kind, *_: print(f"{kind.__name__}: {message}", file=sys.stdout)
        doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert "".join(report) == ""


def is_expression(source: str) -> bool:
    return isinstance(ast.parse(source).body[0], ast.Expr)


def check_names(examples: list[doctest.Example], names: dict[str, Any]) -> None:
    """Compiles examples, and finds every name and attribute of a known name in them."""
    known = dict(names)
    for one in examples:
        tree = ast.parse(one.source)
        assigned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {one.name: getattr(importlib.import_module(node.module), one.name) for one in node.names}
                known |= names
            if isinstance(node, ast.Name) and node.id not in assigned:
                assert node.id in known or hasattr(builtins, node.id), node.id
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                assert hasattr(names[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(names[node.func.id]).bind_partial(*node.args, **keywords)
        known |= dict.fromkeys(assigned)


def test_public_names_have_an_example() -> None:
    shown = {name for _, name, _ in EXAMPLES}
    expected = {name for name, value in public_names().items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert expected - NOT_MADE_BY_USERS - SHORT - shown == NOT_RUN - shown
