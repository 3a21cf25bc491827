"""`llmdiff explain`: why a picture came out as it did."""

from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console, model_options
from llmdiff.cli.picture_files import check_place, first_free, names_file


def explain(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt to explain.")],
    base: model_options.Base = "embedded",
    base_config: model_options.BaseConfig = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="Adapter: 'embedded', a folder, or a Hub id.", show_default="embedded, with that base"),
    ] = None,
    llm: model_options.Llm = None,
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = "",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 turns it off.")] = 5.0,
    scale: Annotated[float, typer.Option(help="Strength of the adapter.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the picture.")] = 0,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size in pixels.", show_default="that of the base model")
    ] = None,
    exchange: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD=OTHER", help="Exchange a word, instead of leaving it out. Repeat it."),
    ] = None,
    among: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts, one a line, of which the nearest are named.",
            show_default="of the embedded base: some of its benchmark's; else none",
        ),
    ] = None,
    nearest: Annotated[int, typer.Option(min=0, max=100, help="How many of the nearest prompts to name.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder, or the .png file to write.")] = Path("out"),
    device: model_options.Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON, and the file's path.")] = False,
) -> None:
    """Show where the words of a prompt go, in one picture.

    Attention of each word over the picture, of the base model and of the adapter; the weight that the adapter has
    learned for each block of its LLM; how far the encoding moves when a word is left out or exchanged; the prompts that
    the LLM reads most alike. docs/explain.md says how each is measured.
    """
    from llmdiff.explanation.words import check_exchanged, check_words
    from llmdiff.generation import GenerationRequest

    request = GenerationRequest.model_validate(
        dict(prompts=[prompt], negative=negative, steps=steps, guidance=guidance, scale=scale, seed=seed, size=size)
        | dict(base=base, base_config=base_config, adapter=adapter, llm=llm, device=device)
    )
    replacements = dict(_pair(text) for text in exchange or [])
    prompts = _prompts(among, base) if nearest else []
    check_words(prompt)
    check_exchanged(prompt, replacements)
    check_place(out, 1)
    console.rest_when_waiting()
    console.quiet_hosts()
    from llmdiff.explanation import explain as run
    from llmdiff.explanation import write_figure
    from llmdiff.generation import Renderer, file_stem

    with console.progress_bar() as progress:
        progress("Loading models", 0.0)
        renderer = Renderer.load(request.models(), device=device)
        [settings] = request.pictures(renderer.default_size())
        found = run(
            renderer, settings, replacements=replacements, among=prompts, nearest=nearest, progress=progress
        )  # fmt: skip
    path = out
    if names_file(out):
        write_figure(found, out)
    else:
        stem = f"{file_stem(prompt, seed)}-why"
        path = first_free(out, stem, lambda place: write_figure(found, place, replace=False))
    if as_json:
        console.print_json({"path": str(path), **found.as_json()})
    else:
        console.print_line(path)


def _pair(text: str) -> tuple[str, str]:
    word, equals, other = text.partition("=")
    if not (word and equals):
        raise typer.BadParameter(f"{text!r} is not of the form WORD=OTHER.")
    return word, other


def _prompts(file: Path | None, base: str) -> list[str]:
    """The prompts among which the nearest are looked for."""
    if file is not None:
        from llmdiff.generation import read_prompt_file

        return [request.prompts[0] for request in read_prompt_file(file, {"adapter": "none"}).values()]
    from llmdiff.evaluation.prompts import known_prompts

    return known_prompts(base)
