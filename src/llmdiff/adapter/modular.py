"""Modular pipelines of diffusers: the block that takes the place of their text encoder step.

``adapter.attach(pipe)`` puts it into a modular pipeline whose components are loaded, and ``adapter.detach()`` takes it
out again, as with any other pipeline. It can be put there by hand too: where blocks are composed, where a pipeline in
replace mode is to expect no text encoders, or where prompts are encoded by a pipeline of their own.

In diffusers 0.42 Stable Diffusion XL is the one modular family of image models with separate cross-attention whose
step makes ``prompt_embeds``. In SD3, Flux, Qwen-Image, Z-Image, Ernie-Image, Krea and Ideogram text and image are
attended together; Anima's step makes features that a second model turns into those of its layers; all others make
video or music, Wan, LTX and Helios with separate cross-attention.

Example:
    >>> import torch
    >>> from diffusers import ModularPipeline, StableDiffusionXLAutoBlocks
    >>> from llmdiff import LLMDiffAdapter
    >>> from llmdiff.adapter.modular import LLMDiffTextEncoderStep
    >>> from llmdiff.base import ImageModel
    >>> pipe = ModularPipeline.from_pretrained("stabilityai/stable-diffusion-xl-base-1.0")
    >>> pipe.load_components(torch_dtype=torch.float16)
    >>> pipe.to("cuda")
    >>> adapter = LLMDiffAdapter.from_pretrained("someone/an-adapter-for-sdxl").attach(pipe)
    >>> picture = pipe(prompt="a red cup left of a blue book", output="images")[0]

    The same by hand; in replace mode no text encoder is loaded:

    >>> blocks = StableDiffusionXLAutoBlocks()
    >>> blocks.sub_blocks["text_encoder"] = LLMDiffTextEncoderStep(adapter)
    >>> pipe = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
    >>> pipe.load_components(torch_dtype=torch.float16)
    >>> pipe.to("cuda")
    >>> adapter.attach(pipe)

    Prompts encoded by a pipeline of their own, once for many pictures:

    >>> blocks = StableDiffusionXLAutoBlocks()
    >>> blocks.sub_blocks.pop("text_encoder")
    >>> pipe = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
    >>> pipe.load_components(torch_dtype=torch.float16)
    >>> pipe.to("cuda")
    >>> adapter.join(ImageModel(pipe))
    >>> encoder = LLMDiffTextEncoderStep(adapter).init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
    >>> encoder.load_components(torch_dtype=torch.float16)
    >>> encoder.to("cuda")
    >>> text = encoder(prompt="a red cup left of a blue book").get_by_kwargs("denoiser_input_fields")
    >>> picture = pipe(**text, output="images")[0]
"""

import copy
from collections.abc import Callable
from typing import Any

from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, ConfigSpec, InputParam, OutputParam
from diffusers.modular_pipelines.stable_diffusion_xl.encoders import StableDiffusionXLTextEncoderStep

from llmdiff.adapter.prompt_encoder import ENCODE_PROMPT, PromptEncoder
from llmdiff.base.diffusers_internals import blocks_of, set_blocks
from llmdiff.errors import LLMDiffError


