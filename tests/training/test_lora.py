"""A LoRA in training: it learns with the adapter, at a rate of its own, and is all of a run that the adapter is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.training import train
from llmdiff.training.costs import costs
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import LoRASettings, Recipe, load_recipe
from llmdiff.training.trainer import Trainer
from tiny_base import Places, build_base
from training.test_run import write_recipe
from training.tiny_objective import CAPTIONS, Make


def trained(objective: AdapterObjective, folder: Path, steps: int = 3, **settings: float) -> Trainer:
    loop = {"steps": steps, "batch_size": 4, "learning_rate": 1e-2, "warmup": 0, "save_every": steps, "ema": 0}
    trainer = Trainer(objective, LoopSettings.model_validate(loop | settings), folder)
    trainer.run()
    return trainer


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_an_untrained_one_changes_nothing(make: Make):
    plain, with_lora = make(mode="replace"), make(mode="replace", lora={"rank": 2})
    losses = [objective.loss(np.arange(4), 0, Streams(0, range(4))) for objective in (plain, with_lora)]
    assert torch.equal(*losses)


def test_adapter_and_lora_train_and_nothing_else_does(make: Make, tmp_path: Path):
    objective = make(mode="replace", lora={"rank": 2, "rate": 0.5})
    base, adapter = state(objective.base.denoiser), state(objective.adapter)
    trainer = trained(objective, tmp_path)
    rates = [group["lr"] / trainer.optimizer.param_groups[0]["lr"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([1, 1, 10, 0.5])
    grouped = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trainer.optimizer.param_groups[-1]["params"]} == {
        id(p) for p in objective.adapter.lora.parameters()
    }
    assert len(grouped) == len({id(p) for p in grouped}) == len(adapter)
    assert all(torch.equal(p, base[name]) for name, p in objective.base.denoiser.named_parameters())
    assert all(not torch.equal(p, adapter[name]) for name, p in objective.adapter.named_parameters())


@pytest.mark.parametrize("distilled", [{"distil": 2}, {"distil_layers": 2}])
def test_it_learns_from_a_teacher_that_has_none(make: Make, tmp_path: Path, distilled: dict[str, int]):
    objective = make(mode="replace", lora={"rank": 2}, **distilled)
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    before = objective.base_prediction(noisy, t, CAPTIONS[:2])
    trained(objective, tmp_path)
    assert torch.equal(objective.base_prediction(noisy, t, CAPTIONS[:2]), before)
    assert all(p.requires_grad for p in objective.adapter.lora.parameters())


def test_a_run_is_resumed_to_the_bit(make: Make, tmp_path: Path):
    whole = trained(make(mode="augment", lora={"rank": 2}), tmp_path / "whole", 4)
    again = Trainer(make(mode="augment", lora={"rank": 2}), whole.settings, tmp_path / "whole")
    assert again.resume()
    a, b = (dict(trainer.objective.module.named_parameters()) for trainer in (whole, again))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert any(name.startswith("lora.") and p.abs().max() > 0 for name, p in b.items() if name.endswith(".up"))


def test_checkpointed_steps_are_those_without(make: Make, tmp_path: Path):
    runs = [make(mode="augment", lora={"rank": 2}, gradient_checkpointing=on) for on in (False, True)]
    for name, objective in zip("ab", runs, strict=True):
        trained(objective, tmp_path / name, 2)
    plain, checkpointed = (state(objective.adapter) for objective in runs)
    assert all(torch.allclose(checkpointed[name], p, rtol=1e-3, atol=1e-5) for name, p in plain.items())


def test_a_run_saves_the_averaged_one_which_is_drawn_with_and_needs_no_other_file(tmp_path: Path, places: Places):
    """Its sample sheet, its losses on held-out pictures and the loaded adapter are all with it."""
    loop = {"steps": 3, "batch_size": 4, "ema": 0.5, "heldout_every": 3, "learning_rate": 0.05, "warmup": 0}
    recipe = write_recipe(tmp_path, places, loop=loop, lora={"rank": 2, "rate": 1.0}, heldout={"share": 0.3})
    result = train(recipe)
    folder = Path(result["adapter"])
    assert {path.name for path in folder.iterdir()} == {"adapter.safetensors", "config.json", "README.md"}
    adapter = LLMDiffAdapter.from_pretrained(folder)
    assert adapter.config.lora is not None
    assert adapter.config.lora.rank == 2
    assert result["parameters"] == sum(p.numel() for p in adapter.parameters())
    assert min(lora.up.abs().max() for lora in adapter.named_loras().values()) > 0
    assert "rank 2, on" in (folder / "README.md").read_text()


def test_the_bill_counts_it(places: Places):
    data = {"kind": "scenes", "captions": 6, "pictures": 2}
    bills = [
        costs(Recipe.model_validate({"base": str(places.base), "llm": str(places.llm), "data": data} | extra))
        for extra in ({}, {"lora": {"rank": 3}})
    ]
    widths = [
        linear.in_features + linear.out_features
        for name, linear in build_base().unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    ]
    assert bills[1].parameters - bills[0].parameters == 3 * sum(widths) > 0
    activations = [next(cost.size for cost in bill.memory if cost.name == "activations") for bill in bills]
    assert activations[1] > activations[0]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rank"):
        LoRASettings(rank=0)
    assert load_recipe("embedded", ["lora.rank=4", "lora.rate=0.5"]).lora == LoRASettings(rank=4, rate=0.5)
