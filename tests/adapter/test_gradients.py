"""Training through the hooks: what gets a gradient, and that it is the right one."""

import threading
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adapter.tiny import CONTEXT_WIDTH, build_pixart, build_sd, perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding, extract_stack, tokenize


def training_encoding(adapter: LLMDiffAdapter, prompts: list[str]) -> Encoding:
    tokens = tokenize(adapter.llm, prompts, adapter.config.reading)
    start, stack = extract_stack(adapter.llm, tokens, adapter.config.reading)
    return Encoding(adapter.text_encoding(start, stack, tokens.kept), tokens.kept)


def gradients(adapter: LLMDiffAdapter, unet: torch.nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    sample, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, CONTEXT_WIDTH)
    adapter.zero_grad()
    joined = adapter.condition(training_encoding(adapter, ["a cup", "a longer prompt"]), text)
    loss = unet(sample, 5, encoder_hidden_states=joined).sample.square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in adapter.named_parameters() if p.grad is not None}


def train_mode(adapter: LLMDiffAdapter, unet: torch.nn.Module) -> None:
    unet.requires_grad_(False)
    list(adapter.trainable_parameters())
    unet.train()


def test_a_gradient_reaches_everything_that_trains_and_nothing_else(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    train_mode(adapter, sd.unet)
    adapter.train()
    found = gradients(adapter, sd.unet)
    names = {name for name, _ in adapter.trainable_parameters()}
    assert found.keys() == names
    assert all(gradient.abs().max() > 0 for gradient in found.values())
    assert all(p.grad is None for p in sd.unet.parameters())
    assert all(p.grad is None for p in adapter.llm.model.parameters())


def test_an_untrained_augment_adapter_learns_from_its_gates(sd, make_adapter):
    adapter = make_adapter(sd).attach(sd)
    train_mode(adapter, sd.unet)
    nonzero = {name for name, gradient in gradients(adapter, sd.unet).items() if gradient.abs().max() > 0}
    assert nonzero == {name for name in adapter.state_dict() if name.endswith("gate.a2")}


def test_an_untrained_replace_adapter_learns_everywhere_at_once(sd, make_adapter):
    adapter = make_adapter(sd, mode="replace").attach(sd)
    train_mode(adapter, sd.unet)
    found = gradients(adapter, sd.unet)
    assert all(gradient.abs().max() > 0 for name, gradient in found.items() if "raw_h" not in name)


def test_gradient_checkpointing_gives_the_same_gradients(make_adapter, mode):
    pipe = build_sd()
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    train_mode(adapter, pipe.unet)
    plain = gradients(adapter, pipe.unet)
    pipe.unet.enable_gradient_checkpointing()
    checkpointed = gradients(adapter, pipe.unet)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.allclose(checkpointed[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("build", [build_sd, build_pixart])
@pytest.mark.parametrize("in_thread", [False, True])
def test_checkpointing_recomputes_each_call_under_its_own_prompt(make_adapter, mode, build, in_thread):
    """Two calls before one backward pass, which may run in a thread of its own, as autograd's does on a GPU."""
    pipe = build()
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    model = ImageModel(pipe)
    train_mode(adapter, model.denoiser)

    def run(together: bool) -> dict[str, Tensor]:
        adapter.zero_grad()
        losses = []
        for prompt in ("a cup", "a longer prompt"):
            text = model.encode([prompt])
            inputs = adapter.denoiser_inputs(training_encoding(adapter, [prompt]), text)
            losses.append(model.predict(torch.ones(1, 4, 8, 8), torch.tensor([5]), inputs).square().mean())
            if not together:
                losses.pop().backward()
        if together:
            backward = threading.Thread(target=lambda: sum(losses).backward()) if in_thread else None
            backward.start() if backward else sum(losses).backward()
            backward.join() if backward else None
        return {name: p.grad.clone() for name, p in adapter.named_parameters() if p.grad is not None}

    expected = run(together=False)
    model.denoiser.enable_gradient_checkpointing()
    found = run(together=True)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name


def test_reentrant_checkpointing_is_refused(sd, make_adapter, mode):
    """It hands copies of the text features to the layers, so that their call cannot be found again."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    train_mode(adapter, sd.unet)
    sd.unet.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=True))
    joined = adapter.condition(training_encoding(adapter, ["a cup"]), torch.zeros(1, 4, CONTEXT_WIDTH))
    predicted = sd.unet(torch.ones(1, 4, 8, 8, requires_grad=True), 5, joined).sample
    with pytest.raises(LLMDiffError, match="use_reentrant=False"):
        predicted.sum().backward()


def test_two_backward_passes(sd, make_adapter, mode):
    """Gradient accumulation over denoiser calls under one encoding."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    train_mode(adapter, sd.unet)
    encoding = adapter.encode(["a cup"])
    for _ in range(2):
        joined = adapter.condition(encoding, torch.zeros(1, 4, CONTEXT_WIDTH))
        sd.unet(torch.ones(1, 4, 8, 8), 5, joined).sample.sum().backward()
    assert all(p.grad is not None for p in adapter.branches.parameters())


def test_training_brings_the_picture_closer_to_its_target(sd, make_adapter, mode):
    adapter = make_adapter(sd, mode=mode).attach(sd)
    train_mode(adapter, sd.unet)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    torch.manual_seed(1)
    sample, target, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 5, CONTEXT_WIDTH)
    losses = []
    for _ in range(15):
        joined = adapter.condition(training_encoding(adapter, ["a cup", "blue"]), text)
        loss = (sd.unet(sample, 5, encoder_hidden_states=joined).sample - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("attached", [True, False])
def test_creation_leaves_the_random_state_alone_and_repeats_itself(make_adapter, attached):
    pipe = build_sd()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = make_adapter(pipe, mode="replace", seed=3)
    assert torch.equal(torch.rand(3), expected)
    second, third = make_adapter(pipe, mode="replace", seed=3), make_adapter(pipe, mode="replace", seed=4)
    if attached:
        second.attach(pipe)
    assert all(torch.equal(first.state_dict()[name], weight) for name, weight in second.state_dict().items())
    assert not torch.equal(first.phi.weight, third.phi.weight)
