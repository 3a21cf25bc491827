"""What a single .safetensors file is, told by the names and shapes of its tensors."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from llmdiff.errors import LLMDiffError
from llmdiff.headers import Header, read_header

DENOISER = "model.diffusion_model."
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.", "text_encoders.")
AUTOENCODERS = ("first_stage_model.", "vae.")
_INPUT = f"{DENOISER}input_blocks.0.0.weight"
_OUTPUT = f"{DENOISER}out.2.weight"
_REFINER = "conditioner.embedders.0.model.text_projection"
_OTHER_INPUTS = {5: "a depth-to-image model", 7: "an upscaler", 8: "an image-editing model", 9: "an inpainting model"}
_CLIP = re.compile(r"cond_stage_model\.|conditioner\.embedders\.\d+\.(?:transformer|model)\.|text_encoders\.clip_\w+\.")
_EMBEDDINGS = ("token_embedding.weight", "position_embedding.weight", "positional_embedding")
_LORA = ("lora_", ".lora.", ".hada_", ".lokr_", ".oft_", ".dora_scale")
# What else such files are, by how their tensors' names begin: all of them for some kinds, any of them for others.
_WHOLLY = {
    "an autoencoder (VAE)": ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", *AUTOENCODERS),
    "a text encoder": ("text_model.", "text_projection.", "shared.", "encoder.", *TEXT_ENCODERS),
    "a textual inversion": ("emb_params", "clip_l", "clip_g", "<"),
}
_PARTLY = {
    "an LLMDiff adapter": ("text_encoding.", "branches."),
    "a ControlNet": ("control_model.", "controlnet_", "input_hint_block."),
    "an IP-Adapter": ("ip_adapter.", "image_proj."),
    "a language model": ("model.layers.", "model.embed_tokens.", "lm_head.", "transformer.h.", "language_model."),
    "a denoiser without text encoder and autoencoder": (
        DENOISER, "down_blocks.", "input_blocks.", "transformer_blocks.", "single_transformer_blocks.", "joint_blocks.",
        "double_blocks.", "blocks.", "diffusion_model.",
    ),
}  # fmt: skip


def is_checkpoint(file: Path) -> bool:
    """Whether a .safetensors file is a single-file checkpoint of a text-to-image model."""
    try:
        check_checkpoint(file)
    except LLMDiffError:
        return False
    return True


def check_checkpoint(file: Path) -> Header:
    """The header of a single-file checkpoint of a text-to-image model, its text encoders perhaps left out.

    Raises:
        LLMDiffError: The file is damaged, or something else; the sentence says what.
    """
    header = read_header(file)
    names = header.shapes
    if not (_any_begins(names, (DENOISER,)) and _any_begins(names, AUTOENCODERS)):
        _refuse(file, _kind(names), "give a checkpoint that holds the whole base model, or its diffusers folder")
    ends = names.get(_INPUT), names.get(_OUTPUT)
    if ends[0] and ends[1] and (other := other_kind(ends[0][1], ends[1][0])) is not None:
        _refuse(file, other, "give a text-to-image checkpoint")
    if _REFINER in names:
        _refuse(file, "an SDXL refiner, which finishes pictures of another model", "give the SDXL base checkpoint")
    return header


def other_kind(channels_in: int, channels_out: int) -> str | None:
    """What a U-Net is that takes more than the latents, which it gives back, perhaps with as many variances."""
    if channels_out in (channels_in, 2 * channels_in):
        return None
    return _OTHER_INPUTS.get(channels_in, "a model that needs more than a prompt")


def has_text_encoders(header: Header) -> bool:
    """Whether a checkpoint brings its text encoders."""
    return _any_begins(header.shapes, TEXT_ENCODERS)


def clip_without_embeddings(header: Header) -> str | None:
    """The beginning of the names of a CLIP in a checkpoint that lacks embeddings, of tokens or positions, if any does.

    By them diffusers knows which CLIP is where: in place of one without it would take the other.
    """
    clips: dict[str, int] = {}
    for name in header.shapes:
        if (found := _CLIP.match(name)) is not None:
            clips[found[0]] = clips.get(found[0], 0) + name.endswith(_EMBEDDINGS)
    return next((clip for clip, embeddings in clips.items() if embeddings < 2), None)


def _kind(names: Iterable[str]) -> str:
    names = list(names)
    if any(mark in name for name in names for mark in _LORA):
        return "a LoRA, which changes a base model"
    for kind, beginnings in _WHOLLY.items():
        if names and all(name.startswith(beginnings) for name in names):
            return kind
    return next((kind for kind, beginnings in _PARTLY.items() if _any_begins(names, beginnings)), "something else")


def _any_begins(names: Iterable[str], beginnings: tuple[str, ...]) -> bool:
    return any(name.startswith(beginnings) for name in names)


def _refuse(file: Path, what: str, instead: str) -> NoReturn:
    raise LLMDiffError(f"The file {str(file)!r} is no base model but {what}: {instead}.")
