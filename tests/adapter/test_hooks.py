"""When an adapter takes part in a call of the denoiser, and where it leaves the base model alone."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from adapter.tiny import CONTEXT_WIDTH, draw, perturb
from llmdiff.adapter.hooks import Conditioner
from llmdiff.errors import LLMDiffError

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2"


@torch.no_grad()
def test_without_rows_to_read_every_hook_leaves_the_base_model_alone(sd, make_adapter, mode):
    """Disabled, with the dial of augment mode at 0, and for a layer that is called outside a call of the denoiser."""
    text, image = torch.randn(2, 5, CONTEXT_WIDTH), torch.randn(2, 9, 16)
    layer = sd.unet.get_submodule(LAYER)

    def predict(features):
        return sd.unet(torch.ones(2, 4, 8, 8), 1, features).sample

    base, of_layer = predict(text), layer(image, text)
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    assert torch.equal(layer(image, text), of_layer)
    joined = adapter.condition(adapter.encode(["a red cup", "blue"]), text)
    adapted = predict(joined)
    assert not torch.equal(adapted, base)
    with adapter.disable_adapter():
        assert torch.equal(predict(text), base)
        assert torch.equal(predict(joined), base) == (mode == "augment")
    adapter.scale = 0
    assert torch.equal(predict(joined), base) == (mode == "augment")
    adapter.scale = 1
    assert torch.equal(predict(joined), adapted)
    assert torch.equal(layer(image, text), of_layer)


@torch.no_grad()
def test_nothing_is_left_of_a_call_that_failed(sd, make_adapter, mode):
    text, image = torch.randn(1, 5, CONTEXT_WIDTH), torch.randn(1, 9, 16)
    layer = sd.unet.get_submodule(LAYER)
    of_layer = layer(image, text)
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)

    def fail(*_):
        raise RuntimeError("in the middle of a call")

    handle = layer.to_q.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        draw(sd)
    handle.remove()
    assert torch.equal(layer(image, text), of_layer)
    if mode == "augment":
        adapter.detach()
        base = sd.unet(torch.ones(1, 4, 8, 8), 1, text).sample
        adapter.attach(sd)
        assert torch.equal(sd.unet(torch.ones(1, 4, 8, 8), 1, text).sample, base)


@torch.no_grad()
@pytest.mark.parametrize("by_name", [True, False])
def test_text_is_found_by_name_and_by_place(sd, make_adapter, by_name):
    adapter = perturb(make_adapter(sd)).attach(sd)
    joined = adapter.condition(adapter.encode(["a cup"]), torch.randn(1, 5, CONTEXT_WIDTH))
    sample = torch.ones(1, 4, 8, 8)
    expected = sd.unet(sample, 1, joined).sample
    if by_name:
        found = sd.unet(encoder_hidden_states=joined, timestep=1, sample=sample)
    else:
        found = sd.unet(sample, 1, joined, None)
    assert torch.equal(found.sample, expected)


def test_a_forward_that_names_no_parameters_is_no_obstacle(sd, make_adapter, mode):
    """Libraries put functions in its place that take anything."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    expected, own = draw(sd), sd.unet.forward
    sd.unet.forward = lambda *args, **kwargs: own(*args, **kwargs)
    assert torch.equal(draw(sd), expected)
    adapter.detach()
    adapter.attach(sd)
    assert torch.equal(draw(sd), expected)


@torch.no_grad()
def test_layers_that_are_given_a_part_of_the_rows_are_refused(sd, make_adapter, mode):
    """They could not tell which rows they have."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    block = sd.unet.mid_block.attentions[0]
    own = block.forward

    def halves(hidden, encoder_hidden_states, **kwargs):
        parts = zip(hidden.chunk(2), encoder_hidden_states.chunk(2), strict=True)
        return (torch.cat([own(one, encoder_hidden_states=text, **kwargs)[0] for one, text in parts]),)

    block.forward = halves
    joined = adapter.condition(adapter.encode(["a cup", "blue"]), torch.zeros(2, 5, CONTEXT_WIDTH))
    with pytest.raises(LLMDiffError, match="given 1 rows in a call of 2: switch off what splits"):
        sd.unet(torch.ones(2, 4, 8, 8), 1, joined)


def test_a_copy_of_what_hooks_share_has_its_dial_and_no_call():
    conditioner = Conditioner("augment", 3, 5)
    conditioner.scale = 0.5
    with torch.no_grad():
        conditioner.start(torch.randn(1, 2, 8), torch.zeros(1, 4, 8, 8))
    for twin in (copy.deepcopy(conditioner), pickle.loads(pickle.dumps(conditioner))):
        assert (twin.mode, twin.scale, twin.text_width, twin.encoding_width) == ("augment", 0.5, 3, 5)
        assert twin.call is None
    assert conditioner.call is not None


def test_calls_with_gradients_leave_no_memory_behind(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    joined = adapter.condition(adapter.encode(["a cup"]), torch.zeros(1, 5, CONTEXT_WIDTH))
    sd.unet(torch.ones(1, 4, 8, 8), 1, joined).sample.sum().backward()
    alive = weakref.ref(joined)
    calls = adapter._conditioner._recomputed
    del joined
    gc.collect()
    assert alive() is None
    assert len(calls) == 0
