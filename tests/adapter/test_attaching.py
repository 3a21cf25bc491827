"""Attach and detach: what they change, what they leave, and what they refuse."""

import copy
import pickle

import accelerate
import pytest
import torch

from adapter.tiny import CONTEXT_WIDTH, build_kandinsky3, build_sd, build_sdxl, draw, perturb
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding


def fingerprint(pipe) -> tuple:
    """Everything that attach touches."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in pipe.unet.modules()]
    return [name for name, _ in pipe.unet.named_modules()], hooks, sorted(vars(pipe)), sorted(pipe.unet.state_dict())


def test_detach_leaves_nothing_behind(sd, make_adapter, mode):
    before = fingerprint(sd)
    adapter = make_adapter(sd, mode=mode).attach(sd)
    assert fingerprint(sd) != before
    adapter.detach()
    assert fingerprint(sd) == before
    adapter.detach()
    assert fingerprint(sd) == before


def test_attaching_twice_is_attaching_once(sd, make_adapter):
    adapter = perturb(make_adapter(sd)).attach(sd)
    picture, once = draw(sd), fingerprint(sd)
    assert adapter.attach(sd) is adapter
    assert fingerprint(sd) == once
    assert torch.equal(draw(sd), picture)


def test_moving_to_another_pipeline_asks_for_detach(sd, make_adapter):
    other = build_sd(seed=1)
    untouched = fingerprint(other)
    adapter = make_adapter(sd).attach(sd)
    with pytest.raises(LLMDiffError, match="detach it first"):
        adapter.attach(other)
    assert fingerprint(other) == untouched
    adapter.detach()
    adapter.attach(other)


def test_a_second_adapter_is_refused_and_the_first_still_works(sd, make_adapter):
    perturb(make_adapter(sd)).attach(sd)
    picture, second = draw(sd), make_adapter(sd)
    with pytest.raises(LLMDiffError, match="has an adapter already"):
        second.attach(sd)
    assert torch.equal(draw(sd), picture)


def test_an_encode_prompt_wrapped_by_someone_else_survives(sd, make_adapter):
    wrapped = sd.encode_prompt
    sd.encode_prompt = wrapped
    adapter = make_adapter(sd).attach(sd)
    reader = sd.encode_prompt
    sd.encode_prompt = lambda *args, **kwargs: reader(*args, **kwargs)
    with pytest.raises(LLMDiffError, match="replaced after attach"):
        adapter.detach()
    sd.encode_prompt = reader
    adapter.detach()
    assert sd.encode_prompt is wrapped


def test_a_pipeline_without_encode_prompt_is_refused_and_left_alone(sd, make_adapter):
    class Bare:
        unet = sd.unet

    adapter, before = make_adapter(sd), fingerprint(sd)
    with pytest.raises(LLMDiffError, match="no encode_prompt"):
        adapter.attach(Bare())
    assert fingerprint(sd) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross_attention_dim": 40}, "down_blocks.0.attentions.0.transformer_blocks.0.attn2 has context 40, not 24"),
        ({"block_out_channels": (8, 24)}, "Layer mid_block.* has query 24, not 16"),
        ({"down_block_types": ("DownBlock2D",) * 2}, "no cross-attention layer down_blocks.0"),
        ({"down_block_types": ("CrossAttnDownBlock2D",) * 2}, "no branch for the cross-attention layer down_blocks.1"),
        ({"attention_head_dim": 4}, "has heads 4, not 2"),
    ],
)
def test_another_base_model_is_refused_by_its_first_difference(sd, make_adapter, changes, message):
    other = build_sd(**changes)
    before = fingerprint(other)
    with pytest.raises(LLMDiffError, match=message):
        make_adapter(sd).attach(other)
    assert fingerprint(other) == before


def test_no_denoiser_is_refused(make_adapter):
    with pytest.raises(LLMDiffError, match="no unet or transformer"):
        make_adapter(object())


def test_another_pooled_vector_is_refused(make_adapter):
    adapter, other = make_adapter(build_sdxl(), mode="replace"), build_sdxl()
    other.unet.register_to_config(projection_class_embeddings_input_dim=13 + 6 * 4)
    with pytest.raises(LLMDiffError, match="pooled vector of width 13, and the adapter makes 24 and 12"):
        adapter.attach(other)
    make_adapter(other).attach(other)


def test_other_text_features_are_refused_in_replace_mode_alone(make_adapter):
    """Kolors has the layers of SDXL, but projects its text features first."""
    sdxl, kolors = build_sdxl(), build_sdxl(encoder_hid_dim=9, encoder_hid_dim_type="text_proj")
    with pytest.raises(LLMDiffError, match=r"text features of width 9 .* makes 24"):
        make_adapter(sdxl, mode="replace").attach(kolors)
    make_adapter(sdxl).attach(kolors).detach()
    perturb(make_adapter(kolors, mode="replace")).attach(kolors)
    kolors.text_encoder = kolors.text_encoder_2 = None
    assert not torch.allclose(draw(kolors), draw(kolors, "blue"), atol=1e-3)


@pytest.mark.parametrize("change", [{"addition_embed_type": "image"}, {"encoder_hid_dim_type": "text_image_proj"}])
def test_a_denoiser_that_wants_more_of_the_text_is_refused_in_replace_mode(sd, make_adapter, change):
    sd.unet.register_to_config(**change)
    with pytest.raises(LLMDiffError, match="does more with its text"):
        make_adapter(sd, mode="replace")
    make_adapter(sd)


def test_kandinsky_3_is_joined_where_it_attends_to_text(make_adapter):
    """Its self-attention is made of layers that say they are cross-attention."""
    base = make_adapter(build_kandinsky3()).config.base
    assert base.text_width == 12
    assert {shape.context for shape in base.layers.values()} == {20}
    assert "down_blocks.1.attentions.1.attention" in base.layers
    assert "down_blocks.1.attentions.0.attention" not in base.layers


@pytest.mark.parametrize("change", [{"residual_connection": True}, {"rescale_output_factor": 2.0}])
def test_what_a_layer_does_behind_its_output_projection_does_not_matter(sd, make_adapter, change):
    vars(sd.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")).update(change)
    base = draw(sd)
    adapter = make_adapter(sd).attach(sd)
    assert torch.equal(draw(sd), base)
    assert not torch.allclose(draw(sd), draw(sd, "blue"), atol=1e-3)
    perturb(adapter)
    assert not torch.allclose(draw(sd), base, atol=1e-3)


def offload_by_accelerate(pipe):
    accelerate.cpu_offload(pipe.unet, "cpu")


def offload_by_groups(pipe):
    cpu = torch.device("cpu")
    pipe.unet.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")


@pytest.mark.parametrize("offload", [offload_by_accelerate, offload_by_groups])
def test_a_model_that_is_offloaded_layer_by_layer_is_refused(sd, make_adapter, offload):
    adapter = make_adapter(sd)
    offload(sd)
    before = fingerprint(sd)
    with pytest.raises(LLMDiffError, match="before enabling offloading"):
        adapter.attach(sd)
    assert fingerprint(sd) == before


def test_an_adapter_is_made_of_weights_that_are_there(sd, make_adapter):
    sd.unet.to("meta")
    with pytest.raises(LLMDiffError, match="quantised or offloaded"):
        make_adapter(sd)


def test_negative_prompts_must_match(sd, make_adapter, mode):
    make_adapter(sd, mode=mode).attach(sd)
    with pytest.raises(LLMDiffError, match="2 negative prompts for 1 prompts"):
        draw(sd, ["a cup"], negative_prompt=["a", "b"])


def test_embeddings_still_work_with_the_dial_at_zero(sd, make_adapter):
    embeds = torch.zeros(1, 4, CONTEXT_WIDTH)
    base = draw(sd, None, prompt_embeds=embeds, negative_prompt_embeds=embeds)
    adapter = perturb(make_adapter(sd)).attach(sd)
    adapter.scale = 0
    assert torch.equal(draw(sd, None, prompt_embeds=embeds, negative_prompt_embeds=embeds), base)


def test_turning_the_dial_up_in_mid_run_shows_the_runs_own_prompt(sd, make_adapter):
    base = draw(sd, "a cup", num_inference_steps=1)
    adapter = perturb(make_adapter(sd)).attach(sd)
    draw(sd, "blue")
    adapter.scale = 0

    def turn_up(pipe, step, timestep, kwargs):
        adapter.scale = 1
        return kwargs

    assert torch.equal(draw(sd, "a cup", num_inference_steps=1), base)
    after = draw(sd, "a cup", callback_on_step_end=turn_up)
    adapter.scale = 0
    draw(sd, "another prompt")
    assert torch.equal(draw(sd, "a cup", callback_on_step_end=turn_up), after)
    adapter.scale = 0
    assert not torch.allclose(draw(sd, "blue", callback_on_step_end=turn_up), after, atol=1e-4)


def test_a_denoiser_call_without_an_encoding_is_the_base_models_or_refused(sd, make_adapter, mode):
    sample, text = torch.ones(3, 4, 8, 8), torch.randn(3, 4, CONTEXT_WIDTH)
    base = sd.unet(sample, 1, text).sample
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    draw(sd, ["a", "b", "c"], guidance_scale=1.0)
    if mode == "augment":
        assert torch.equal(sd.unet(sample, 1, text).sample, base)
    else:
        with pytest.raises(LLMDiffError, match=r"carries no encoding: take prompt_embeds from encode_prompt"):
            sd.unet(sample, 1, text)


@torch.no_grad()
def test_junk_in_the_padding_of_an_encoding_goes_nowhere(sd, make_adapter, mode):
    """Not even values that are not finite, which a mask alone would let through: 0 times NaN is NaN."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    encoding = adapter.encode(["a", "a longer prompt"])
    junk = encoding.embeds.masked_fill(~encoding.mask[..., None], float("nan"))
    outputs = []
    for embeds in (encoding.embeds, junk):
        text = adapter.condition(Encoding(embeds, encoding.mask), torch.zeros(2, 4, CONTEXT_WIDTH))
        outputs.append(sd.unet(torch.ones(2, 4, 8, 8), 1, text).sample)
    assert torch.equal(*outputs)


