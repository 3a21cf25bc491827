"""The features of diffusers that an adapter is tested beside: how each one is put to use, on any family.

Most are a change of the pipeline before or after the adapter is attached, options of the call, or both; the rest have a
check of their own.
"""

import copy
import pickle

import torch

from adapter.case import (
    BOTH,
    ClipSkip,
    Controlled,
    DoublyControlled,
    EndsGuidance,
    Feature,
    IntervalOfGuidance,
    Pag,
    Video,
)
from adapter.changes import (
    IMAGE,
    add_lora,
    cache_features,
    do,
    fuse_and_undo,
    fuse_projections,
    load_ip_adapter,
    load_lora,
    lower_guidance,
    offload_sequentially,
    scheduler,
    sibling,
    tile,
    wrap_denoiser,
    wrap_forwards,
)
from adapter.checks_compile import by_blocks, by_forward, by_wrapper, check_compiled, check_settled, in_place
from adapter.checks_embeds import check_cached_embeds, check_foreign_embeds, check_weighted_embeds
from adapter.checks_memory import (
    check_inference_mode,
    check_offloaded_before,
    check_quantised,
    check_there_and_back,
    layerwise_cast,
    offload_groups,
    offload_models,
)
from adapter.checks_rows import check_batch, check_exception, check_own_loop, check_pictures_per_prompt, check_threads
from adapter.checks_saving import check_copies, check_saving, check_two_adapters
from adapter.checks_siblings import (
    check_attached_siblings,
    check_copy_of_pipeline,
    check_exchanged,
    check_unattached_siblings,
    exchange_blocks,
    exchange_denoiser,
)

