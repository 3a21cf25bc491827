"""The families of base models that an adapter is tested on, as tiny random pipelines, and how each one draws."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanDiT2DControlNetModel,
    HunyuanDiT2DModel,
    HunyuanDiTControlNetPipeline,
    HunyuanDiTPAGPipeline,
    KandinskyV22Pipeline,
    KolorsImg2ImgPipeline,
    KolorsPAGPipeline,
    LCMScheduler,
    PixArtSigmaPAGPipeline,
    SanaControlNetModel,
    SanaControlNetPipeline,
    SanaPAGPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPanoramaPipeline,
    StableDiffusionSAGPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPAGPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from adapter.tiny import (
    CONTEXT_WIDTH,
    build_hunyuan,
    build_kandinsky3,
    build_kolors,
    build_pixart,
    build_sana,
    build_sd,
    build_sdxl,
)
from adapter.variants import (
    FRAMES,
    build_animatediff,
    build_animatediff_sdxl,
    build_latte,
    build_sana_video,
    build_sprint,
    build_text_to_video,
)
from llmdiff.base.diffusers_internals import result_names
from tiny_parts import build_unet, build_vae

PLAIN = {
    "ddim": (DDIMScheduler, {"steps_offset": 1, "clip_sample": False}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
}
FLOW = {
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "euler": (FlowMatchEulerDiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}
NO_FLOW = "the scheduler cannot sample a model that predicts a flow"
NO_PIPELINE = "diffusers has no such pipeline for this family"


@dataclass(frozen=True)
class Family:
    """A family of base models.

    Attributes:
        name: as users call it.
        build: makes a tiny pipeline; the same weights each time.
        options: of every call.
        pipelines: other pipelines of the family, by feature.
        settings: of those pipelines.
        schedulers: by name, with their settings.
        control: options of a call with a ControlNet.
        video: options of a call that makes a video.
        lacks: features that the family does not have, in both modes or in one, and why.
    """

    name: str
    build: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    schedulers: dict[str, Any] = field(default_factory=lambda: PLAIN)
    control: dict[str, Any] = field(default_factory=lambda: {"image": torch.ones(1, 3, 16, 16)})
    video: dict[str, Any] = field(default_factory=lambda: {"num_frames": FRAMES})
    lacks: dict[str, str] = field(default_factory=dict)

    def lack(self, feature: str, mode: str, needs: str | None = None) -> str | None:
        """Why the family does not have a feature in a mode, if so; some need another pipeline of the family."""
        said = self.lacks.get(feature) or self.lacks.get(f"{feature}, {mode}")
        return said or (NO_PIPELINE if needs and needs not in self.pipelines else None)

    def draw(self, pipe: Any, prompt: Any, **options: Any) -> Tensor:
        """The latents that a call ends with, always from the same noise."""
        settings = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16}
        taken = inspect.signature(type(pipe).__call__).parameters
        settings |= {name: value for name, value in self.options.items() if name in taken}
        return pipe(prompt, generator=torch.Generator().manual_seed(7), **settings | options)[0]

    def encode(self, pipe: Any, prompts: list[str], negatives: list[str]) -> dict[str, Tensor]:
        """What ``encode_prompt`` makes of prompts and negative prompts, by the names of its results."""
        encode, own = pipe.encode_prompt, type(pipe).encode_prompt
        wanted = inspect.signature(own).parameters
        options = {"prompt": prompts, "negative_prompt": negatives, "num_images_per_prompt": 1, "device": pipe.device}
        options |= self.options | {"do_classifier_free_guidance": True}
        options = {name: value for name, value in options.items() if name in wanted}
        names = result_names(own)
        results = dict(zip(names, encode(**options), strict=True))
        if "text_encoder_index" in wanted:  # a second text encoder, whose features have names of their own
            second = encode(**options, text_encoder_index=1)
            results |= {f"{name}_2": value for name, value in zip(names, second, strict=True)}
        return {name: value for name, value in results.items() if value is not None}


def build_sd21() -> Any:
    pipe = build_sd(use_linear_projection=True)
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    return pipe


def build_controlnet(pipe: Any, seed: int = 5) -> nn.Module:
    """A ControlNet of the pipeline's family that has learned something: its last layers start as zeros."""
    if hasattr(pipe, "unet"):
        net = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8))
    else:
        kind, depth = TRANSFORMER_CONTROLNETS[type(pipe.transformer)]
        config = pipe.transformer.config
        net = kind(**{name: config[name] for name in inspect.signature(kind).parameters if name in config} | depth)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


