"""A LoRA that belongs to an adapter: drawn, trained, saved and detached with it, on every attention of the denoiser."""

import copy
import json
import pickle
import threading
from functools import partial

import pytest
import torch
from torch import Tensor

from adapter.case import Case
from adapter.changes import LORA, distance, load_lora
from adapter.families import AUGMENTED, FAMILIES
from adapter.features import FEATURES
from adapter.test_gradients import gradients, train_mode, training_encoding
from adapter.test_matrix import PICTURES
from adapter.threads import at_once
from adapter.tiny import CONTEXT_WIDTH, build_pixart, build_sana, build_sd, draw, perturb
from llmdiff.adapter import LLMDiffAdapter, LoRAConfig
from llmdiff.base import ImageModel
from llmdiff.base.layers import find_denoiser
from llmdiff.errors import LLMDiffError

RANK_2 = LoRAConfig(rank=2)
ALL = FAMILIES | AUGMENTED


def lora_alone(adapter: LLMDiffAdapter) -> LLMDiffAdapter:
    """Changes the LoRA as training would, and nothing else: in augment mode the branches add nothing yet."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for lora in adapter.named_loras().values():
            lora.up += 0.3 * torch.randn(lora.up.shape, generator=generator)
    return adapter


def merged(adapter: LLMDiffAdapter, denoiser: torch.nn.Module, scale: float = 1.0) -> None:
    """Adds ``up · down`` to the denoiser's own weights, as nothing here does."""
    with torch.no_grad():
        for path, lora in adapter.named_loras().items():
            denoiser.get_submodule(path).weight += scale * lora.up @ lora.down


@pytest.mark.parametrize("family", ALL)
def test_every_attention_projection_of_every_family_is_changed_as_if_its_weight_were(family, make_adapter):
    pipe, other = ALL[family].build(), ALL[family].build()
    adapter = lora_alone(make_adapter(pipe, lora=RANK_2))
    names = {n for n, m in find_denoiser(pipe).named_modules() if n.endswith(LORA)}
    assert adapter.named_loras().keys() == names
    merged(adapter, find_denoiser(other), scale=0.5)
    adapter.attach(pipe).scale = 0.5
    picture = ALL[family].draw(pipe, "a red cup")
    assert torch.allclose(picture, ALL[family].draw(other, "a red cup"), atol=2e-4)
    assert distance(picture, ALL[family].draw(ALL[family].build(), "a red cup")) > 1e-3


def test_an_untrained_one_is_the_base_bit_for_bit_and_so_are_all_ways_to_be_without_it(sd, make_adapter):
    base = draw(sd)
    adapter = make_adapter(sd, lora=RANK_2).attach(sd)
    assert torch.equal(draw(sd), base)
    lora_alone(adapter)
    assert distance(draw(sd), base) > 1e-3
    with adapter.disable_adapter():
        assert torch.equal(draw(sd), base)
    adapter.scale = 0
    assert torch.equal(draw(sd), base)
    adapter.scale = 1
    sibling = type(sd)(**sd.components, requires_safety_checker=False)
    sibling.set_progress_bar_config(disable=True)
    assert torch.equal(draw(sibling), base)
    hooks = lora_hooks(sd.unet)
    adapter.detach()
    assert torch.equal(draw(sd), base)
    assert hooks > 0 == lora_hooks(sd.unet)


def lora_hooks(module: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_scale_0_and_disabling_in_replace_mode(sd, make_adapter):
    """At scale 0 the layers still read φ(c), and nothing of branches or LoRA."""
    base = draw(sd)
    plain = perturb(make_adapter(sd, mode="replace")).attach(sd)
    plain.scale = 0
    without = draw(sd)
    plain.detach()
    adapter = make_adapter(sd, mode="replace", lora=RANK_2)
    adapter.load_state_dict(plain.state_dict(), strict=False)
    lora_alone(adapter).attach(sd)
    assert distance(draw(sd), without) > 1e-3
    adapter.scale = 0
    assert torch.equal(draw(sd), without)
    with adapter.disable_adapter():
        assert torch.equal(draw(sd), base)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("build", [build_sd, build_pixart])
def test_beside_a_lora_of_the_users(build, after, make_adapter):
    """Loaded before or after it, both take part; what walks the denoiser finds the user's alone."""
    pipe, other = build(), build()
    adapter = lora_alone(make_adapter(pipe, lora=RANK_2))
    merged(adapter, find_denoiser(other))
    load_lora(other)
    if after:
        adapter.attach(pipe)
    load_lora(pipe)
    adapter.attach(pipe)
    names = set(find_denoiser(other).state_dict())
    assert set(find_denoiser(pipe).state_dict()) == names
    assert all(parameter.shape[0] == 2 or parameter.shape[1] == 2 for parameter in adapter.lora.parameters())
    settings = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16}
    if build is build_pixart:
        settings |= {"use_resolution_binning": False, "max_sequence_length": 8, "clean_caption": False}
    pictures = [p("a red cup", generator=torch.Generator().manual_seed(7), **settings).images for p in (pipe, other)]
    assert torch.allclose(*pictures, atol=2e-4)
    adapter.detach()


