"""The features of diffusers that an adapter is tested beside: how each one is put to use, on any family.

Most are a change of the pipeline before or after the adapter is attached, options of the call, or both; the rest have a
check of their own.
"""

import copy
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapter.case import BOTH, Case, Feature
from adapter.changes import (
    IMAGE,
    TEXT,
    distance,
    do,
    end_guidance,
    load_ip_adapter,
    load_lora,
    lower_guidance,
    offload_sequentially,
    scheduler,
    sibling,
    tile,
)
from adapter.tiny import PROMPT
from llmdiff.base.layers import find_denoiser

@dataclass(frozen=True)
class EndsGuidance(Feature):
    """Guidance that a callback ends asks for all tensors that the family's pipeline keeps for both halves."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        known = ("prompt_embeds", "add_text_embeds", "add_time_ids", "attention_mask")
        tensors = [name for name in known if name in pipe._callback_tensor_inputs]
        return case.draw(
            pipe, prompt, callback_on_step_end=end_guidance, callback_on_step_end_tensor_inputs=[*tensors, "latents"]
        )


@dataclass(frozen=True)
class Controlled(Feature):
    """The picture that steers a ControlNet goes by another name in each family, one of which adds noise to it."""

    def draw(self, case: Case, pipe: Any, prompt: str = PROMPT) -> Tensor:
        torch.manual_seed(0)
        return case.draw(pipe, prompt, **case.family.control)


def check_pictures_per_prompt(case: Case) -> None:
    pipe, _ = case.attached()
    single = case.draw(pipe, ["a cup", "blue"])
    noise = torch.randn_like(single[:1])
    grouped = case.draw(pipe, ["a cup", "blue"], num_images_per_prompt=2, latents=noise.expand(4, -1, -1, -1))
    alone = torch.cat([case.draw(pipe, prompt, latents=noise) for prompt in ("a cup", "blue")])
    assert torch.allclose(grouped, alone.repeat_interleave(2, 0), atol=1e-3)
    assert distance(grouped[0], grouped[2]) > 1e-3


def check_batch(case: Case) -> None:
    """Each picture of a batch is the one that its prompt gives alone, whatever the length of its neighbours."""
    pipe, _ = case.attached()
    prompts = ["a", "a much longer prompt"]
    noise = torch.randn_like(case.draw(pipe, prompts))
    together = case.draw(pipe, prompts, latents=noise)
    for i, prompt in enumerate(prompts):
        assert torch.allclose(case.draw(pipe, prompt, latents=noise[i : i + 1])[0], together[i], atol=1e-3)


def check_two_adapters(case: Case) -> None:
    (first, one), (second, two) = case.attached(seed=0), case.attached(seed=1)
    pictures = [case.draw(first), case.draw(second)]
    assert distance(*pictures) > 1e-3
    assert torch.equal(case.draw(first), pictures[0])
    one.detach()
    assert torch.equal(case.draw(second), pictures[1])
    two.detach()


def check_saving(case: Case) -> None:
    """What is saved while an adapter is attached is the base model, and the adapter stays attached."""
    stock = case.family.build()
    pipe, _ = case.attached()
    before, dropped = case.draw(pipe), [name for name, part in pipe.components.items() if part is None]
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder)
        again = type(pipe).from_pretrained(folder, **{name: None for name in TEXT if name in dropped})
    again.set_progress_bar_config(disable=True)
    expected, found = find_denoiser(stock).state_dict(), find_denoiser(again).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert torch.equal(case.draw(pipe), before)
    if case.mode == "augment":
        assert torch.equal(case.draw(again), case.draw(stock))


def check_copies(copies: Callable[[Any], Any]) -> Callable[[Case], None]:
    """A copy draws the same picture, and goes on doing so when the original is changed."""

    def check(case: Case) -> None:
        pipe, adapter = case.attached()
        other = copies(pipe)  # before it draws: then transformers hangs a local function on SDXL's text encoders
        picture = case.draw(pipe)
        adapter.scale = 0
        adapter.detach()
        other.set_progress_bar_config(disable=True)
        assert torch.equal(case.draw(other), picture)
        assert distance(case.draw(other, "blue"), picture) > 1e-3

    return check


def check_compiled(case: Case) -> None:
    pipe, _ = case.attached()
    picture = case.draw(pipe)
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    setattr(pipe, part, torch.compile(getattr(pipe, part), backend=backend, fullgraph=True))
    assert torch.allclose(case.draw(pipe), picture, atol=1e-3)
    count = len(graphs)
    case.draw(pipe, "b red cup")
    assert len(graphs) == count > 0


TILED = {"output_type": "pt", "height": 64, "width": 64}
FEATURES: dict[str, Feature] = {
    "text-to-image": Feature(),
    "img2img": Feature(sibling("img2img"), needs="img2img", options={"image": torch.zeros(1, 3, 16, 16), "strength": 0.9}, seen=BOTH),
    "inpainting": Feature(
        sibling("inpainting"),
        needs="inpainting",
        options={"image": torch.zeros(1, 3, 16, 16), "mask_image": torch.ones(1, 1, 16, 16), "strength": 0.9},
        seen=BOTH,
    ),
    "controlnet": Controlled(sibling("controlnet"), needs="controlnet", seen=BOTH),
    "lora before": Feature(do(load_lora), seen=BOTH),
    "lora after": Feature(do(load_lora), after=True, seen=BOTH),
    "ip-adapter before": Feature(do(load_ip_adapter), options=IMAGE, seen=BOTH),
    "ip-adapter after": Feature(do(load_ip_adapter), after=True, options=IMAGE, seen=BOTH),
    "pictures per prompt": Feature(check=check_pictures_per_prompt),
    "batched prompts": Feature(check=check_batch),
    "negative prompt": Feature(options={"negative_prompt": "blue"}, seen=BOTH),
    "guidance off": Feature(options={"guidance_scale": 1.0}, seen=BOTH),
    "guidance changed mid-run": Feature(options={"callback_on_step_end": lower_guidance}, seen=BOTH),
    "guidance ended mid-run": EndsGuidance(seen=BOTH),
    "clip skip": Feature(options={"clip_skip": 1}, seen=("augment",)),
    **{name: Feature(scheduler(name)) for name in ("ddim", "dpm++", "euler", "unipc", "lcm")},
    "attention slicing": Feature(do(lambda pipe: pipe.enable_attention_slicing(1)), after=True),
    "vae tiling": Feature(do(tile), after=True, options=TILED),
    "bfloat16": Feature(do(lambda pipe: pipe.to(torch.bfloat16)), seen=BOTH, tolerance=None),
    "model offload": Feature(do(lambda pipe: pipe.enable_model_cpu_offload(device="cpu")), after=True),
    "sequential offload": Feature(do(offload_sequentially), after=True),
    "two adapters": Feature(check=check_two_adapters),
    "saving while attached": Feature(check=check_saving),
    "deep copy": Feature(check=check_copies(copy.deepcopy)),
    "pickle": Feature(check=check_copies(lambda pipe: pickle.loads(pickle.dumps(pipe)))),
    "torch.compile": Feature(check=check_compiled, slow=True),
}