TRANSFORMER_CONTROLNETS: dict[type, Any] = {  # the class, and how deep it is to be
    SanaTransformer2DModel: (SanaControlNetModel, {"num_layers": 1}),
    HunyuanDiT2DModel: (HunyuanDiT2DControlNetModel, {"transformer_num_layers": 4}),
}
SD = {
    "img2img": StableDiffusionImg2ImgPipeline,
    "inpainting": StableDiffusionInpaintPipeline,
    "controlnet": StableDiffusionControlNetPipeline,
    "multicontrolnet": StableDiffusionControlNetPipeline,
    "pag": functools.partial(StableDiffusionPAGPipeline, pag_applied_layers="mid"),
    "sag": StableDiffusionSAGPipeline,
    "panorama": StableDiffusionPanoramaPipeline,
    "video": build_animatediff,
}
SDXL = {
    "img2img": StableDiffusionXLImg2ImgPipeline,
    "inpainting": StableDiffusionXLInpaintPipeline,
    "controlnet": StableDiffusionXLControlNetPipeline,
    "multicontrolnet": StableDiffusionXLControlNetPipeline,
    "pag": functools.partial(StableDiffusionXLPAGPipeline, pag_applied_layers="mid"),
    "video": build_animatediff_sdxl,
}
KOLORS = {
    "img2img": KolorsImg2ImgPipeline,
    "pag": functools.partial(KolorsPAGPipeline, pag_applied_layers="mid"),
}
PIXART = {"pag": functools.partial(PixArtSigmaPAGPipeline, pag_applied_layers="blocks.1"), "video": build_latte}
SANA = {
    "controlnet": SanaControlNetPipeline,
    "pag": functools.partial(SanaPAGPipeline, pag_applied_layers="transformer_blocks.0"),
    "video": build_sana_video,
    "sprint": build_sprint,
}
HUNYUAN = {
    "controlnet": HunyuanDiTControlNetPipeline,
    "multicontrolnet": HunyuanDiTControlNetPipeline,
    "pag": functools.partial(HunyuanDiTPAGPipeline, pag_applied_layers="blocks.1"),
}
NO_CLIP_SKIP = {"clip skip": "the family has no CLIP text encoder"}
NO_IP_ADAPTER = dict.fromkeys(["ip-adapter before", "ip-adapter after"], "diffusers has no IP-Adapter for this family")
NO_SLICING = {"attention slicing": "diffusers does not slice the attention of this family"}
NO_FREEU = dict.fromkeys(["freeu before", "freeu after"], "diffusers has no FreeU for this family")
NO_RESCALE = {"guidance rescaled": "the family's pipeline does not rescale guidance"}
GUIDANCE_CHANGED = {"guidance changed mid-run": "the pipeline does not let a callback change guidance"}
GUIDANCE_ENDED = dict.fromkeys(
    ["guidance ended mid-run", "guidance in an interval"], "the pipeline does not let a callback end guidance"
)
NO_UNET = NO_CLIP_SKIP | NO_IP_ADAPTER | NO_SLICING | NO_FREEU | GUIDANCE_CHANGED | GUIDANCE_ENDED
UNCHECKED = {"requires_safety_checker": False}
NO_SKIP_YET = {"clip skip, augment": "diffusers 0.42 asks transformers 5's CLIP for a part that it no longer has"}
MIXED = {"pictures per prompt, augment": "diffusers 0.42 mixes up the masks of several prompts in this pipeline"}
BINNING = {"use_resolution_binning": False, "max_sequence_length": 8, "clean_caption": False}