def test_projections_that_others_put_in_place_between_calls(sd, make_adapter):
    """Each is found at the next call, and left at the end, whoever took it out."""
    adapter = lora_alone(make_adapter(sd, lora=RANK_2)).attach(sd)
    picture = draw(sd)
    attention = sd.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    first = attention.to_v
    attention.to_v = copy.deepcopy(first)
    attention.to_out[0] = copy.deepcopy(attention.to_out[0])
    for projection in (attention.to_v, attention.to_out[0]):
        projection._forward_hooks.clear()
        projection._forward_pre_hooks.clear()
    assert torch.equal(draw(sd), picture)
    assert not first._forward_hooks
    adapter.detach()
    assert lora_hooks(sd.unet) == 0


@pytest.mark.parametrize("fused", ["before", "after", "and again not"])
def test_fused_projections_take_it_along(fused, make_adapter):
    pipe = build_sd()
    adapter = lora_alone(make_adapter(pipe, lora=RANK_2))
    if fused == "before":
        pipe.fuse_qkv_projections(vae=False)
    adapter.attach(pipe)
    if fused != "before":
        picture = draw(pipe)
        pipe.fuse_qkv_projections(vae=False)
    if fused == "and again not":
        assert torch.allclose(draw(pipe), picture, atol=1e-5)
        pipe.unfuse_qkv_projections(vae=False)
    other = build_sd()
    merged(adapter, other.unet)
    assert torch.allclose(draw(pipe), draw(other), atol=1e-4)
    assert distance(draw(other), draw(build_sd())) > 1e-3


def test_of_fused_projections_those_that_it_does_not_change_stay(make_adapter):
    path = "mid_block.attentions.0.transformer_blocks.0"
    chosen = {f"{path}.attn1.to_k": (16, 16), f"{path}.attn2.to_v": (CONTEXT_WIDTH, 16)}
    pipe, other = build_sd(), build_sd()
    adapter = lora_alone(make_adapter(pipe, lora=LoRAConfig(rank=3, projections=chosen)))
    assert adapter.named_loras().keys() == chosen.keys()
    adapter.attach(pipe)
    pipe.fuse_qkv_projections(vae=False)
    merged(adapter, other.unet)
    assert torch.allclose(draw(pipe), draw(other), atol=1e-5)


def test_copies_keep_theirs(sd, make_adapter):
    adapter = lora_alone(make_adapter(sd, lora=RANK_2)).attach(sd)
    others = [copy.deepcopy(sd), pickle.loads(pickle.dumps(sd))]
    picture = draw(sd)
    adapter.detach()
    for other in others:
        other.set_progress_bar_config(disable=True)
        assert torch.equal(draw(other), picture)


def test_it_follows_the_denoisers_dtype_and_keeps_its_own_in_training(sd, make_adapter):
    adapter = lora_alone(make_adapter(sd, lora=RANK_2)).attach(sd)
    sd.to(torch.bfloat16)
    picture = draw(sd)
    assert picture.dtype == torch.bfloat16
    assert {p.dtype for p in adapter.lora.parameters()} == {torch.bfloat16}
    adapter.detach()
    pipe = build_sd()
    adapter = make_adapter(pipe, lora=RANK_2)
    list(adapter.trainable_parameters())
    adapter.attach(pipe)
    pipe.unet.half()
    adapter._attachment.place()
    assert {p.dtype for p in adapter.lora.parameters()} == {torch.float32}


