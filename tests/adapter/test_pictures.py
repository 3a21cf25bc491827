"""What an adapter does to pictures, through the stock call of real pipelines."""

import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
)
from safetensors.torch import load_file
from torch import Tensor

from adapter.changes import IMAGE, distance, load_ip_adapter, sibling
from adapter.families import FAMILIES
from adapter.tiny import CONTEXT_WIDTH, build_pixart, build_sd, build_sdxl, draw, perturb
from llmdiff.adapter.conditioning import split

SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpm": DPMSolverMultistepScheduler}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_untrained_adapter_a_dial_at_zero_and_a_detached_one_are_the_base_model(sd, make_adapter, scheduler):
    sd.scheduler = SCHEDULERS[scheduler].from_config(sd.scheduler.config)
    base = draw(sd)
    adapter = make_adapter(sd).attach(sd)
    assert torch.equal(draw(sd), base)
    perturb(adapter)
    assert distance(draw(sd), base) > 1e-2
    adapter.scale = 0
    assert torch.equal(draw(sd), base)
    adapter.scale = 1
    adapter.detach()
    assert torch.equal(draw(sd), base)


def test_the_scale_multiplies_the_gate(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    adapter.scale = 0.5
    halved = draw(sd)
    adapter.scale = 1
    assert distance(draw(sd), halved) > 1e-3
    for branch in adapter.named_branches().values():
        branch.gate.a2.data *= 0.5
    assert torch.allclose(draw(sd), halved, atol=1e-5)


def test_a_small_turn_of_the_dial_is_a_small_change(sd, make_adapter):
    adapter = perturb(make_adapter(sd), size=0.1).attach(sd)
    pictures = []
    for adapter.scale in (0, 1e-4, 1e-3):
        pictures.append(draw(sd))
    assert 0 < distance(pictures[0], pictures[1]) < distance(pictures[0], pictures[2]) < 0.05


def test_prompts_of_a_batch_do_not_touch_each_other(sd, make_adapter, mode):
    """Each picture of a batch is the one that its prompt gives alone, whatever the length of its neighbours."""
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    prompts = ["a", "a much longer prompt"]
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    together = draw(sd, prompts, latents=noise)
    for i, prompt in enumerate(prompts):
        assert torch.allclose(draw(sd, prompt, latents=noise[i : i + 1])[0], together[i], atol=1e-4)


def test_pictures_per_prompt_are_grouped_by_prompt(sd, make_adapter, mode):
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).expand(4, -1, -1, -1)
    grouped = draw(sd, ["a cup", "blue"], num_images_per_prompt=2, latents=noise)
    plain = draw(sd, ["a cup", "a cup", "blue", "blue"], latents=noise)
    assert torch.allclose(grouped, plain, atol=1e-5)
    assert distance(grouped[0], grouped[2]) > 1e-2


