"""What is taken from the inside of diffusers and torch is still there: a test for each, which fails when it is not."""

import inspect

import accelerate
import diffusers
import peft
import pytest
import torch
from diffusers import ModelMixin
from torch import nn
from torch.utils.checkpoint import checkpoint

from adapter.tiny import build_pixart, build_sana, build_sd, build_sdxl
from llmdiff.base.diffusers_internals import (
    ATTENTION_ARGUMENTS,
    base_layer,
    blocks_of,
    compute_dtype,
    first_parameter,
    is_cross_attention,
    is_in_backward,
    is_offloaded,
    normalises_query,
    position_of,
    projections,
    register_shared_hook,
    result_names,
    unwrap,
    visible_weight,
)
from llmdiff.base.layers import find_layers
from llmdiff.errors import LLMDiffError

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2"


def pipelines() -> list[type]:
    """The pipelines of diffusers that have a denoiser and encode prompts."""
    found = []
    for name in dir(diffusers):
        kind = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
        if inspect.isclass(kind) and "dummy" not in kind.__module__ and hasattr(kind, "encode_prompt"):
            parameters = inspect.signature(kind.__init__).parameters
            if {"unet", "transformer"} & set(parameters):
                found.append(kind)
    return found


@pytest.mark.slow
def test_every_pipeline_names_what_its_encode_prompt_returns():
    """Those with a U-Net return text features first, then those of the negative prompt, where there is guidance."""
    kinds = pipelines()
    assert len(kinds) > 150
    for kind in kinds:
        names = result_names(kind.encode_prompt)
        assert len(set(names)) == len(names), kind
        if "negative_prompt_embeds" in names:
            assert names.index("prompt_embeds") < names.index("negative_prompt_embeds"), kind


def test_results_are_named_in_their_order():
    pooled = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    masks = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
    assert result_names(build_sd().encode_prompt) == ("prompt_embeds", "negative_prompt_embeds")
    assert result_names(build_sdxl().encode_prompt) == ("prompt_embeds", "negative_prompt_embeds", *pooled)
    assert result_names(build_pixart().encode_prompt) == result_names(build_sana().encode_prompt) == masks


def test_results_without_names_are_refused():
    def of_a_list(prompt):
        return [prompt]

    def of_two_kinds(prompt):
        if prompt:
            return prompt, None
        positive = negative = None
        return positive, negative

    for encode in (of_a_list, of_two_kinds, len):
        with pytest.raises(LLMDiffError, match="encode_prompt"):
            result_names(encode)


@pytest.mark.parametrize("build", [build_sd, build_sdxl, build_pixart, build_sana])
def test_attention_layers_take_their_arguments_in_the_order_that_is_known(build):
    pipe = build()
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    for path, layer in find_layers(denoiser).items():
        names = list(inspect.signature(layer.forward).parameters)
        assert tuple(names[:3]) == ATTENTION_ARGUMENTS, path
        assert set(projections(layer)) == {("to_q",), ("to_k",), ("to_v",), ("to_out.0",)}
    assert position_of(denoiser, "encoder_hidden_states") is not None
    assert first_parameter(denoiser) in ("sample", "hidden_states")
    assert position_of(denoiser, "there is none") is None


def test_blocks_normalise_their_queries_or_not():
    unet, pixart = build_sd().unet, build_pixart().transformer
    assert normalises_query(unet.get_submodule(LAYER.rpartition(".")[0]))
    assert not any(normalises_query(block) for block in pixart.transformer_blocks)
    assert is_cross_attention(unet.get_submodule(LAYER))
    assert not is_cross_attention(unet.get_submodule(LAYER.replace("attn2", "attn1")))


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module


def test_wrappers_come_off():
    unet = build_sd().unet
    assert isinstance(unet, ModelMixin)
    wrapped = [unet, Wrapper(unet), Wrapper(Wrapper(unet)), torch.compile(unet), nn.DataParallel(unet)]
    assert all(unwrap(one) is unet for one in wrapped)
    plain = nn.Linear(1, 1)
    assert unwrap(plain) is plain


def test_offloading_leaves_traces():
    plain, by_layers, by_groups, by_models = (build_sd() for _ in range(4))
    accelerate.cpu_offload(by_layers.unet, "cpu")
    cpu = torch.device("cpu")
    by_groups.unet.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    by_models.enable_model_cpu_offload(device="cpu")
    assert [is_offloaded(pipe.unet) for pipe in (plain, by_layers, by_groups, by_models)] == [False, True, True, False]


def test_a_lora_of_peft_wraps_the_layer():
    unet = build_sd().unet
    own = unet.get_submodule(LAYER).to_q
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    wrapped = unet.get_submodule(LAYER).to_q
    assert wrapped is not own
    assert base_layer(wrapped) is own
    assert visible_weight(wrapped) is own.weight
    assert visible_weight(own.to("meta")) is None


def test_the_dtype_of_computation_is_told_from_that_of_storage():
    unet = build_sd().unet
    assert compute_dtype(unet) == torch.float32
    unet.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    assert unet.get_submodule(LAYER).to_q.weight.dtype == torch.float16
    assert compute_dtype(unet) == torch.float32


def test_a_backward_pass_is_seen_where_layers_run_again():
    seen = []

    def layer(x):
        seen.append(is_in_backward())
        return x.exp()

    checkpoint(layer, torch.ones(1, requires_grad=True), use_reentrant=False).sum().backward()
    assert seen == [False, True]
    assert not is_in_backward()


def test_a_shared_hook_runs_once_and_goes():
    module, seen = nn.Linear(1, 1), []
    handle = register_shared_hook(module, lambda *_: seen.append(1))
    module(torch.ones(1))
    handle.remove()
    module(torch.ones(1))
    assert seen == [1]


def test_a_classic_pipeline_has_no_blocks():
    assert blocks_of(build_sd()) is None