def test_two_threads_have_the_lora_or_the_base_each(sd, make_adapter):
    """One draws with encodings, one without; a projection put in place meanwhile gets one hook and not two."""
    adapter = perturb(make_adapter(sd, lora=RANK_2)).attach(sd)
    text = torch.randn(1, 5, CONTEXT_WIDTH)
    joined = adapter.condition(adapter.encode(["a cup"]), text)
    sample = torch.randn(1, 4, 8, 8)

    @torch.no_grad()
    def run(given: Tensor) -> Tensor:
        return sd.unet(sample, 5, given).sample

    expected = {True: run(joined), False: run(text)}
    wrong: list[bool] = []

    def loop(conditioned: bool) -> None:
        for _ in range(40):
            if not torch.equal(run(joined if conditioned else text), expected[conditioned]):
                wrong.append(conditioned)

    at_once(*(partial(loop, conditioned) for conditioned in (True, False, True)))
    assert wrong == []


@pytest.mark.parametrize("build", [build_sd, build_pixart, build_sana])
@pytest.mark.parametrize("in_thread", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(build, in_thread, mode, make_adapter):
    """Also of a call without encoding beside it, and where the backward pass runs in another thread, as on a GPU."""
    pipe = build()
    adapter = perturb(make_adapter(pipe, mode=mode, lora=RANK_2), size=0.1).attach(pipe)
    model = ImageModel(pipe)
    train_mode(adapter, model.denoiser)

    def run(together: bool) -> tuple[dict[str, Tensor], Tensor]:
        adapter.zero_grad()
        latents = torch.ones(1, 4, 8, 8, requires_grad=True)
        losses = []
        for prompt, scale in (("a cup", 1.0), (None, 1.0), ("a longer prompt", 0.5)):
            adapter.scale = scale
            text = model.encode([prompt or "nothing"])
            if prompt is None:
                with adapter.disable_adapter():
                    predicted = model.predict(latents, torch.tensor([5]), text)
            else:
                inputs = adapter.denoiser_inputs(training_encoding(adapter, [prompt]), text)
                predicted = model.predict(latents, torch.tensor([5]), inputs)
            losses.append(predicted.square().mean())
            if not together:
                losses.pop().backward()
        if together:
            backward = threading.Thread(target=sum(losses).backward)
            (backward.start(), backward.join()) if in_thread else backward.run()
        return {name: p.grad.clone() for name, p in adapter.named_parameters() if p.grad is not None}, latents.grad

    expected, expected_latents = run(together=False)
    model.denoiser.enable_gradient_checkpointing()
    found, latents = run(together=True)
    assert {name for name, p in adapter.lora.named_parameters(prefix="lora") if p.requires_grad} <= found.keys()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max()), name
    assert torch.allclose(latents, expected_latents, rtol=1e-3, atol=1e-7)
    assert adapter._conditioner.call is None


def test_every_weight_of_a_trained_one_gets_a_gradient(sd, make_adapter, mode):
    adapter = perturb(make_adapter(sd, mode=mode, lora=RANK_2), size=0.1).attach(sd)
    train_mode(adapter, sd.unet)
    adapter.train()
    found = gradients(adapter, sd.unet)
    assert found.keys() == {name for name, _ in adapter.trainable_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_a_denoiser_without_its_projections_is_refused(make_adapter):
    pipe = build_sd()
    gone = {"mid_block.attentions.0.transformer_blocks.0.attn3.to_q": (16, 16)}
    other = {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (16, 8)}
    for projections, message in ((gone, r"attn3.to_q \(16 → 16\).*is not there"), (other, r"attn1.to_q.*is 16 → 16")):
        with pytest.raises(LLMDiffError, match=message):
            make_adapter(pipe, lora=LoRAConfig(projections=projections))
    adapter = make_adapter(pipe, lora=RANK_2)
    attention = pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    attention.to_q = torch.nn.Linear(16, 24)
    with pytest.raises(LLMDiffError, match=r"attn1.to_q.*is 16 → 24: take a base model of the family"):
        adapter.attach(pipe)
    assert lora_hooks(pipe.unet) == 0


FEATURES_BESIDE = [
    "controlnet", "lora before", "ip-adapter after", "batched prompts", "guidance ended mid-run", "attention slicing",
    "bfloat16", "model offload", "sequential offload", "two adapters", "saving while attached", "deep copy", "pickle",
]  # fmt: skip


@pytest.mark.parametrize("feature", [*FEATURES_BESIDE, pytest.param("torch.compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "family", ["SD 1.x", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Sana", "SDXL", "PixArt"))]
)
def test_beside_the_features_of_diffusers(family, feature, mode, make_adapter):
    """The checks of the matrix, of adapters with a LoRA."""
    if outcome := FAMILIES[family].lack(feature, mode, FEATURES[feature].needs):
        pytest.skip(outcome)
    case = Case(FAMILIES[family], mode, partial(make_adapter, lora=RANK_2))
    tried = FEATURES[feature]
    if tried.check is not None:
        tried.check(case)
    else:
        PICTURES[mode](case, tried)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["repeated blocks", "whole", "in place"])
