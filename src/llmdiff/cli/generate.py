"""`llmdiff generate`: prompts in, PNG files out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmdiff.cli import console, model_options
from llmdiff.cli.picture_files import PictureFiles, check_place, names_file
from llmdiff.cli.proxy_options import with_proxy
from llmdiff.errors import LLMDiffError


@with_proxy
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT...", help="What to draw; several give several.", show_default=False),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="A prompt a line, or (.jsonl) an object a line with prompt and, if need be, seed, size, negative, "
            "num, steps, guidance, scale. Pictures that are in --out already are skipped.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=1024, help="Of --prompts: pictures in one call; more change their last bits.")
    ] = 1,
    base: model_options.Base = "embedded",
    base_config: model_options.BaseConfig = None,
    adapter: model_options.Adapter = None,
    llm: model_options.Llm = None,
    quantization: model_options.Quantization = None,
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
    device: model_options.Device = None,
    proxy: Any = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw pictures from prompts.

    Every PNG carries what it was drawn with: in the `parameters` chunk that many tools read, and in a chunk of ours
    from which `llmdiff regenerate` redraws it pixel for pixel. Each is written as soon as it is drawn. Files are never
    overwritten, except one that --out names.

    Of a file of prompts, the files are named by line, prompt and seed (which is 0 where nothing else is said), so the
    same command goes on where it was interrupted. `accelerate launch -m llmdiff generate --prompts FILE` divides them
    among all processes that it starts.

    With --proxy, an LLM that cannot be opened has its say: it rewrites each prompt, and the models read the result.
    What it answers is kept, and recorded in the picture; where it has no usable answer, the prompt is drawn as it is.
    """
    from llmdiff.generation import GenerationRequest

    order = (
        ({"seed": seed} if seed is not None else {})
        | dict(negative=negative, steps=steps, guidance=guidance, scale=scale, size=size, num=num)
        | dict(base=base, base_config=base_config, adapter=adapter, llm=llm, quantization=quantization)
        | dict(compare=compare, device=device, prompt_weights=prompt_weights, offload_llm=offload_llm, proxy=proxy)
    )
    if prompt_file is not None:
        _draw_file(prompt_file, prompts, order, out, batch_size, as_json)
        return
    if not prompts:
        raise typer.BadParameter("There is nothing to draw: give a PROMPT, or --prompts with a file of them.")
    request = GenerationRequest.model_validate(order | {"prompts": prompts})
    check_place(out, 1 if compare else len(request.prompts) * num)
    console.rest_when_waiting()
    console.quiet_hosts()
    from llmdiff.generation import generate_each

    files = PictureFiles(out, compare)
    try:
        with console.progress_bar() as progress:
            for picture in generate_each(request, progress):
                files.add(picture)
    finally:
        files.finish(as_json)


def _draw_file(
    file: Path, prompts: list[str] | None, order: dict[str, Any], out: Path, batch_size: int, as_json: bool
) -> None:
    """Draws the pictures of a file of prompts and prints the path of each that is written."""
    from llmdiff.generation import read_prompt_file

    if prompts or order["compare"] or order["offload_llm"] or names_file(out):
        raise LLMDiffError("With --prompts there are no other prompts, no --compare, no --offload-llm and no one file.")
    requests = read_prompt_file(file, order)
    check_place(out, sum(request.num for request in requests.values()))
    console.rest_when_waiting()
    console.quiet_hosts()
    from llmdiff.generation import draw_listed, listed, share_of_process

    pictures = share_of_process(listed(requests, out))
    written: list[str] = []
    with console.progress_bar() as progress:
        for path in draw_listed(pictures, batch_size, progress):
            written.append(str(path))
            if not as_json:
                console.print_line(path)
    if as_json:
        console.print_json({"written": written, "skipped": len(pictures) - len(written)})
