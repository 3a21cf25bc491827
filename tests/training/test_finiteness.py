"""Numbers that are not finite: found where they arise, named, and never trained on."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel
from llmdiff.precompute import BlockTerms, LiveTerms
from llmdiff.precompute.latents import CachedLatents
from llmdiff.training import train
from llmdiff.training.finiteness import first_broken
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer
from tiny_base import Places, build_base
from tiny_llm import build_llama
from training.outcomes import weights
from training.regression import Regression, settings
from training.test_run import write_recipe
from training.tiny_objective import CAPTIONS, Listed, Make

BAD = [math.nan, math.inf, -math.inf]


def bad_in(steps: set[int], monkeypatch: pytest.MonkeyPatch, value: float = math.nan) -> None:
    """The loss of some steps of the next run is not finite, as that of a batch may be that overflows."""
    loss = AdapterObjective.loss

    def spoiled(objective: AdapterObjective, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        found = loss(objective, indices, step, rng)
        return found * value if step in steps else found

    monkeypatch.setattr(AdapterObjective, "loss", spoiled)


def recipe_of(steps: int, folder: Path, places: Places, **changes: Any) -> str:
    loop = {"steps": steps, "batch_size": 2, "log_every": 1, "save_every": steps, "sample_every": 0}
    return write_recipe(folder, places, loop=loop, **changes)


@pytest.mark.fault("skipped steps")
@pytest.mark.parametrize("value", BAD[:2])
def test_eight_skipped_steps_of_nine_are_no_success(
    value: float, tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is the run that goes on from its end; the adapter is there all the same."""
    bad_in(set(range(8)), monkeypatch, value)
    recipe = recipe_of(9, tmp_path, places)
    for arguments in (["train", recipe], ["train", recipe, "--resume"]):
        assert main(arguments) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert "error: 8 of 9 steps were skipped, because their loss or gradient was not finite: " in told.err
        assert (tmp_path / "run" / "adapter" / "adapter.safetensors").is_file()


@pytest.mark.fault("skipped steps")
def test_a_few_skipped_steps_are_told_in_the_end_on_the_way_and_in_the_log(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_in({1, 4}, monkeypatch)
    told: list[str] = []
    with pytest.warns(UserWarning, match="skipped") as warned:
        summary = train(recipe_of(9, tmp_path, places), progress=lambda stage, _: told.append(stage))
    assert summary["skipped"] == 2
    sentences = [str(one.message) for one in warned]
    assert "Step 2 is skipped, because the loss is not finite." in sentences
    assert "2 of 9 steps were skipped, because their loss or gradient was not finite." in sentences
    training = [stage for stage in told if stage.startswith("Training")]
    assert [stage.partition("images/s")[2] for stage in training] == [
        "", *[", 1 steps skipped"] * 3, *[", 2 steps skipped"] * 5,
    ]  # fmt: skip
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON")) for line in lines]
    assert [row.get("skipped", 0) for row in rows] == [0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert [row["step"] for row in rows if row["loss"] is None] == [2, 5]


@pytest.mark.fault("skipped steps")
@pytest.mark.parametrize("value", BAD)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_named(tmp_path: Path, value: float) -> None:
    """Neither weights nor moments nor averages."""
    objective = Regression()
    trainer = Trainer(objective, settings(5), tmp_path)
    trainer.run()
    before = {name: tensor.clone() for name, tensor in weights(trainer).items()}
    objective.module[2].weight.register_hook(lambda gradient: gradient * value)
    trainer.settings = settings(6)
    with pytest.warns(UserWarning, match=r"^Step 6 is skipped, because the gradient of 2\.weight is not finite\.$"):
        trainer.run()
    after = weights(trainer)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.fault("skipped steps")
@pytest.mark.parametrize("value", BAD)
def test_the_picture_whose_latents_are_not_finite_is_named(make: Make, value: float) -> None:
    objective = make(mode="replace")
    assert isinstance(objective.latents, Tensor)
    objective.latents[2, 1, 3, 4] = value
    with pytest.raises(LLMDiffError, match=r"latents of picture 2, 'a cat', are not finite: .*; use another"):
        objective.loss(np.arange(8), 0, Streams(0, range(8)))


@pytest.mark.fault("skipped steps")
def test_latents_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Pictures(Listed):
        def pixels(self, index: int) -> Tensor:
            return torch.full((3, 16, 16), math.inf if index == 1 else 0.0)

    with pytest.raises(LLMDiffError, match="latents of picture 1, 'two blue cups', are not finite"):
        CachedLatents.of(build_base().vae, Pictures(), tmp_path, lambda *_: None)
    assert not list(tmp_path.rglob("*.safetensors"))


def overflowing(text: str) -> LanguageModel:
    """An LLM to which the first token of a text is infinite."""
    llm = build_llama()
    llm.model.embed_tokens.weight.data[llm.tokenizer(text)["input_ids"][0]] = math.inf
    return llm


@pytest.mark.fault("skipped steps")
def test_the_caption_whose_terms_are_not_finite_is_named(make: Make, tmp_path: Path) -> None:
    """When they are read, whether they are kept or not."""
    llm, reading = overflowing("w"), make().recipe.reading
    said = "Reading 'two blue cups', tiny-llama comes to numbers that are not finite in float32"
    with pytest.raises(LLMDiffError, match=said):
        LiveTerms(llm, reading).batch(CAPTIONS)
    with pytest.raises(LLMDiffError, match=said):
        BlockTerms.of(CAPTIONS, llm, reading, tmp_path / "cache", lambda *_: None)
    LiveTerms(llm, reading).batch([text for text in CAPTIONS if "w" not in text])


@pytest.mark.fault("skipped steps")
@pytest.mark.parametrize("part", ["unet", "text_encoder", "adapter"])
def test_a_weight_that_is_not_finite_is_named(make: Make, part: str) -> None:
    """At the first loss, since no later one can be better."""
    objective = make(mode="augment")
    model = objective.adapter if part == "adapter" else getattr(objective.base.pipe, part)
    name, weight = max(model.named_parameters(), key=lambda pair: pair[1].numel())
    weight.data.view(-1)[3] = math.nan
    with pytest.raises(LLMDiffError, match=f"{part}.* {name}|adapter's {name} is not finite"):
        objective.loss(np.arange(8), 0, Streams(0, range(8)))


@pytest.mark.fault("skipped steps")
def test_the_caption_whose_prediction_is_not_finite_is_named_once(make: Make) -> None:
    objective = make(mode="replace", caption_dropout=0.0)
    objective.base.denoiser.conv_out.register_forward_hook(lambda *call: call[-1] * torch.tensor(math.inf))
    with pytest.warns(UserWarning, match=r"prediction under '.+' is not finite"):
        first = objective.loss(np.arange(4), 0, Streams(0, range(4)))
    with warnings.catch_warnings(action="error"):
        second = objective.loss(np.arange(4), 1, Streams(0, range(4)))
    assert not torch.stack([first, second]).isfinite().any()


def test_the_first_tensor_that_is_not_finite_is_found() -> None:
    fine = torch.zeros(2)
    assert first_broken({"a": fine, "b": fine}.items()) is None
    for value in BAD:
        assert first_broken({"a": fine, "b": fine / 0 + value, "c": fine / 0}.items()) == "b"
