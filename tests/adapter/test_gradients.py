"""Training through the hooks: what gets a gradient, and that it is the right one."""

import pytest
import torch
from torch import Tensor

from adapter.tiny import CONTEXT_WIDTH, build_sd, perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import Encoding, extract_stack, tokenize


def training_encoding(adapter: LLMDiffAdapter, prompts: list[str]) -> Encoding:
    tokens = tokenize(adapter.llm, prompts, adapter.config.reading)
    start, stack = extract_stack(adapter.llm, tokens, adapter.config.reading)
    return Encoding(adapter.text_encoding(start, stack, tokens.kept), tokens.kept)


def gradients(adapter: LLMDiffAdapter, unet: torch.nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    sample, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, CONTEXT_WIDTH)
    adapter.zero_grad()
    with adapter.conditioned(training_encoding(adapter, ["a cup", "a longer prompt"])):
        loss = unet(sample, 5, encoder_hidden_states=text).sample.square().mean()
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
    assert all(p.grad is None for name, p in sd.unet.named_parameters() if ".llmdiff." not in name)
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


def test_two_backward_passes_in_one_binding(sd, make_adapter, mode):
    """Gradient accumulation over denoiser calls of one binding: φ is run anew for each."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    train_mode(adapter, sd.unet)
    with adapter.conditioned(adapter.encode(["a cup"])):
        for _ in range(2):
            sd.unet(torch.ones(1, 4, 8, 8), 5, torch.zeros(1, 4, CONTEXT_WIDTH)).sample.sum().backward()
    assert all(p.grad is not None for p in adapter.branches.parameters())


def test_training_brings_the_picture_closer_to_its_target(sd, make_adapter, mode):
    adapter = make_adapter(sd, mode=mode).attach(sd)
    train_mode(adapter, sd.unet)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    torch.manual_seed(1)
    sample, target, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 5, CONTEXT_WIDTH)
    losses = []
    for _ in range(15):
        with adapter.conditioned(training_encoding(adapter, ["a cup", "blue"])):
            loss = (sd.unet(sample, 5, encoder_hidden_states=text).sample - target).square().mean()
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