def test_queries_start_as_a_copy_and_the_gates_where_the_mode_says(sd, make_adapter, mode):
    adapter = make_adapter(sd, mode=mode)
    for path, branch in adapter.named_branches().items():
        assert torch.equal(branch.query.weight, sd.unet.get_submodule(path).to_q.weight)
        gates = {name: round(scalar.item(), 6) for name, scalar in branch.gate.named_parameters()}
        assert gates == ({"a2": 0, "b2": 0} if mode == "augment" else {"a1": 1, "b1": 0, "a2": 0.1, "b2": 0})


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_the_scale_is_finite(sd, make_adapter, scale):
    with pytest.raises(LLMDiffError, match="finite"):
        make_adapter(sd).scale = scale


def test_values_that_are_not_finite_are_refused(sd, make_adapter):
    adapter = make_adapter(sd)
    adapter.text_encoding.g.data[0] = float("inf")
    with pytest.raises(LLMDiffError, match="not finite"):
        adapter.encode(["a cup"])


def test_the_adapter_follows_the_denoiser_but_not_where_it_is_precise(sd, make_adapter, mode):
    sd.unet.to(torch.bfloat16)
    sd.vae.to(torch.bfloat16)
    sd.text_encoder.to(torch.bfloat16)
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    assert {p.dtype for p in adapter.branches.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in adapter.text_encoding.parameters()} == {torch.float32}
    picture = draw(sd)
    assert picture.dtype == torch.bfloat16
    assert picture.isfinite().all()


def test_a_denoiser_can_be_copied_and_pickled_while_attached(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    draw(sd)
    text = adapter.condition(adapter.encode(["a cup"]), torch.zeros(1, 4, CONTEXT_WIDTH)).detach()
    sample = torch.ones(1, 4, 8, 8)
    predicted = sd.unet(sample, 1, text).sample  # with gradients, of which copies must know nothing
    for other in (copy.deepcopy(sd.unet), pickle.loads(pickle.dumps(sd.unet))):
        state = other.state_dict()
        assert all(torch.equal(weight, state[name]) for name, weight in sd.unet.state_dict().items())
        assert torch.equal(other(sample, 1, text).sample, predicted)


def test_the_base_model_and_the_llm_are_not_the_adapters_own(sd, make_adapter):
    adapter = make_adapter(sd).attach(sd)
    own = {id(parameter) for parameter in adapter.parameters()}
    assert own.isdisjoint(id(p) for p in adapter.llm.model.parameters())
    assert own.isdisjoint(id(p) for p in sd.unet.parameters())