def test_compiled_blocks_share_a_graph_and_take_up_every_change(part, make_adapter):
    """As many graphs as without a LoRA: one for each length of prompts, and one for each other state of the dial."""
    counts = []
    for lora in (None, RANK_2):
        pipe = build_sd(
            block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",)
        )
        adapter = perturb(make_adapter(pipe, lora=lora)).attach(pipe)
        states = [1.0, 0.5, 0.0, 1.0]
        expected = []
        for adapter.scale in states:
            expected.append(draw(pipe))
        graphs = []

        def backend(graph, inputs, graphs=graphs):
            graphs.append(graph)
            return graph.forward

        torch._dynamo.reset()
        if part == "repeated blocks":
            pipe.unet.compile_repeated_blocks(backend=backend, fullgraph=True)
        elif part == "whole":
            pipe.unet = torch.compile(pipe.unet, backend=backend, fullgraph=True)
        else:
            pipe.unet.compile(backend=backend, fullgraph=True)
        for adapter.scale, picture in zip(states, expected, strict=True):
            assert torch.allclose(draw(pipe), picture, atol=1e-4)
        assert distance(expected[0], expected[2]) > 1e-3
        counts.append(len(graphs))
        adapter.detach()
        assert torch.allclose(draw(pipe), expected[2], atol=1e-5)
    assert counts[0] == counts[1] > 0


@torch.no_grad()
@pytest.mark.parametrize("family", ["SD 1.x", "SDXL", "Sana"])
def test_stock_diffusers_draws_the_same_with_the_file_that_is_written_for_it(family, make_adapter, tmp_path):
    pipe, stock = FAMILIES[family].build(), FAMILIES[family].build()
    plain = FAMILIES[family].draw(stock, "a red cup")
    adapter = lora_alone(make_adapter(pipe, lora=RANK_2)).attach(pipe)
    adapter.save_lora_weights(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
    stock.load_lora_weights(tmp_path)
    picture = FAMILIES[family].draw(stock, "a red cup")
    assert torch.allclose(picture, FAMILIES[family].draw(pipe, "a red cup"), atol=2e-4)
    assert distance(picture, plain) > 1e-3


def test_there_is_no_such_file_of_an_adapter_without_one(sd, make_adapter, tmp_path):
    with pytest.raises(LLMDiffError, match=r"no LoRA: create it with lora=LoRAConfig\(rank=8\)"):
        make_adapter(sd).save_lora_weights(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_saved_draws_the_same_when_it_is_loaded(sd, make_adapter, tiny_llm, mode, tmp_path):
    adapter = perturb(make_adapter(sd, mode=mode, lora=LoRAConfig(rank=3))).attach(sd)
    picture = draw(sd)
    adapter.save_pretrained(tmp_path)
    adapter.detach()
    loaded = LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm)
    assert loaded.config == adapter.config
    assert loaded.config.lora.projections["mid_block.attentions.0.transformer_blocks.0.attn2.to_k"] == (24, 16)
    loaded.attach(sd)
    assert torch.equal(draw(sd), picture)
    assert "rank 3, on 32 attention projections" in (tmp_path / "README.md").read_text()


def test_an_adapter_of_the_first_version_keeps_the_file_beside_it_and_has_no_lora(sd, make_adapter, tiny_llm, tmp_path):
    adapter = perturb(make_adapter(sd)).attach(sd)
    picture = draw(sd)
    adapter.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("crc32")  # as who edits it is told to
    del config["lora"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"of the first version")
    adapter.detach()
    loaded = LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(sd)
    assert loaded.config.lora is None
    assert torch.equal(draw(sd), picture)
    loaded.save_pretrained(tmp_path)
    assert (tmp_path / "pytorch_lora_weights.safetensors").read_bytes() == b"of the first version"