FAMILIES = {
    family.name: family
    for family in (
        Family("SD 1.x", build_sd, pipelines=SD, settings=UNCHECKED, lacks=NO_SKIP_YET),
        Family(
            "SD 2.x", build_sd21, pipelines=SD | {"video": build_text_to_video}, settings=UNCHECKED, lacks=NO_SKIP_YET
        ),
        Family("SDXL", build_sdxl, pipelines=SDXL, settings={"add_watermarker": False}),
        Family(
            "Kolors",
            build_kolors,
            pipelines=KOLORS,
            lacks=NO_CLIP_SKIP
            | NO_RESCALE
            | {
                "prompt_embeds kept, augment": "diffusers 0.42 repeats what Kolors is given for no second picture",
                "pickle, augment": "diffusers 0.42's ChatGLM holds a local function, which cannot be pickled",
            },
        ),
        Family("PixArt", build_pixart, BINNING, PIXART, video={"video_length": FRAMES}, lacks=NO_UNET | NO_RESCALE),
        Family(
            "Sana",
            build_sana,
            BINNING | {"complex_human_instruction": None, "height": 32, "width": 32},
            SANA,
            schedulers=FLOW,
            control={"control_image": torch.ones(1, 3, 32, 32)},
            video={"frames": 4 * FRAMES, "height": 64, "width": 64},
            lacks=NO_UNET | NO_RESCALE | {"ddim": NO_FLOW, "lcm": NO_FLOW} | MIXED,
        ),
    )
}
"""Families that an adapter joins in both modes, and is trained on."""

AUGMENTED = {
    family.name: family
    for family in (
        Family(
            "Kandinsky 3",
            build_kandinsky3,
            lacks=NO_CLIP_SKIP
            | NO_IP_ADAPTER
            | NO_SLICING
            | NO_FREEU
            | NO_RESCALE
            | GUIDANCE_CHANGED
            | MIXED
            | {
                "img2img": "diffusers 0.42's pipeline asks the autoencoder for something that it does not have",
                "batched prompts": "the base model itself averages over the padding that a longer neighbour brings",
                "euler": "diffusers 0.42's pipeline does not scale the latents as this scheduler asks",
                "unipc": "diffusers 0.42's pipeline gives the scheduler an argument that it does not take",
                "vae tiling": "the family's autoencoder has no tiling in diffusers",
            },
        ),
        Family(
            "Hunyuan-DiT",
            build_hunyuan,
            {"use_resolution_binning": False, "height": 64, "width": 64},
            HUNYUAN,
            UNCHECKED,
            control={"control_image": torch.ones(1, 3, 64, 64)},
            lacks=NO_UNET
            | MIXED
            | dict.fromkeys(
                ["sequential offload", "sequential offload before"],
                "diffusers 0.42's Hunyuan-DiT uses weights past the hooks that would bring them",
            )
            | dict.fromkeys(
                ["group offload", "group offload before"], "diffusers does not offload this family in groups"
            )
            | dict.fromkeys(["quantised before", "quantised after"], "diffusers 0.42's Hunyuan-DiT cannot be quantised")
            | {
                "pag without guidance": "diffusers 0.42's pipeline mixes up its rows without guidance",
            },
        ),
    )
}
"""Families that an adapter joins in augment mode alone."""


def build_sd3() -> Any:
    transformer = SD3Transformer2DModel(
        sample_size=8, num_layers=1, attention_head_dim=4, num_attention_heads=2, joint_attention_dim=8,
        caption_projection_dim=8, pooled_projection_dim=8, in_channels=4, out_channels=4,
    )  # fmt: skip
    nothing = dict.fromkeys(["scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
    return StableDiffusion3Pipeline(transformer=transformer, text_encoder_3=None, tokenizer_3=None, **nothing)


def build_flux() -> Any:
    transformer = FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    nothing = dict.fromkeys(["scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
    return FluxPipeline(transformer=transformer, **nothing)


def build_kandinsky22() -> Any:
    unet = build_unet(
        down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=6,
        cross_attention_dim=CONTEXT_WIDTH,
    )
    return KandinskyV22Pipeline(unet=unet, scheduler=DDIMScheduler(), movq=build_vae())


REFUSED = {"SD3": build_sd3, "Flux": build_flux, "Kandinsky 2.2": build_kandinsky22}
