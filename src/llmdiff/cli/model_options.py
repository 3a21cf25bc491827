"""The options that name models, of all commands that draw with them."""

from typing import Annotated

import typer

Base = Annotated[
    str,
    typer.Option(
        help="Base model: 'embedded', 'embedded-world', a diffusers folder, a .safetensors checkpoint, or a Hub id."
    ),
]
BaseConfig = Annotated[
    str | None,
    typer.Option(
        help="For a .safetensors checkpoint: a diffusers folder or Hub id of a model of the same shape.",
        show_default="that on the Hub of the model that it looks like",
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        help="Adapter: 'embedded', a folder, a Hub id, or 'none' for the base model alone.",
        show_default="embedded, with the embedded base",
    ),
]
Llm = Annotated[
    str | None,
    typer.Option(
        help="LLM: a name of `llmdiff models list`, a folder, a GGUF file or a Hub id.",
        show_default="the one that the adapter was trained with",
    ),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        help="Of the LLM: int8 (torchao), 8bit or 4bit (bitsandbytes).", show_default="as the adapter was trained"
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the fastest")]
