"""`llmdiff evaluate pictures` and `llmdiff evaluate all`: scores of pictures that are there, or are drawn for this."""

from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console
from llmdiff.cli.score_table import print_scores

_AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps, of the scoring models.", show_default="cpu")]
_ClipIqa = Annotated[
    str | None, typer.Option("--clip-iqa", metavar="MODEL", help="CLIP-IQA: folder or Hub id of a CLIP.")
]


def pictures(
    folders: Annotated[
        list[str], typer.Argument(metavar="[NAME=]FOLDER...", help="Pictures; same file names in all folders.")
    ],
    siglip: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="SigLIP score: 'embedded' (of picture-book scenes), or folder or Hub id of a SigLIP, SigLIP 2, CLIP "
            "or PickScore.",
        ),
    ] = None,
    clip_iqa: _ClipIqa = None,
    scenes: Annotated[
        bool, typer.Option("--scenes", help="Facts shown, of pictures of the scene benchmark's prompts.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Fréchet distance and CMMD to --reference: a DINOv2, CLIP, SigLIP or ViT, or 'embedded'.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures that distances are taken to, of any names.")
    ] = None,
    device: _Device = None,
    as_json: _AsJson = False,
) -> None:
    """Score pictures that are there, whoever drew them: how well they match their prompts and how good they look.

    The prompt of a picture is in its PNG (llmdiff's or the web UI's) or in a text file of its name beside it. Of
    several folders the differences to the first are scored too, picture by picture. Intervals (95 %) are bootstrapped
    over prompts; those of distances are of the jackknife over blocks of pictures.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_pictures

    with console.progress_bar() as progress:
        rows = evaluate_pictures(
            _named(folders), siglip, clip_iqa, device, progress, scenes=scenes, features=features, reference=reference
        )
    console.print_json(rows) if as_json else print_scores(rows)


def all_scores(
    base: Annotated[str, typer.Option(help="Base model.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="'embedded', a folder, a Hub id, or 'none'.")] = "embedded",
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prompts as for `llmdiff generate --prompts`.", show_default="of the scene benchmark"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Scene prompts of each group.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures of each scene prompt.")] = 2,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[
        float, typer.Option(min=0, max=100, callback=console.finite, help="Classifier-free guidance scale.")
    ] = 4.0,
    guidance_sweep: Annotated[
        str, typer.Option(callback=console.numbers, help="Scales at which the base is drawn too; '' for none.")
    ] = "1,2,8,20",
    siglip: Annotated[str, typer.Option(metavar="MODEL", help="Of the SigLIP score, or 'none'.")] = "embedded",
    clip_iqa: _ClipIqa = None,
    features: Annotated[
        str, typer.Option(metavar="MODEL", help="Of distances to the reference, or 'none'.")
    ] = "embedded",
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pictures that distances are taken to.", show_default="drawn scenes"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures, which stay there.")] = Path("out/evaluation"),
    device: _Device = None,
    as_json: _AsJson = False,
) -> None:
    """Draw with a base and its adapter, and with the base at other scales of guidance, and print all scores.

    Each is given beside the difference of the adapter to the base, prompt by prompt. With a file of prompts and models
    of your own it serves any base; without options it needs no network. If it is interrupted, the same command goes on
    where it was.
    """
    console.quiet_hosts()
    from llmdiff.evaluation.overview import Overview, evaluate_all

    settings = Overview(
        base, adapter, prompts, limit, seeds, steps, guidance, console.as_numbers(guidance_sweep),
        _unless_none(siglip), clip_iqa, _unless_none(features), reference, device,
    )  # fmt: skip
    with console.progress_bar() as progress:
        rows = evaluate_all(settings, out, progress)
    console.print_json(rows) if as_json else print_scores(rows)


def _unless_none(name: str) -> str | None:
    return None if name == "none" else name


def _named(folders: list[str]) -> dict[str, Path]:
    """Folders by the name that they were given, or else their own."""
    named: dict[str, Path] = {}
    for text in folders:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else path.name or text
        if name in named:
            raise typer.BadParameter(f"Two folders are called {name!r}: name them by NAME=FOLDER.")
        named[name] = path
    return named
