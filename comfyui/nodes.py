"""The nodes, by ComfyUI's V3 schema."""

from typing import Any

import torch
from comfy.weight_adapter import LoRAAdapter
from comfy_api.latest import ComfyExtension, io

from llmdiff.comfyui import condition, join_model, set_scale
from llmdiff.comfyui.model import KEY
from llmdiff.errors import LLMDiffError

from .memory import ANYWHERE, LoadedAdapter, LoadedLLM, changed_at, load_adapter, load_llm, register_folder

CATEGORY = "LLMDiff"
LLM = io.Custom("LLMDIFF_LLM")
ADAPTER = io.Custom("LLMDIFF_ADAPTER")
SCALE = {"default": 1.0, "min": -2.0, "max": 4.0, "step": 0.05}
SCALE_TOOLTIP = "1 as trained; 0 in augment mode is the model alone."


class LLMDiffLoadLLM(io.ComfyNode):
    """Loads the LLM that reads prompts; only needed where an adapter's own is not wanted as it was in training."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="LLMDiffLoadLLM",
            display_name="LLMDiff Load LLM",
            category=CATEGORY,
            description="Loads the language model that reads prompts, in another dtype or place than by itself.",
            inputs=[
                io.String.Input("name", default="embedded", tooltip="embedded, a folder, a GGUF file, or a Hub id."),
                io.Combo.Input("dtype", options=["float32", "bfloat16", "float16"], default="float32"),
                io.Combo.Input(
                    "quantization",
                    options=["none", "int8", "8bit", "4bit"],
                    default="none",
                    tooltip="int8 needs torchao; 8bit and 4bit need bitsandbytes and a GPU.",
                ),
                io.Combo.Input("device", options=[ANYWHERE, "cpu"], default=ANYWHERE),
            ],
            outputs=[LLM.Output(display_name="llm")],
        )

    @classmethod
    def execute(cls, name: str, dtype: str, quantization: str, device: str) -> Any:
        return io.NodeOutput(load_llm(name, dtype, quantization, device))


class LLMDiffLoadAdapter(io.ComfyNode):
    """Loads an adapter and, where none is connected, the LLM that it was trained with."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="LLMDiffLoadAdapter",
            display_name="LLMDiff Load Adapter",
            category=CATEGORY,
            description="Loads a trained adapter. Without an LLM it loads the one that it was trained with.",
            inputs=[
                io.String.Input("name", default="", tooltip="A folder in models/llmdiff, another folder, or a Hub id."),
                LLM.Input("llm", optional=True),
            ],
            outputs=[ADAPTER.Output(display_name="adapter")],
        )

    @classmethod
    def execute(cls, name: str, llm: LoadedLLM | None = None) -> Any:
        return io.NodeOutput(load_adapter(name, llm))

    @classmethod
    def fingerprint_inputs(cls, name: str, llm: LoadedLLM | None = None) -> Any:
        """What has the node run again: an adapter that has been trained on since."""
        return changed_at(name)


class LLMDiffEncode(io.ComfyNode):
    """Has the LLM read a prompt."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="LLMDiffEncode",
            display_name="LLMDiff Encode",
            category=CATEGORY,
            description=(
                "Has the LLM read a prompt. The CONDITIONING carries what it read; give it to a model with the same "
                "adapter. In augment mode connect clip, or as conditioning what another node has encoded with clip."
            ),
            inputs=[
                ADAPTER.Input("adapter"),
                io.String.Input("text", multiline=True, dynamic_prompts=True),
                io.Clip.Input("clip", optional=True, tooltip="The model's own text encoder, in augment mode."),
                io.Conditioning.Input("conditioning", optional=True, tooltip="In the place of clip, in augment mode."),
                io.Boolean.Input(
                    "prompt_weights", default=True, optional=True, tooltip="(word:1.3) is a weight and not text."
                ),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(
        cls,
        adapter: LoadedAdapter,
        text: str,
        clip: Any = None,
        conditioning: Any = None,
        prompt_weights: bool = True,
    ) -> Any:
        if clip is not None and conditioning is not None:
            raise LLMDiffError("Connect clip or conditioning, not both: each is the model's own view of the text.")
        own = conditioning if clip is None else clip.encode_from_tokens_scheduled(clip.tokenize(text))
        adapter.llm.prepare()
        made = condition(adapter.adapter, text, own, prompt_weights=prompt_weights, made_by=adapter.made_by)
        return io.NodeOutput(made)


class LLMDiffApply(io.ComfyNode):
    """Joins an adapter to a model."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="LLMDiffApply",
            display_name="LLMDiff Apply",
            category=CATEGORY,
            description="Joins an adapter to a Stable Diffusion 1.x, 2.x or SDXL of the family that it was trained on.",
            inputs=[
                io.Model.Input("model"),
                ADAPTER.Input("adapter"),
                io.Float.Input("scale", tooltip=SCALE_TOOLTIP, **SCALE),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, adapter: LoadedAdapter, scale: float) -> Any:
        joint, patcher = adapter.joint(model)
        joined = join_model(model, joint, scale, _lora_patch)
        joined.set_additional_models(KEY, [patcher])
        return io.NodeOutput(joined)


class LLMDiffScale(io.ComfyNode):
    """Another dial on a model that has an adapter."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="LLMDiffScale",
            display_name="LLMDiff Scale",
            category=CATEGORY,
            description="Sets how strong the adapter of a model is, in place of what LLMDiff Apply has set.",
            inputs=[io.Model.Input("model"), io.Float.Input("scale", tooltip=SCALE_TOOLTIP, **SCALE)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, scale: float) -> Any:
        return io.NodeOutput(set_scale(model, scale))


class LLMDiffExtension(ComfyExtension):
    """The node pack."""

    async def get_node_list(self) -> list[Any]:
        register_folder()  # not in on_load, which ComfyUI 0.9 does not call
        return [LLMDiffLoadLLM, LLMDiffLoadAdapter, LLMDiffEncode, LLMDiffApply, LLMDiffScale]


def _lora_patch(up: torch.Tensor, down: torch.Tensor) -> Any:
    return LoRAAdapter(set(), (up, down, None, None, None, None))
