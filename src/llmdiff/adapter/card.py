"""The model card of an adapter."""

from huggingface_hub import ModelCardData

from llmdiff.adapter.config import AdapterConfig, LoRAConfig
from llmdiff.adapter.refiner import RefinerConfig
from llmdiff.sources import is_remote_id, public_name

BODY = """---
{metadata}
---

# LLMDiff Adapter for {base}

Makes the language model **{llm}** condition the image model **{base}** (`{denoiser}`), after Dong et al., "Decoder-Only
LLMs are Better Controllers for Diffusion Models" (ACM MM 2024, arXiv 2502.04412).

| | |
|---|---|
| mode | `{mode}` |
| language model | {llm}, revision {revision}, {blocks} blocks of width {width}, `{dtype}` |
| reading | {reading} |
| refiner | {refiner} |
| LoRA | {lora} |
| cross-attention layers | {layers} |
| llmdiff | {version} |

## Use

```python
from diffusers import DiffusionPipeline
from llmdiff import LLMDiffAdapter

pipe = DiffusionPipeline.from_pretrained("{base}")
adapter = LLMDiffAdapter.from_pretrained("path/or/id/of/this/adapter").attach(pipe)
image = pipe("a red cup to the left of a blue bowl").images[0]
adapter.scale = 0.5  # the dial; adapter.detach() gives the base model back
```
"""


def model_card(config: AdapterConfig) -> str:
    """The text of ``README.md``, with the Hub's metadata on top."""
    llm, base = config.llm, public_name(config.base.name) or config.base.denoiser
    reading = ", ".join(f"{key} `{value}`" for key, value in config.reading.model_dump().items())
    return BODY.format(
        metadata=_metadata(config).to_yaml(),
        base=base,
        llm=public_name(llm.get("name")) or "unknown",
        denoiser=config.base.denoiser,
        mode=config.mode,
        revision=llm.get("revision") or "not pinned",
        blocks=llm.get("blocks"),
        width=llm.get("width"),
        dtype=llm.get("dtype"),
        reading=reading,
        refiner=_size(config.refiner),
        lora=_lora(config.lora),
        layers=len(config.base.layers),
        version=config.version,
    )


def _size(refiner: RefinerConfig | None) -> str:
    if refiner is None:
        return "none, as in the paper"
    narrowed = f", narrowed to {refiner.out}" if refiner.out else ""
    return f"{refiner.blocks} blocks of width {refiner.width}{narrowed}"


def _lora(lora: LoRAConfig | None) -> str:
    if lora is None:
        return "none, as in the paper"
    return f"rank {lora.rank}, on {len(lora.projections)} attention projections of the image model"


def _metadata(config: AdapterConfig) -> ModelCardData:
    base = config.base.name
    return ModelCardData(
        library_name="llmdiff",
        pipeline_tag="text-to-image",
        base_model=base if base and is_remote_id(base) else None,
        tags=["llmdiff", "diffusers", "adapter", "text-to-image", config.mode],
    )
