"""The names of layers in both layouts: diffusers' own conversion is the witness."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import nn

from base.original_layout import original_unet
from llmdiff.base import BaseDescription, LayerShape
from llmdiff.base.layers import find_layers as find_layers_of_diffusers
from llmdiff.base.layers import layer_shape, projection_shapes
from llmdiff.comfyui.layers import block_of, find_layers, original_path
from llmdiff.errors import LLMDiffError
from tiny_parts import build_unet

PREFIX = "model.diffusion_model."
LEVELS: dict[str, dict[str, Any]] = {  # the shapes of the real ones
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
BLOCKS = {"sd15": 16, "sd21": 16, "sdxl": 70}
KNOWN = {  # names that the documentation of LoRA formats has
    "sd15": {
        "down_blocks.0.attentions.0": "input_blocks.1.1",
        "down_blocks.2.attentions.1": "input_blocks.8.1",
        "mid_block.attentions.0": "middle_block.1",
        "up_blocks.1.attentions.0": "output_blocks.3.1",
        "up_blocks.3.attentions.2": "output_blocks.11.1",
    },
    "sdxl": {
        "down_blocks.1.attentions.0": "input_blocks.4.1",
        "down_blocks.2.attentions.1": "input_blocks.8.1",
        "up_blocks.0.attentions.0": "output_blocks.0.1",
        "up_blocks.1.attentions.2": "output_blocks.5.1",
    },
}


@pytest.fixture(scope="module", params=LEVELS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def unet(kind: str) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**LEVELS[kind])


def res_blocks(unet: Any) -> list[int]:
    return [unet.config.layers_per_block] * len(unet.config.block_out_channels)


def described(unet: Any) -> BaseDescription:
    layers = find_layers_of_diffusers(unet)
    shapes = {path: layer_shape(unet, path, layer) for path, layer in layers.items()}
    return BaseDescription(denoiser="UNet2DConditionModel", name="the/model", layers=shapes)


class Attention(nn.Module):
    """A cross-attention as ComfyUI's has it, as far as it is looked at."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.to_q = nn.Linear(shape.query, shape.inner, bias=shape.bias)
        self.to_k = nn.Linear(shape.context, shape.inner, bias=False)


class OtherUNet(nn.Module):
    """ComfyUI's U-Net, as far as it is looked at: made from that of diffusers."""

    def __init__(self, unet: Any, **changes: int) -> None:
        super().__init__()
        self.num_res_blocks = res_blocks(unet)
        for part in ("input_blocks", "middle_block", "output_blocks"):
            self.add_module(part, nn.Module())
        with torch.device("meta"):
            for path, shape in described(unet).layers.items():
                self.insert(original_path(path, self.num_res_blocks), Attention(shape.model_copy(update=changes)))

    def insert(self, path: str, layer: nn.Module) -> None:
        *parents, name = path.split(".")
        module: nn.Module = self
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.add_module(name, layer)


def test_names_are_those_of_diffusers_conversion(unet: UNet2DConditionModel, kind: str) -> None:
    original = original_unet(unet)
    shapes = dict(unet.config) | {"num_class_embeds": None, "class_embed_type": None}
    converted = convert_ldm_unet_checkpoint(dict(original), config=shapes)
    paths = list(projection_shapes(unet))
    assert len(paths) == 8 * BLOCKS[kind]  # four projections of self-attention and of cross-attention
    for path in paths:
        assert original[f"{PREFIX}{original_path(path, res_blocks(unet))}.weight"] is converted[f"{path}.weight"], path


@pytest.mark.parametrize("kind", KNOWN)
def test_names_are_those_that_are_known(kind: str) -> None:
    counts = [2] * (3 if kind == "sdxl" else 4)
    for path, name in KNOWN[kind].items():
        assert original_path(f"{path}.transformer_blocks.0.attn2", counts) == f"{name}.transformer_blocks.0.attn2"


def test_blocks_are_all_different(unet: UNet2DConditionModel, kind: str) -> None:
    layers = find_layers_of_diffusers(unet)
    blocks = {block_of(original_path(path, res_blocks(unet))) for path in layers}
    assert len(blocks) == BLOCKS[kind]
    assert {side for side, _, _ in blocks} == {"input", "middle", "output"}


def test_levels_may_have_different_numbers_of_blocks() -> None:
    assert original_path("down_blocks.2.attentions.0.x", [1, 3, 2]) == "input_blocks.7.1.x"
    assert original_path("up_blocks.2.attentions.1.x", [1, 3, 2]) == "output_blocks.8.1.x"


def test_every_layer_is_found(unet: UNet2DConditionModel) -> None:
    recorded = described(unet)
    assert find_layers(OtherUNet(unet), recorded).keys() == recorded.layers.keys()


@pytest.mark.parametrize("change", [{"query": 4}, {"inner": 16}, {"heads": 1}, {"context": 4}])
def test_a_model_of_another_shape_is_refused_in_a_sentence(change: dict[str, int]) -> None:
    unet = build_unet(cross_attention_dim=24)
    with pytest.raises(LLMDiffError, match=r"Layer down_blocks\.0.*this adapter was made for the/model"):
        find_layers(OtherUNet(unet, **change), described(unet))


def test_a_model_of_other_layers_is_refused_in_a_sentence() -> None:
    small, large = (build_unet(cross_attention_dim=24, layers_per_block=count) for count in (1, 2))
    with pytest.raises(LLMDiffError, match="has no cross-attention layer"):
        find_layers(OtherUNet(small), described(large))
    fewer = described(small)
    fewer = fewer.model_copy(update={"layers": dict(list(fewer.layers.items())[1:])})
    with pytest.raises(LLMDiffError, match=r"no branch for the model's layer input_blocks\.1\.1"):
        find_layers(OtherUNet(small), fewer)


def test_what_is_no_such_u_net_is_refused_in_a_sentence() -> None:
    recorded = BaseDescription(
        denoiser="X", layers={"blocks.0.attn2": LayerShape(query=8, inner=8, heads=2, context=8)}
    )
    with pytest.raises(LLMDiffError, match="Linear is no U-Net like those of"):
        find_layers(nn.Linear(1, 1), recorded)
    unet = SimpleNamespace(
        input_blocks=1, middle_block=1, output_blocks=1, num_res_blocks=[2], named_modules=lambda: iter(())
    )
    with pytest.raises(LLMDiffError, match="There is no layer blocks"):
        find_layers(unet, recorded)
