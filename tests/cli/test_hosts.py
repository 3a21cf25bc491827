"""The command line's way of importing its hosts: it spares what it says, and all that was put off works afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers.utils.import_utils as host

from llmdiff.cli import class_index
from tiny_base import Places

SPARED = ("torch._dynamo", "peft", "scipy", "torch.distributed.tensor", "torch.distributed.fsdp")

RUN = f"""
import sys
from llmdiff.cli.hosts import import_hosts
import_hosts()
from llmdiff.generation import Models, PictureSettings, Renderer
size = dict(width=16, height=16)
picture = PictureSettings(prompt="a cup", steps=1, guidance=5, scale=1, seed=7, **size)
renderer = Renderer.load(Models(base=sys.argv[1], adapter=sys.argv[2]), device="cpu")
renderer.draw(picture)
print([name for name in {SPARED} if name in sys.modules])
"""

AFTERWARDS = """
import diffusers, peft, torch, transformers
from diffusers.loaders import lora_base
from diffusers.utils import torch_utils

renderer.adapter.detach()
unet = renderer.pipe.unet
latents, text = torch.randn(1, 4, 2, 2), torch.randn(1, 3, unet.config.cross_attention_dim)
plain = unet(latents, 1, text).sample
unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
lora = unet(latents, 1, text).sample
assert not torch.allclose(lora, plain)
unet.disable_adapters()
assert torch.allclose(unet(latents, 1, text).sample, plain)
assert lora_base.BaseTunerLayer is peft.tuners.tuners_utils.BaseTunerLayer
assert any(isinstance(part, lora_base.BaseTunerLayer) for part in unet.modules())

compiled = torch.compile(unet, backend="eager")
assert torch.allclose(compiled(latents, 1, text).sample, plain, atol=1e-5)
assert torch_utils.is_compiled_module(compiled)
assert not torch_utils.is_compiled_module(unet)
diffusers.models.transformers.PixArtTransformer2DModel, diffusers.hooks.apply_group_offloading
assert transformers.models.llama.LlamaConfig is transformers.LlamaConfig

llm = renderer.adapter.llm.model
assert llm._tp_plan or llm.config.base_model_tp_plan
llm.tp_plan = {"layers.*.self_attn.q_proj": "colwise"}
try:
    llm.tp_plan = {"layers.*.self_attn.q_proj": "nonsense"}
except ValueError as error:
    assert "colwise" in str(error) and "grouped_gemm" in str(error), error
else:
    raise AssertionError("no such style")
print("fine")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"LLMDIFF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}


def lines(code: str, places: Places, environment: dict[str, str]) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, str(places.base), str(places.adapter)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_a_picture_needs_little(places: Places, environment: dict[str, str]) -> None:
    assert lines(RUN, places, environment) == ["[]"]


@pytest.mark.slow
def test_all_else_works_after_a_picture(places: Places, environment: dict[str, str]) -> None:
    assert lines(RUN + AFTERWARDS, places, environment) == ["[]", "fine"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules like those that transformers indexes, and a home to keep the index in."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(class_index, "_LARGE", 2)
    for name in ("cat", "dog"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / f"modeling_{name}.py").write_text(f'__all__ = ["{name.title()}Model"]\n')
    return tmp_path / "models"


class Host:
    """The host's module, which reads modules each time it is asked."""

    def __init__(self) -> None:
        self.reads = 0

    def define_import_structure(self, path: Path, prefix: str | None = None) -> class_index.Index:
        self.reads += 1
        host.create_import_structure_from_path.cache_clear()
        found: class_index.Index = host.define_import_structure.__wrapped__(path, prefix=prefix)
        return found


def ask(models: Path) -> tuple[class_index.Index, int]:
    """The index as a new process gets it, and how often it was made for that."""
    one = Host()
    class_index.keep_index(one)  # type: ignore[arg-type]
    return one.define_import_structure(models, prefix="models"), one.reads


def test_the_index_is_made_once(models: Path) -> None:
    made = Host().define_import_structure(models, prefix="models")
    assert [ask(models), ask(models)] == [(made, 1), (made, 0)]
    assert made[frozenset({"torch"})]["models.cat.modeling_cat"] == {"CatModel"}


def test_it_is_made_again_when_a_file_has_changed_or_come(models: Path) -> None:
    ask(models)
    (models / "cat" / "modeling_cat.py").write_text('__all__ = ["BigCatModel"]\n')
    found, reads = ask(models)
    assert (found[frozenset({"torch"})]["models.cat.modeling_cat"], reads) == ({"BigCatModel"}, 1)
    (models / "cat" / "configuration_cat.py").write_text('__all__ = ["CatConfig"]\n')
    found, reads = ask(models)
    assert (found[frozenset()]["models.cat.configuration_cat"], reads) == ({"CatConfig"}, 1)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"key": 1}', b"\xff"])
def test_a_damaged_one_is_made_again(models: Path, damage: bytes) -> None:
    made, _ = ask(models)
    [kept] = (models.parent / "home").glob("*.json")
    kept.write_bytes(damage)
    assert [ask(models), ask(models)] == [(made, 1), (made, 0)]


def test_without_a_home_it_is_made_each_time(models: Path) -> None:
    (models.parent / "home").write_text("not a folder")
    assert [ask(models)[1], ask(models)[1]] == [1, 1]
