"""The nodes, without ComfyUI: their schemas, what they do, the example workflows, and what the registry asks for."""

import asyncio
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import llmdiff
from comfyui import fakes
from comfyui.installation import NAME, PACK, pack
from llmdiff.errors import LLMDiffError
from tiny_base import Places

EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
DOCUMENT = PACK.parent / "docs" / "comfyui.md"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The node classes by their ids."""
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, str(tmp_path_factory.mktemp("models")))
        pack.cache_clear()
        extension = asyncio.run(pack().comfy_entrypoint())
        found = asyncio.run(extension.get_node_list())
        yield {node.define_schema().node_id: node for node in found}
        for name in [name for name in sys.modules if name.startswith(NAME)]:
            del sys.modules[name]
        pack.cache_clear()


def inputs_of(node: Any) -> dict[str, Any]:
    return {slot.id: slot for slot in node.define_schema().inputs}


def test_every_node_takes_what_its_schema_names(nodes: dict[str, Any]) -> None:
    assert list(nodes) == ["LLMDiffLoadLLM", "LLMDiffLoadAdapter", "LLMDiffEncode", "LLMDiffApply", "LLMDiffScale"]
    for node in nodes.values():
        taken = inspect.signature(node.execute).parameters
        slots = inputs_of(node)
        assert list(taken) == list(slots)
        for name, slot in slots.items():
            assert slot.optional == (taken[name].default is not inspect.Parameter.empty), name
            if slot.options:
                assert slot.default in slot.options
        assert len(node.define_schema().description) > 20


def test_the_document_names_every_node_and_input(nodes: dict[str, Any]) -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|", DOCUMENT.read_text(), re.MULTILINE)
    named = {name: re.findall(r"\w+", takes.replace("(optional)", "").replace(" or ", " ")) for name, takes in rows}
    for node in nodes.values():
        schema = node.define_schema()
        assert set(named.pop(schema.display_name)) >= set(inputs_of(node)) - {"prompt_weights"}
    assert named == {}


def test_there_is_an_example_for_each_mode() -> None:
    assert [path.stem for path in EXAMPLES] == ["augment", "replace", "sdxl_scale"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_nodes_as_they_are(nodes: dict[str, Any], example: Path) -> None:
    workflow = json.loads(example.read_text())
    links = {link[0]: link for link in workflow["links"]}
    ours = [node for node in workflow["nodes"] if node["type"].startswith("LLMDiff")]
    assert len(ours) >= 4
    for node in ours:
        slots = inputs_of(nodes[node["type"]])
        given = {one["name"]: one["link"] for one in node["inputs"]}
        assert set(given) <= set(slots)
        widgets = [one["name"] for one in node["inputs"] if "widget" in one]
        assert len(node["widgets_values"]) == len(widgets)
        for name, slot in slots.items():
            assert slot.optional or given.get(name) in links or name in widgets, (node["type"], name)
    replaces = example.stem == "replace"
    encoders = [node for node in ours if node["type"] == "LLMDiffEncode"]
    for node in encoders:
        own = [one["link"] for one in node["inputs"] if one["name"] in ("clip", "conditioning")]
        assert sum(link is not None for link in own) == (0 if replaces else 1)


def test_what_the_registry_and_the_manager_ask_for() -> None:
    content = tomllib.loads((PACK / "pyproject.toml").read_text())
    project = content["project"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (PACK / project["license"]["file"]).read_text() == (PACK.parent / "LICENSE").read_text()
    assert project["dependencies"] == (PACK / "requirements.txt").read_text().split()
    lower, upper = re.fullmatch(r"llmdiff-adapter>=([\d.]+),<([\d.]+)", project["dependencies"][0]).groups()  # type: ignore[union-attr]
    ours = [int(part) for part in llmdiff.__version__.split(".")]
    assert [int(part) for part in lower.split(".")] <= ours < [int(part) for part in upper.split(".")]
    assert content["tool"]["comfy"]["DisplayName"]
    assert (PACK / "icon.svg").is_file()


def test_an_adapter_is_loaded_and_reads(nodes: dict[str, Any], places: Places) -> None:
    (adapter,) = nodes["LLMDiffLoadAdapter"].execute(str(places.adapter)).result
    width = adapter.adapter.config.base.context_width
    own = [[torch.zeros(1, 16, width), {}]]
    clip = SimpleNamespace(tokenize=lambda text: text, encode_from_tokens_scheduled=lambda tokens: own)
    (by_clip,) = nodes["LLMDiffEncode"].execute(adapter, "a red ball", clip=clip).result
    (by_conditioning,) = nodes["LLMDiffEncode"].execute(adapter, "a red ball", conditioning=own).result
    assert torch.equal(by_clip[0][0], by_conditioning[0][0])
    assert by_clip[0][0].shape[-1] > width
    assert by_clip[0][1] == {"llmdiff_adapter": adapter.made_by}
    with pytest.raises(LLMDiffError, match="Connect clip or conditioning, not both"):
        nodes["LLMDiffEncode"].execute(adapter, "a red ball", clip=clip, conditioning=own)


def model_of(dtype: torch.dtype, computes: torch.dtype | None) -> Any:
    """A ComfyUI model with weights of a dtype that computes in another, if any."""
    return SimpleNamespace(
        model=SimpleNamespace(manual_cast_dtype=computes, get_dtype=lambda: dtype), load_device=torch.device("cpu")
    )


def test_branches_are_copied_into_the_dtype_of_a_model_once(nodes: dict[str, Any], places: Places) -> None:
    (adapter,) = nodes["LLMDiffLoadAdapter"].execute(str(places.adapter)).result
    before = {name: weight.clone() for name, weight in adapter.adapter.state_dict().items()}
    half, cast = model_of(torch.float16, None), model_of(torch.float8_e4m3fn, torch.bfloat16)
    joint, patcher = adapter.joint(half)
    assert {branch.key.weight.dtype for branch in joint.branches.values()} == {torch.float16}
    assert joint.branches.keys() == adapter.adapter.named_branches().keys()
    assert adapter.joint(half)[1] is patcher
    assert {branch.key.weight.dtype for branch in adapter.joint(cast)[0].branches.values()} == {torch.bfloat16}
    assert all(torch.equal(weight, before[name]) for name, weight in adapter.adapter.state_dict().items())


def test_an_adapter_is_found_in_the_folder_of_models(nodes: dict[str, Any], places: Places) -> None:
    folders = sys.modules["folder_paths"]
    inside = Path(folders.models_dir) / "llmdiff"
    inside.mkdir(exist_ok=True)
    (inside / "mine").symlink_to(places.adapter)
    (adapter,) = nodes["LLMDiffLoadAdapter"].execute(" mine ").result
    assert adapter.adapter.config.mode == "augment"
    changed = (places.adapter / "adapter.safetensors").stat().st_mtime_ns
    fingerprint = nodes["LLMDiffLoadAdapter"].fingerprint_inputs
    assert (fingerprint("mine"), fingerprint("nobody")) == (changed, 0)
    for name, message in (("", "Name an adapter"), ("nobody", "The adapter 'nobody' is neither a folder")):
        with pytest.raises(LLMDiffError, match=message):
            nodes["LLMDiffLoadAdapter"].execute(name)


def test_an_llm_of_ones_own_is_used(nodes: dict[str, Any], places: Places) -> None:
    load = nodes["LLMDiffLoadLLM"].execute
    (managed,) = load(str(places.llm), "float32", "none", "managed by ComfyUI").result
    (fixed,) = load(str(places.llm), "float32", "none", "cpu").result
    assert fixed.patcher is None
    (adapter,) = nodes["LLMDiffLoadAdapter"].execute(str(places.adapter), managed).result
    assert adapter.adapter.llm is managed.llm
    management = sys.modules["comfy.model_management"]
    management.loaded.clear()
    own = [[torch.zeros(1, 16, adapter.adapter.config.base.context_width), {}]]
    nodes["LLMDiffEncode"].execute(adapter, "a ball", conditioning=own)
    assert management.loaded == [managed.patcher]