TILED = {"output_type": "pt", "height": 64, "width": 64}
TILED = {"output_type": "pt", "height": 64, "width": 64}
FREEU = {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}
FEATURES: dict[str, Feature] = {
    "text-to-image": Feature(),
    "img2img": Feature(
        sibling("img2img"), options={"image": torch.zeros(1, 3, 16, 16), "strength": 0.9}, needs="img2img", seen=BOTH
    ),
    "inpainting": Feature(
        sibling("inpainting"),
        options={"image": torch.zeros(1, 3, 16, 16), "mask_image": torch.ones(1, 1, 16, 16), "strength": 0.9},
        needs="inpainting",
        seen=BOTH,
    ),
    "controlnet": Controlled(sibling("controlnet"), needs="controlnet", seen=BOTH),
    "several controlnets": DoublyControlled(sibling("multicontrolnet"), needs="multicontrolnet", seen=BOTH),
    "video": Video(sibling("video"), needs="video"),
    "sprint": Feature(
        sibling("sprint"), options={"intermediate_timesteps": 1.3, "guidance_scale": 4.5}, needs="sprint"
    ),
    "sibling, attached": Feature(check=check_attached_siblings),
    "sibling, not attached": Feature(check=check_unattached_siblings),
    "copy of the pipeline": Feature(check=check_copy_of_pipeline),
    "denoiser exchanged": Feature(check=check_exchanged(exchange_denoiser)),
    "part of the denoiser exchanged": Feature(check=check_exchanged(exchange_blocks)),
    "wrapper around the denoiser, before": Feature(do(wrap_denoiser)),
    "wrapper around the denoiser, after": Feature(do(wrap_denoiser), after=True),
    "forward replaced before": Feature(do(wrap_forwards)),
    "forward replaced after": Feature(do(wrap_forwards), after=True),
    "feature caching before": Feature(do(cache_features), seen=BOTH),
    "feature caching after": Feature(do(cache_features), after=True, seen=BOTH),
    "lora before": Feature(do(load_lora), seen=BOTH),
    "lora after": Feature(do(load_lora), after=True, seen=BOTH),
    "lora on every linear layer": Feature(do(add_lora("all-linear")), after=True, seen=BOTH),
    "lora on query, key, value": Feature(do(add_lora(["query", "key", "value", "to_k"])), after=True, seen=BOTH),
    "ip-adapter before": Feature(do(load_ip_adapter), options=IMAGE, seen=BOTH),
    "ip-adapter after": Feature(do(load_ip_adapter), after=True, options=IMAGE, seen=BOTH),
    "freeu before": Feature(do(lambda pipe: pipe.enable_freeu(**FREEU)), seen=BOTH),
    "freeu after": Feature(do(lambda pipe: pipe.enable_freeu(**FREEU)), after=True, seen=BOTH),
    "fused projections before": Feature(do(fuse_projections)),
    "fused projections after": Feature(do(fuse_projections), after=True),
    "fused projections undone": Feature(do(fuse_and_undo), after=True),
    "pictures per prompt": Feature(check=check_pictures_per_prompt),
    "batched prompts": Feature(check=check_batch),
    "prompt_embeds kept": Feature(check=check_cached_embeds),
    "prompt_embeds weighted": Feature(check=check_weighted_embeds),
    "prompt_embeds from elsewhere": Feature(check=check_foreign_embeds),
    "negative prompt": Feature(options={"negative_prompt": "blue"}, seen=BOTH),
    "guidance off": Feature(options={"guidance_scale": 1.0}, seen=BOTH),
    "guidance changed mid-run": Feature(options={"callback_on_step_end": lower_guidance}, seen=BOTH),
    "guidance ended mid-run": EndsGuidance(seen=BOTH),
    "guidance in an interval": IntervalOfGuidance(seen=BOTH),
    "guidance rescaled": Feature(options={"guidance_rescale": 0.7}, seen=BOTH),
    "pag": Pag(sibling("pag"), needs="pag", seen=BOTH),
    "pag without guidance": Pag(sibling("pag"), options={"guidance_scale": 1.0}, needs="pag", seen=BOTH),
    "sag": Feature(sibling("sag"), options={"sag_scale": 0.75}, needs="sag", seen=BOTH),
    "panorama": Feature(sibling("panorama"), options={"width": 32}, needs="panorama"),
    "panorama, views in batches": Feature(
        sibling("panorama"), options={"width": 32, "view_batch_size": 2}, needs="panorama"
    ),
    "own loop, row by row": Feature(check=check_own_loop),
    "two threads": Feature(check=check_threads),
    "error in a call": Feature(check=check_exception),
    "clip skip": ClipSkip(seen=("augment",)),
    **{name: Feature(scheduler(name)) for name in ("ddim", "dpm++", "euler", "unipc", "lcm")},
    "attention slicing": Feature(do(lambda pipe: pipe.enable_attention_slicing(1)), after=True),
    "vae tiling": Feature(do(tile), after=True, options=TILED),
    "bfloat16": Feature(do(lambda pipe: pipe.to(torch.bfloat16)), seen=BOTH, tolerance=None),
    "bfloat16 and back": Feature(check=check_there_and_back),
    "layerwise casting before": Feature(do(layerwise_cast), seen=BOTH),
    "layerwise casting after": Feature(do(layerwise_cast), after=True, seen=BOTH),
    "quantised before": Feature(check=check_quantised(before=True)),
    "quantised after": Feature(check=check_quantised(before=False)),
    "model offload before": Feature(do(offload_models)),
    "model offload": Feature(do(offload_models), after=True),
    "sequential offload before": Feature(check=check_offloaded_before(offload_sequentially)),
    "sequential offload": Feature(do(offload_sequentially), after=True),
    "group offload before": Feature(check=check_offloaded_before(offload_groups)),
    "group offload": Feature(do(offload_groups), after=True),
    "inference mode": Feature(check=check_inference_mode),
    "two adapters": Feature(check=check_two_adapters),
    "saving while attached": Feature(check=check_saving),
    "deep copy": Feature(check=check_copies(copy.deepcopy)),
    "pickle": Feature(check=check_copies(lambda pipe: pickle.loads(pickle.dumps(pipe)))),
    "torch.compile": Feature(check=check_settled, slow=True),
    "torch.compile(denoiser)": Feature(check=check_compiled(by_wrapper), slow=True, only="SD 1.x"),
    "denoiser.compile()": Feature(check=check_compiled(in_place), slow=True, only="SD 1.x"),
    "compiled forward": Feature(check=check_compiled(by_forward), slow=True, only="SD 1.x"),
    "compiled blocks": Feature(check=check_compiled(by_blocks), slow=True, only="SD 1.x"),
}
