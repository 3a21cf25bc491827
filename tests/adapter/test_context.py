"""When an adapter takes part: what its hooks read, and where they leave the base model alone."""

import copy

import torch
from llmdiff.adapter.context import Context

from adapter.tiny import CONTEXT_WIDTH, perturb

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2"


@torch.no_grad()
def test_without_rows_to_read_every_hook_leaves_the_base_model_alone(sd, make_adapter, mode):
    """Asleep, with the dial of augment mode at 0, and where nothing is bound; also after a call that had rows."""
    text, image = torch.randn(2, 5, CONTEXT_WIDTH), torch.randn(2, 9, 16)
    layer = sd.unet.get_submodule(LAYER)

    def predict():
        return sd.unet(torch.ones(2, 4, 8, 8), 1, text).sample

    base, of_layer = predict(), layer(image, text)
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    assert torch.equal(layer(image, text), of_layer)
    with adapter.conditioned(adapter.encode(["a red cup", "blue"])):
        adapted = predict()
        assert not torch.equal(adapted, base)
        with adapter.asleep():
            assert torch.equal(predict(), base)
        adapter.scale = 0
        assert torch.equal(predict(), base) == (mode == "augment")
        adapter.scale = 1
        assert torch.equal(predict(), adapted)
    adapter.release()
    assert torch.equal(layer(image, text), of_layer)


def test_a_copy_carries_mode_and_dial_alone():
    context = Context("augment", 0.5)
    context.asleep, context.binding = True, object()
    twin = copy.deepcopy(context)
    assert vars(twin) == vars(Context("augment", 0.5))
