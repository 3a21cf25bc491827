"""Distillation by layers: the pass that is recorded is the base's own, and each layer is replayed on its own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.training.layer_distillation import Recording, record, relative_errors, replay
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.randomness import Streams
from training.test_objective import gradients, overfit
from training.tiny_objective import CAPTIONS

NOISY, TIMES = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 300, 600, 900])


def layers(objective: AdapterObjective) -> list[torch.nn.Module]:
    """In the order of their names, which is not that in which they run."""
    return [objective.base.denoiser.get_submodule(path) for path in objective.adapter.named_branches()]


def teacher(objective: AdapterObjective) -> Recording:
    return record(layers(objective), lambda: objective.base_prediction(NOISY, TIMES, CAPTIONS))


def student(objective: AdapterObjective, recording: Recording) -> list[Tensor]:
    return replay(recording, lambda: objective.prediction(NOISY, TIMES, CAPTIONS))


def test_layers_are_replayed_on_what_the_base_fed_them(make):
    """Each layer's answer is that of the layer called by itself."""
    objective = make(mode="replace", caption_dropout=0.0)
    objective.adapter.eval()
    recording = teacher(objective)
    with torch.no_grad():
        answers = student(objective, recording)
    encoding = objective._encoding(CAPTIONS, None)
    with torch.no_grad():
        text = objective.adapter._conditioner.start(objective.adapter.condition(encoding), NOISY)
        alone = [layer(x, text) for layer, x in zip(recording.layers, recording.inputs, strict=True)]
    assert len(answers) == len(alone) == 4
    for one, other in zip(answers, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    hooks = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in layers(objective)]
    assert hooks == [2] * 4, "the adapter's alone"


def test_what_is_recorded_is_what_a_whole_pass_of_the_base_gives(make):
    objective = make(mode="replace")
    recording, seen = teacher(objective), {}
    handles = [
        layer.register_forward_hook(lambda layer, args, output: seen.update({layer: output}))
        for layer in layers(objective)
    ]
    said = objective.base_prediction(NOISY, TIMES, CAPTIONS)
    for handle in handles:
        handle.remove()
    assert list(seen) == recording.layers, "in the order in which they ran"
    assert all(
        torch.equal(seen[layer], output) for layer, output in zip(recording.layers, recording.outputs, strict=True)
    )
    assert torch.equal(said, objective.base_prediction(NOISY, TIMES, CAPTIONS)), "a pass that was ended leaves no trace"


def test_layers_that_read_different_texts_are_refused(make):
    """One layer's text is copied on its way, so that it is another tensor."""
    objective = make(mode="replace", distil=1, distil_layers=1)

    def copied(layer, args, kwargs):
        return args, kwargs | {"encoder_hidden_states": kwargs["encoder_hidden_states"].clone()}

    layers(objective)[1].register_forward_pre_hook(copied, with_kwargs=True)
    with pytest.raises(LLMDiffError, match=r"read different texts.*use objective.distil in place"):
        objective.loss(np.arange(4), 0, Streams(0, range(4)))


def test_an_untrained_adapter_that_adds_nothing_is_right_in_every_layer(make):
    objective = make(mode="augment", distil=5, distil_layers=5, caption_dropout=0.5)
    objective.data.teacher_captions = objective.data.captions
    # Where a gradient passes through the output projection, torch may take another kernel, which rounds otherwise.
    assert objective.loss(np.arange(4), 4, Streams(0, range(4))).item() < 1e-10


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("mode", ["augment", "replace"])
def test_a_batch_is_learned_layer_by_layer(make, tmp_path, mode, checkpointing):
    options = {"mode": mode, "distil": 1, "distil_layers": 1, "caption_dropout": 0.0}
    objective = make(**options, gradient_checkpointing=checkpointing)
    losses = overfit(objective, tmp_path / "run")
    assert losses[-1] < 0.5 * losses[0]
    assert objective.base.denoiser.is_gradient_checkpointing is checkpointing


def test_no_gradient_passes_through_the_denoiser(make):
    """The last layer's error tells the first layer's branch nothing."""
    objective = make(mode="replace", distil=1, distil_layers=1, caption_dropout=0.0)
    recording = teacher(objective)
    answers = student(objective, recording)
    answers[-1].square().mean().backward()
    branches = objective.adapter.named_branches()
    paths = {module: path for path, module in objective.base.denoiser.named_modules()}
    *earlier, last = [branches[paths[layer]] for layer in recording.layers]
    assert last.value.weight.grad is not None
    assert all(branch.value.weight.grad is None for branch in earlier)


def test_a_batch_has_the_gradient_of_its_parts(make):
    objective = make(mode="replace", caption_dropout=0.3, distil=1, distil_layers=1)
    whole = gradients(objective, [list(range(8))], 8)
    for name, gradient in gradients(objective, [[0, 1, 2], [3], [4, 5, 6, 7]], 8).items():
        assert torch.allclose(gradient, whole[name], rtol=1e-3, atol=1e-5), name


def test_errors_are_relative_to_what_is_wanted_in_each_layer_and_sample():
    rng = torch.Generator().manual_seed(0)
    wanted: list[Tensor] = [torch.randn(3, 5, 2, generator=rng) * size for size in (0.1, 10.0)]
    said = [1.5 * one for one in wanted]
    assert torch.allclose(relative_errors(said, wanted), torch.full((3,), 0.25))
    said[0][1] = wanted[0][1]
    assert torch.allclose(relative_errors(said, wanted), torch.tensor([0.25, 0.125, 0.25]))
