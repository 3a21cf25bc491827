"""What the README shows, run as it stands on local models."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.generation import load_pipeline
from llmdiff.training import train
from tiny_base import Places

README = Path(__file__).parents[1] / "README.md"


def test_the_five_lines_work(places: Places) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for loader, folder in (
        ("StableDiffusionPipeline.from_pretrained", places.base),
        ("LanguageModel.load", places.llm),
    ):
        code, count = re.subn(rf'{re.escape(loader)}\("[^"]+"\)', f"{loader}({str(folder)!r})", code)
        assert count == 1
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["image"].size == (16, 16)
    names["adapter"].detach()


def test_the_lines_beside_other_features_work(places: Places) -> None:
    (code,) = re.findall(r"```py\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    pipe = load_pipeline(places.base)
    names: dict[str, Any] = {
        "StableDiffusionImg2ImgPipeline": StableDiffusionImg2ImgPipeline,
        "pipe": pipe,
        "adapter": LLMDiffAdapter.from_pretrained(places.adapter).attach(pipe),
        "latents": torch.randn(1, 4, 8, 8),
        "t": 700,
    }
    exec(code, names)
    assert names["image"].size == (16, 16)
    with names["adapter"].disable_adapter():
        alone = pipe.unet(names["latents"], 700, encoder_hidden_states=names["plain"]).sample
    assert not torch.equal(names["noise"], alone)


def test_its_recipe_trains_on_ones_own_pictures(places: Places, tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
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
