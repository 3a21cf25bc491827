"""The losses of twenty steps of every family, as they are now and as they were written down.

`python -m training.golden`, with `src` and `tests` on PYTHONPATH, writes down those of now, for a change that is meant
to change them.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adapter.families import FAMILIES
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.language import LanguageModel
from llmdiff.precompute import LiveTerms
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.recipe import Recipe
from llmdiff.training.trainer import Trainer
from tiny_llm import build_llama
from training.tiny_objective import Listed

FOLDER = Path(__file__).parent / "golden"
STEPS = 20


def path_of(family: str) -> Path:
    return FOLDER / f"{re.sub('[^a-z0-9]+', '-', family.lower())}.json"


def mode_of(family: str) -> str:
    """One and the other in turn."""
    return "replace" if [*FAMILIES].index(family) % 2 else "augment"


def losses_of(family: str, llm: LanguageModel, folder: Path) -> list[float]:
    """The losses of twenty steps of a run with most of what a recipe can ask for: a refiner, a LoRA, dropped captions,
    a teacher in the first steps, weights by signal-to-noise ratio, offset noise, warm-up and decay."""
    mode = mode_of(family)
    pipe = FAMILIES[family].build()
    recipe = Recipe.model_validate(
        {
            "folder": folder,
            "mode": mode,
            "data": {"kind": "scenes"},
            "refiner": {"blocks": 2, "width": 16},
            "lora": {"rank": 2},
            "objective": {
                "distil": 5 if mode == "replace" else 0,
                "noise_offset": 0.05,
                "min_snr": 5.0,
                "caption_dropout": 0.2,
            },
            "loop": {"steps": STEPS, "batch_size": 2, "learning_rate": 3e-3, "warmup": 3, "save_every": STEPS},
        }
    )
    kept = {"reading": recipe.reading, "refiner": recipe.refiner, "lora": recipe.adapter_lora}
    adapter = LLMDiffAdapter.create(pipe, llm, mode=mode, seed=0, **kept).attach(pipe)
    base = ImageModel(pipe).freeze()
    channels, size = (base.denoiser.config[name] for name in ("in_channels", "sample_size"))
    latents = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))
    terms = LiveTerms(llm, recipe.reading)
    objective = AdapterObjective(adapter, base, latents, Listed(), terms, recipe, torch.float32)
    losses: list[float] = []
    Trainer(objective, recipe.loop, folder).run(lambda _, figures: losses.append(figures["loss"]))
    return losses


def write() -> None:
    llm = build_llama()
    FOLDER.mkdir(exist_ok=True)
    for family in FAMILIES:
        with TemporaryDirectory() as folder:
            losses = losses_of(family, llm, Path(folder))
        rounded = [float(f"{loss:.6g}") for loss in losses]
        path_of(family).write_text(json.dumps({"mode": mode_of(family), "losses": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    write()