class LLMDiffTextEncoderStep(ModularPipelineBlocks):
    """Encodes prompts as a family's own text encoder step does, and by the LLM of an adapter.

    The ``prompt_embeds`` and ``negative_prompt_embeds`` that it puts into the pipeline's state carry the LLM's encoding
    of their prompt behind them: (B, T, W + m·E) of B prompts, T tokens, width W of the text features, E of the
    encoding, and m vectors of it behind each token. In replace mode the text features are φ(c), the pooled vector is
    the head's, and no text encoder or tokenizer is among the components that it expects.

    Copies of the block, which pipelines make of all their blocks, use the same adapter.

    Args:
        adapter: an `LLMDiffAdapter`; it is attached or joined to the denoiser before the pipeline runs.
        step: the family's own step; that of SDXL if None.

    Attributes:
        placed: whether ``attach`` put it in the place of its step, and ``detach`` is to undo that.
    """

    def __init__(self, adapter: Any, step: ModularPipelineBlocks | None = None) -> None:
        super().__init__()
        self.adapter = adapter
        self.step: Any = StableDiffusionXLTextEncoderStep() if step is None else step
        self.placed = False

    @property
    def model_name(self) -> str | None:
        """The family."""
        name: str | None = self.step.model_name
        return name

    @property
    def description(self) -> str:
        """What diffusers shows of the block."""
        return f"Text encoder step under the LLM of an adapter, in the place of {type(self.step).__name__}"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """Those of the family's own step; in replace mode without what would have to be loaded."""
        specs: list[ComponentSpec] = self.step.expected_components
        replaces = self.adapter.config.mode == "replace"
        return [spec for spec in specs if not replaces or spec.default_creation_method == "from_config"]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        """Those of the family's own step."""
        specs: list[ConfigSpec] = self.step.expected_configs
        return specs

    @property
    def inputs(self) -> list[InputParam]:
        """Those of the family's own step."""
        inputs: list[InputParam] = self.step.inputs
        return inputs

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """Those of the family's own step."""
        outputs: list[OutputParam] = self.step.intermediate_outputs
        return outputs

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Runs the family's own step, for which prompts are encoded by the adapter.

        Raises:
            LLMDiffError: if the adapter is not attached, or to another denoiser than the pipeline's.
        """
        step = copy.copy(self.step)
        own = getattr(self.step, ENCODE_PROMPT)
        step.encode_prompt = PromptEncoder(self.adapter.attachment, components, own, overridden=False)
        components, state = step(components, state)
        return components, state

    def __deepcopy__(self, memo: dict[int, Any]) -> "LLMDiffTextEncoderStep":
        """A copy of the definition with the same adapter, unless a pipeline that it is attached to is copied whole."""
        copied = any(id(pipe) in memo for pipe in self.adapter.pipes)
        adapter = copy.deepcopy(self.adapter, memo) if copied else self.adapter
        block = type(self)(adapter, copy.deepcopy(self.step, memo))
        block.placed = self.placed
        return block


def place_step(pipe: Any, adapter: Any) -> None:
    """Puts the block in the place of a modular pipeline's text encoder step, if it is not there already.

    Raises:
        LLMDiffError: if there is no such step, or it is another adapter's.
    """
    found = []

    def place(block: Any) -> Any:
        if isinstance(block, LLMDiffTextEncoderStep):
            if block.adapter is not adapter:
                raise LLMDiffError("The pipeline's text encoder step is another adapter's: put its own one back first.")
            found.append(block)
        elif _encodes_prompts(block):
            block = LLMDiffTextEncoderStep(adapter, block)
            block.placed = True
            found.append(block)
        return block

    blocks = _exchange(pipe.blocks, place)  # a copy: pipelines may share their blocks
    if not found:
        raise LLMDiffError(
            f"{type(pipe).__name__} has no text encoder step that makes prompt_embeds, through which an adapter gets "
            "its prompts: call adapter.join(ImageModel(pipe)) instead, and take prompt_embeds from a pipeline of an "
            "LLMDiffTextEncoderStep(adapter)."
        )
    set_blocks(pipe, blocks)


def remove_step(pipe: Any, adapter: Any) -> None:
    """Puts a modular pipeline's own text encoder step back where `place_step` has exchanged it."""

    def remove(block: Any) -> Any:
        ours = isinstance(block, LLMDiffTextEncoderStep) and block.placed and block.adapter is adapter
        return block.step if ours else block

    set_blocks(pipe, _exchange(blocks_of(pipe), remove))


def _encodes_prompts(block: Any) -> bool:
    """Whether a block makes text features of prompts."""
    makes = not block.sub_blocks and "prompt_embeds" in block.intermediate_output_names
    return makes and callable(getattr(block, ENCODE_PROMPT, None))


def _exchange(block: Any, exchange: Callable[[Any], Any]) -> Any:
    """What stands in a block's place when it and all blocks in it are exchanged."""
    for name, sub_block in list(block.sub_blocks.items()):
        block.sub_blocks[name] = _exchange(sub_block, exchange)
    return exchange(block)
