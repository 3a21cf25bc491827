"""A LoRA on the image model: it trains with the adapter, sleeps with it, and stock diffusers loads what is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.training import lora
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.lora import LoRASettings, check_lora, lora_parameters, save_lora
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer
from tiny_base import build_base
from training.tiny_objective import CAPTIONS, Make


def train(objective: AdapterObjective, folder: Path, steps: int = 3) -> Trainer:
    settings = LoopSettings(steps=steps, batch_size=4, learning_rate=1e-2, warmup=0, save_every=steps, ema=0)
    trainer = Trainer(objective, settings, folder)
    trainer.run()
    return trainer


def state(objective: AdapterObjective) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in objective.base.denoiser.named_parameters()}


def test_an_untrained_one_changes_nothing(make: Make):
    plain, with_lora = make(mode="replace"), make(mode="replace", lora={"rank": 2})
    losses = [objective.loss(np.arange(4), 0, Streams(0, range(4))) for objective in (plain, with_lora)]
    assert torch.allclose(losses[0], losses[1], atol=1e-6)


def test_adapter_and_lora_train_and_nothing_else_does(make: Make, tmp_path: Path):
    objective = make(mode="replace", lora={"rank": 2, "rate": 0.5})
    before, adapter = state(objective), {name: p.detach().clone() for name, p in objective.adapter.named_parameters()}
    trainer = train(objective, tmp_path)
    assert [group["lr"] / 1e-2 for group in trainer.optimizer.param_groups] == pytest.approx(
        [rate * trainer.optimizer.param_groups[0]["lr"] / 1e-2 for rate in (1, 1, 10, 0.5)]
    )
    own = {id(p) for p in (*objective.adapter.parameters(), *lora_parameters(objective.base.denoiser))}
    moved = {name for name, p in objective.base.denoiser.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in objective.base.denoiser.named_parameters() if id(p) in own}
    assert any("attn1.to_q" in name for name in moved)
    assert any("attn2.to_out.0" in name for name in moved)
    assert all(not torch.equal(p, adapter[name]) for name, p in objective.adapter.named_parameters())


def test_a_run_with_a_lora_is_resumed_to_the_bit(make: Make, tmp_path: Path):
    whole = train(make(mode="augment", lora={"rank": 2}), tmp_path / "whole", 4)
    again = Trainer(make(mode="augment", lora={"rank": 2}), whole.settings, tmp_path / "whole")
    assert again.resume()
    a, b = (dict(trainer.objective.module.named_parameters()) for trainer in (whole, again))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_the_base_model_speaks_without_it(make: Make, tmp_path: Path):
    objective = make(mode="replace", lora={"rank": 2})
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    before = objective.base_prediction(noisy, t, CAPTIONS[:2])
    train(objective, tmp_path)
    assert torch.equal(objective.base_prediction(noisy, t, CAPTIONS[:2]), before)
    assert all(p.requires_grad for p in lora_parameters(objective.base.denoiser))


def test_stock_diffusers_loads_what_is_saved(make: Make, tmp_path: Path):
    objective = make(mode="augment", lora={"rank": 2})
    train(objective, tmp_path)
    save_lora(objective.base.pipe, tmp_path / "adapter")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == [lora.FILE]
    noisy, t, text = torch.randn(2, 4, 8, 8), torch.tensor([100, 900]), torch.randn(2, 5, 12)
    stock = build_base()
    with torch.no_grad():
        plain = stock.unet(noisy, t, text).sample
        stock.load_lora_weights(tmp_path / "adapter")
        objective.adapter.detach()
        trained = objective.base.pipe.unet(noisy, t, text).sample
        assert torch.allclose(stock.unet(noisy, t, text).sample, trained, atol=1e-5)
    assert not torch.allclose(plain, trained, atol=1e-4)


def test_what_stands_in_the_way_is_told(monkeypatch: pytest.MonkeyPatch):
    check_lora(build_base())
    with pytest.raises(LLMDiffError, match="object cannot load a LoRA, so none can be trained"):
        check_lora(object())
    monkeypatch.setattr(lora, "is_peft_available", lambda: False)
    with pytest.raises(LLMDiffError, match=r"install llmdiff-adapter\[lora\]"):
        check_lora(build_base())


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rank"):
        LoRASettings(rank=0)
