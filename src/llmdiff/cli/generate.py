"""`llmdiff generate`: prompts in, PNG files out."""

from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console
from llmdiff.cli.picture_files import PictureFiles, check_place


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw; several give several.")],
    base: Annotated[
        str, typer.Option(help="Base model: 'embedded', a diffusers folder, a .safetensors checkpoint, or a Hub id.")
    ] = "embedded",
    base_config: Annotated[
        str | None,
        typer.Option(
            help="For a .safetensors checkpoint: a diffusers folder or Hub id of a model of the same shape.",
            show_default="that on the Hub of the model that it looks like",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Adapter: 'embedded', a folder, a Hub id, or 'none' for the base model alone.",
            show_default="embedded, with the embedded base",
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            help="LLM: a name of `llmdiff models list`, a folder, a GGUF file or a Hub id.",
            show_default="the one that the adapter was trained with",
        ),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="Of the LLM: int8 (torchao), 8bit or 4bit (bitsandbytes).", show_default="as the adapter was trained"
        ),
    ] = None,
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = "",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 turns it off.")] = 5.0,
    scale: Annotated[float, typer.Option(help="Strength of the adapter; 0 is the base model.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first picture; the next has the next.", show_default="random")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size in pixels.", show_default="that of the base model")
    ] = None,
    num: Annotated[int, typer.Option(help="Pictures per prompt.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder, or a .png file where there is one result.")] = Path("out"),
    compare: Annotated[
        bool, typer.Option("--compare", help="Put the base model's picture beside each, same seed, on one sheet.")
    ] = False,
    prompt_weights: Annotated[
        bool, typer.Option("--prompt-weights", help="Read (word:1.3), (word) and [word] as weights and not as text.")
    ] = False,
    offload_llm: Annotated[
        bool, typer.Option("--offload-llm", help="Give back the LLM's memory once it has read the prompts.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="the fastest")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw pictures from prompts.

    Every PNG carries what it was drawn with: in the `parameters` chunk that many tools read, and in a chunk of ours
    from which `llmdiff regenerate` redraws it pixel for pixel. Each is written as soon as it is drawn. Files are never
    overwritten, except one that --out names.
    """
    from llmdiff.generation import GenerationRequest

    options = {"seed": seed} if seed is not None else {}
    request = GenerationRequest.model_validate(
        options
        | dict(prompts=prompts, negative=negative, steps=steps, guidance=guidance, scale=scale, size=size, num=num)
        | dict(base=base, base_config=base_config, adapter=adapter, llm=llm, quantization=quantization)
        | dict(compare=compare, device=device, prompt_weights=prompt_weights, offload_llm=offload_llm)
    )
    check_place(out, 1 if compare else len(prompts) * num)
    console.quiet_hosts()
    from llmdiff.generation import generate_each

    files = PictureFiles(out, compare)
    try:
        with console.progress_bar() as progress:
            for picture in generate_each(request, progress):
                files.add(picture)
    finally:
        files.finish(as_json)
