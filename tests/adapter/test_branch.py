"""The equation of docs/method.md section 3, against loops over images, heads and tokens in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adapter.tiny import CONTEXT_WIDTH, build_sd, perturb
from llmdiff.adapter.branch import Branch
from llmdiff.adapter.conditioning import Rows
from llmdiff.base import LayerShape
from llmdiff.language import Encoding

SHAPE = LayerShape(query=8, inner=12, heads=3, context=CONTEXT_WIDTH)


def slow_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(N, I), (S, I), (S, I) to (N, I), one head, one image token and one text token at a time."""
    size = query.shape[1] // heads
    result = torch.zeros_like(query)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for n in range(len(query)):
            scores = [float(query[n, part] @ key[s, part]) / math.sqrt(size) for s in range(len(key))]
            total = sum(math.exp(score) for score in scores)
            for s, score in enumerate(scores):
                result[n, part] += math.exp(score) / total * value[s, part]
    return result


def slow_layer(adapter, layer, branch, image: Tensor, encoding: Encoding, text: Tensor) -> Tensor:
    """f of docs/method.md section 3 for every row, without any padding."""
    rows = []
    for q, c, mask, original in zip(image, encoding.embeds, encoding.mask, text, strict=True):
        c = c[mask]
        own_text = original if adapter.phi is None else c @ adapter.phi.weight.T + adapter.phi.bias
        own = slow_attention(q @ layer.to_q.weight.T, own_text @ layer.to_k.weight.T, own_text @ layer.to_v.weight.T, 4)
        new = slow_attention(q @ branch.query.weight.T, c @ branch.key.weight.T, c @ branch.value.weight.T, 4)
        gate = branch.gate
        first = 1.0 if gate.a1 is None else gate.a1 * gate.b1.exp()
        out = layer.to_out[0]
        rows.append(own @ out.weight.T * first + new @ out.weight.T * gate.a2 * gate.b2.exp() + out.bias)
    return torch.stack(rows)


@torch.no_grad()
def test_every_layer_computes_the_equation(make_adapter, mode):
    pipe = build_sd(attention_head_dim=4)
    pipe.unet.double()
    adapter = perturb(make_adapter(pipe, mode=mode)).attach(pipe).double()
    encoding = adapter.encode(["a cup", "a longer prompt"])
    text = torch.randn(2, 5, CONTEXT_WIDTH, dtype=torch.float64)
    seen = {}
    for path in adapter.named_branches():
        layer = pipe.unet.get_submodule(path)
        layer.register_forward_hook(lambda _, args, out, path=path: seen.update({path: (args[0], out)}))
    joined = adapter.condition(encoding, text)
    pipe.unet(torch.randn(2, 4, 8, 8, dtype=torch.float64), 5, encoder_hidden_states=joined)
    assert len(seen) == 4
    for path, branch in adapter.named_branches().items():
        image, output = seen[path]
        expected = slow_layer(adapter, pipe.unet.get_submodule(path), branch, image, encoding, text)
        assert torch.allclose(output, expected, rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 5), padding=st.integers(1, 6), junk=st.sampled_from([0.0, 1e4]), seed=st.integers(0, 99))
def test_padding_never_takes_part(tokens, padding, junk, seed):
    torch.manual_seed(seed)
    branch, image, embeds = Branch(SHAPE, 10, "augment"), torch.randn(1, 6, 8), torch.randn(1, tokens, 10)
    mask = torch.arange(tokens + padding) < tokens
    padded = torch.cat([embeds, torch.full((1, padding, 10), junk)], 1)
    branch.gate.a2.data.fill_(1.0)
    alone, _ = branch(image, Rows(embeds, torch.ones(1, tokens, dtype=torch.bool)), 1.0)
    assert torch.allclose(branch(image, Rows(padded, mask[None]), 1.0)[0], alone, atol=1e-5)


def test_a_row_without_tokens_adds_exactly_nothing():
    rows = Rows(torch.zeros(2, 3, 10), torch.tensor([[False] * 3, [True] * 3]))
    attended, _ = Branch(SHAPE, 10, "replace")(torch.randn(2, 6, 8), rows, 1.0)
    assert torch.equal(attended[0], torch.zeros(6, 12))


@pytest.mark.parametrize("normalise", [True, False])
def test_queries_are_normalised_where_the_denoiser_does_not(normalise):
    branch = Branch(SHAPE.model_copy(update={"normalise_query": normalise}), 10, "replace")
    image, rows = torch.randn(1, 6, 8), Rows(torch.randn(1, 4, 10), torch.ones(1, 4, dtype=torch.bool))
    same = torch.allclose(branch(image, rows, 10.0)[0], branch(image * 100 + 5, rows, 10.0)[0], atol=1e-3)
    assert same == normalise


@torch.no_grad()
def test_keys_and_values_are_computed_once_without_gradient_and_freshly_with_it():
    branch, image = Branch(SHAPE, 10, "augment"), torch.randn(1, 6, 8)
    rows = Rows(torch.randn(1, 4, 10), torch.ones(1, 4, dtype=torch.bool))
    calls = []
    branch.key.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(branch(image, rows, 1.0)[0], branch(image, rows, 1.0)[0])
    assert len(calls) == 1
    with torch.enable_grad():
        assert branch(image, rows, 1.0)[0].requires_grad
    assert len(calls) == 2


@torch.no_grad()
@pytest.mark.parametrize("change", ["scale", "weight", "gate", "dtype"])
def test_keys_and_values_of_other_weights_are_not_read(change):
    branch, image = Branch(SHAPE, 10, "replace"), torch.randn(1, 6, 8)
    rows = Rows(torch.randn(1, 4, 10), torch.ones(1, 4, dtype=torch.bool))
    before, scale = branch(image, rows, 1.0)[0], 1.0
    if change == "scale":
        scale = 2.0
    elif change == "weight":
        branch.value.weight.mul_(2)
    elif change == "gate":
        branch.gate.load_state_dict(branch.gate.state_dict() | {"a2": torch.tensor(0.2)})
    else:
        branch.double()
        image, rows = image.double(), rows
    factor = 1.0 if change == "dtype" else 2.0
    assert torch.allclose(branch(image, rows, scale)[0].float(), factor * before, atol=1e-5)


@torch.no_grad()
def test_a_lora_on_the_output_projection_takes_part_and_the_bias_counts_once(sd, make_adapter):
    """The branch leaves through the layer's projection as it runs, wrapped or fused alike."""

    class Wrapped(nn.Module):
        def __init__(self, base: nn.Linear, delta: Tensor) -> None:
            super().__init__()
            self.base_layer, self.delta = base, delta

        def forward(self, x: Tensor) -> Tensor:
            return self.base_layer(x) + x @ self.delta.T

    adapter = perturb(make_adapter(sd)).attach(sd)
    encoding, text = adapter.encode(["a cup"]), torch.randn(1, 5, CONTEXT_WIDTH)
    outputs = []
    layer = sd.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")
    base = layer.to_out[0]
    delta = torch.randn_like(base.weight)
    layer.to_out[0] = Wrapped(base, delta)
    joined = adapter.condition(encoding, text)
    outputs.append(sd.unet(torch.ones(1, 4, 8, 8), 5, joined).sample)
    layer.to_out[0] = base
    base.weight += delta
    outputs.append(sd.unet(torch.ones(1, 4, 8, 8), 5, joined).sample)
    assert torch.allclose(*outputs, atol=1e-5)