def test_guidance_reads_the_negative_prompt_for_the_first_half(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    assert distance(draw(sd, negative_prompt="blue"), draw(sd)) > 1e-3
    assert torch.equal(draw(sd, negative_prompt=""), draw(sd))
    assert torch.equal(draw(sd, guidance_scale=1.0, negative_prompt="blue"), draw(sd, guidance_scale=1.0))
    seen: list[Tensor] = []
    layer = next(iter(adapter.named_branches().values()))
    layer.key.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    draw(sd, ["a cup", "red"], negative_prompt=["x", "yyyyyyyyyyyy"])
    expected = adapter.encode(["x", "yyyyyyyyyyyy", "a cup", "red"])
    assert torch.allclose(seen[0], expected.pad(seen[0].shape[1]).embeds, atol=1e-6)


def test_guidance_can_end_in_mid_run(sd, make_adapter, mode):
    def stop_guidance(pipe, step, timestep, kwargs):
        if step == 0:
            pipe._guidance_scale = 1.0
            kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[-1]
        return kwargs

    def run():
        return draw(
            sd, callback_on_step_end=stop_guidance, callback_on_step_end_tensor_inputs=["prompt_embeds", "latents"]
        )

    base = run()
    sizes: list[int] = []
    sd.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    assert distance(run(), base) > 1e-3
    assert sizes == [2, 1]


def test_replace_mode_needs_no_text_encoder(sd, make_adapter):
    perturb(make_adapter(sd, mode="replace")).attach(sd)
    before = draw(sd, "a red cup", negative_prompt="blue")
    sd.text_encoder = sd.tokenizer = None
    assert torch.equal(draw(sd, "a red cup", negative_prompt="blue"), before)


def test_replace_mode_without_its_new_branch_still_reads_the_prompt_through_phi(sd, make_adapter):
    adapter = perturb(make_adapter(sd, mode="replace")).attach(sd)
    adapter.scale = 0
    assert distance(draw(sd, "a red cup"), draw(sd, "blue")) > 1e-3


def test_the_pipeline_gets_the_text_features_of_its_mode(sd, make_adapter, mode):
    """Those of the text encoder or, in replace mode, φ(c) with zeros at padding; behind them the encoding."""
    arguments = {"device": "cpu", "num_images_per_prompt": 2, "do_classifier_free_guidance": True}
    original = sd.encode_prompt(["a cup"], **arguments)
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    positive, negative = sd.encode_prompt(["a cup"], **arguments)
    if mode == "augment":
        assert torch.equal(positive[..., :CONTEXT_WIDTH], original[0])
        assert torch.equal(negative[..., :CONTEXT_WIDTH], original[1])
    else:
        both = adapter.text(adapter.encode(["a cup", ""]).pad(77)).prompt_embeds
        assert torch.allclose(positive[..., :CONTEXT_WIDTH], both[[0, 0]])
        assert torch.allclose(negative[..., :CONTEXT_WIDTH], both[[1, 1]])
        assert negative[:, -1].abs().max() == 0
    c = split(torch.cat([positive, negative]), CONTEXT_WIDTH, adapter.llm.width)[1]
    expected = adapter.encode(["a cup", ""]).repeat_interleave(2)
    assert torch.equal(c, expected.pad(c.shape[1]).embeds)


def test_sdxl_in_augment_mode(make_adapter):
    pipe = build_sdxl()
    base = draw(pipe)
    adapter = make_adapter(pipe).attach(pipe)
    assert len(adapter.named_branches()) == 8
    assert torch.equal(draw(pipe), base)
    perturb(adapter)
    assert distance(draw(pipe, negative_prompt="blue"), draw(pipe)) > 1e-3


def test_pixart_in_augment_mode(make_adapter):
    pipe = build_pixart()
    options = {"use_resolution_binning": False, "max_sequence_length": 8, "clean_caption": False}
    base = draw(pipe, **options)
    adapter = make_adapter(pipe).attach(pipe)
    assert all(shape.normalise_query for shape in adapter.config.base.layers.values())
    assert torch.equal(draw(pipe, **options), base)
    perturb(adapter)
    assert distance(draw(pipe, negative_prompt="blue", **options), draw(pipe, **options)) > 1e-4


def test_img2img_that_shares_the_denoiser(sd, make_adapter):
    other = StableDiffusionImg2ImgPipeline(**sd.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)

    def redraw():
        generator = torch.Generator().manual_seed(0)
        options = {"strength": 0.9, "num_inference_steps": 2, "output_type": "latent"}
        return other("a cup", image=torch.zeros(1, 3, 16, 16), generator=generator, **options).images

    base = redraw()
    adapter = perturb(make_adapter(sd)).attach(sd).attach(other)
    assert distance(redraw(), base) > 1e-3
    adapter.detach()
    assert torch.equal(redraw(), base)


def test_controlnet_beside_it(sd, make_adapter, mode):
    controlnet = ControlNetModel.from_unet(sd.unet, conditioning_embedding_out_channels=(4, 8)).eval()
    pipe = StableDiffusionControlNetPipeline(**sd.components, controlnet=controlnet, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    base = draw(pipe, image=torch.zeros(1, 3, 16, 16))
    perturb(make_adapter(pipe, mode=mode)).attach(pipe)
    assert distance(draw(pipe, image=torch.zeros(1, 3, 16, 16)), base) > 1e-3


@pytest.mark.parametrize("family", ["SD 1.x", "SDXL", "Sana"])
@pytest.mark.parametrize("before", [True, False])
def test_a_controlnet_attends_no_padding_in_replace_mode(make_adapter, family, before):
    """Also one in a pipeline that is attached beside another."""
    family = FAMILIES[family]
    pipe = family.build()
    controlled = sibling("controlnet")(family, pipe)
    adapter = perturb(make_adapter(pipe, mode="replace"))
    adapter.attach(controlled) if before else adapter.attach(pipe).attach(controlled)
    prompts = ["a", "a much longer prompt"]
    noise = torch.randn_like(family.draw(controlled, prompts, **family.control))
    together = family.draw(controlled, prompts, latents=noise, **family.control)
    alone = family.draw(controlled, prompts[0], latents=noise[:1], **family.control)
    assert torch.allclose(alone[0], together[0], atol=1e-3)
    adapter.attach(pipe)
    assert distance(together[0], family.draw(pipe, prompts[0], latents=noise[:1])) > 1e-3
    net = controlled.controlnet
    adapter.detach()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


def test_attention_slicing_and_the_default_processor_after_attach(sd, make_adapter, mode):
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    before = draw(sd)
    sd.enable_attention_slicing(1)
    assert torch.allclose(draw(sd), before, atol=1e-4)
    sd.unet.set_default_attn_processor()
    assert torch.allclose(draw(sd), before, atol=1e-4)


def test_widths_are_read_off_the_base(make_adapter):
    pipe = build_sd(cross_attention_dim=10, block_out_channels=(4, 12), attention_head_dim=(2, 3))
    pipe.text_encoder = None
    adapter = perturb(make_adapter(pipe, mode="replace")).attach(pipe)
    assert {shape.context for shape in adapter.config.base.layers.values()} == {10}
    assert draw(pipe).isfinite().all()


def test_an_ip_adapter_loaded_after_it(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    plain = draw(sd)
    load_ip_adapter(sd)
    sd.set_ip_adapter_scale(0.0)
    assert torch.allclose(draw(sd, **IMAGE), plain, atol=1e-5)
    sd.set_ip_adapter_scale(1.0)
    with_image = draw(sd, **IMAGE)
    assert distance(with_image, plain) > 1e-3
    assert distance(draw(sd, "blue", **IMAGE), with_image) > 1e-3
    adapter.detach()


def test_sequential_offload_after_attach(sd, make_adapter, mode, tmp_path):
    """The branches are no part of the denoiser, so that its adapter can be saved all the same."""
    adapter = perturb(make_adapter(sd, mode=mode)).attach(sd)
    before = draw(sd)
    cpu_offload(sd.unet, "cpu")
    assert torch.equal(draw(sd), before)
    adapter.save_pretrained(tmp_path)
    assert load_file(tmp_path / "adapter.safetensors").keys() == adapter.state_dict().keys()


def test_layerwise_casting_and_group_offload_after_attach(sd, make_adapter, mode):
    perturb(make_adapter(sd, mode=mode)).attach(sd)
    before, cpu = draw(sd), torch.device("cpu")
    sd.unet.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    assert torch.equal(draw(sd), before)
    sd.unet.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    assert torch.allclose(draw(sd), before, atol=0.05)


def test_a_compiled_denoiser_has_no_graph_break_and_settles(make_adapter):
    """One graph for the first length of prompt, one for any other; none for a new prompt or a step."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    pipe = build_sd(
        block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",)
    )
    perturb(make_adapter(pipe)).attach(pipe)
    prompts = ["a blue cup", "a red ball on a table", "two", "a red ball"]
    expected = [draw(pipe, prompt) for prompt in prompts]
    torch._dynamo.reset()
    pipe.unet = torch.compile(pipe.unet, backend=backend, fullgraph=True)
    counts = []
    for prompt, picture in zip(prompts, expected, strict=True):
        assert torch.allclose(draw(pipe, prompt), picture, atol=1e-5)
        counts.append(len(graphs))
    assert counts[1] == counts[2] == counts[3]
