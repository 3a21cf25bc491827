"""Pictures of a prompt suite: the file that `llmdiff generate` draws, and the layout that the suite's scorer reads."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.suites import SuitePrompt
from llmdiff.files import written_whole
from llmdiff.generation import GenerationRequest, listed, prompt_of, read_picture
from llmdiff.progress import Progress, silent

_LONGEST_NAME = 255  # bytes of a file's name


def write_suite_prompts(prompts: Sequence[SuitePrompt], path: Path, pictures: int) -> None:
    """Writes the file for `llmdiff generate --prompts`: a line for each prompt, with its seed and number of pictures.

    Args:
        prompts: As `read_suite` gives them.
        path: Of the file, ending in .jsonl.
        pictures: Of each prompt, with the seeds from 0 on.

    Raises:
        LLMDiffError: The file has another ending.
    """
    if path.suffix != ".jsonl":
        raise LLMDiffError(f"{path} is to be a file of JSON lines: give it a name that ends in .jsonl.")
    with written_whole(path) as draft:
        lines = [json.dumps({"prompt": one.prompt, "seed": 0, "num": pictures}) for one in prompts]
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def arrange(
    suite: str, prompts: Sequence[SuitePrompt], drawn: Path, pictures: int, out: Path, progress: Progress = silent
) -> int:
    """Lays out drawn pictures of a suite as its own scorer reads them.

    Args:
        suite: One with a layout of its own, see `LAYOUTS`.
        prompts: Of the suite, from the copy that `write_suite_prompts` was given.
        drawn: Where `llmdiff generate --prompts FILE --out DRAWN` has put the pictures.
        pictures: Of each prompt.
        out: A folder that is not there yet.
        progress: Shows how far it is.

    Returns:
        The number of files that were written.

    Raises:
        LLMDiffError: A picture is missing or of another prompt, the scorer of that suite could not read a name, or the
            folder is there already.
    """
    if suite not in LAYOUTS:
        raise LLMDiffError(f"{suite!r} has no scorer of its own: score its pictures by `llmdiff evaluate pictures`.")
    if out.exists():
        raise LLMDiffError(f"There is a folder {out} already: choose another --out.")
    by_prompt = _drawn(prompts, drawn, pictures)
    writer, count = LAYOUTS[suite](out), 0
    for number, (prompt, files) in enumerate(zip(prompts, by_prompt, strict=True)):
        count += writer(prompt, files, number)
        progress("laying out pictures", (number + 1) / len(prompts))
    return count


def _drawn(prompts: Sequence[SuitePrompt], folder: Path, pictures: int) -> list[list[Path]]:
    """The pictures of each prompt, all of which are there and of that prompt."""
    requests = {
        number: GenerationRequest(prompts=[one.prompt], seed=0, num=pictures) for number, one in enumerate(prompts, 1)
    }
    paths = [one.path for one in listed(requests, folder)]
    for path, prompt in zip(paths, (one.prompt for one in prompts for _ in range(pictures)), strict=True):
        if not path.is_file():
            raise LLMDiffError(
                f"The picture {path} of {prompt[:60]!r} is missing: draw with `llmdiff generate --prompts` and the "
                "file that `llmdiff evaluate suite prompts` has written for as many pictures of each prompt."
            )
        if prompt_of(path, read_picture(path)[1]) != prompt:
            raise LLMDiffError(f"{path} is a picture of another prompt than {prompt[:60]!r}.")
    return [paths[first : first + pictures] for first in range(0, len(paths), pictures)]


_Writer = Callable[[SuitePrompt, list[Path], int], int]


def _geneval(out: Path) -> _Writer:
    """A folder for each prompt, with what the suite says of it beside its pictures."""

    def write(prompt: SuitePrompt, files: list[Path], _: int) -> int:
        _copy(files, [out / prompt.name / "samples" / f"{number:05}.png" for number in range(len(files))])
        with written_whole(out / prompt.name / "metadata.jsonl") as draft:
            draft.write_text(json.dumps(prompt.row), encoding="utf-8")
        return len(files) + 1

    return write


def _dpg(out: Path) -> _Writer:
    """One file for each prompt: 1 picture, or up to 4 in a square, of which the scorer cuts out as many."""

    def write(prompt: SuitePrompt, files: list[Path], _: int) -> int:
        if len(files) > 4:
            raise LLMDiffError("DPG-Bench's scorer takes at most 4 pictures of a prompt.")
        if "." in prompt.name:
            raise LLMDiffError(f"DPG-Bench's scorer cannot read a name with a full stop, {prompt.name!r}.")
        images = [read_picture(file)[0] for file in files]
        with written_whole(out / f"{prompt.name}.png") as draft:
            _square(images).save(draft, "PNG")
        return 1

    return write


def _square(images: Sequence[Image.Image]) -> Image.Image:
    width, height = images[0].size
    if any(image.size != (width, height) or width != height for image in images):
        raise LLMDiffError("DPG-Bench's scorer takes square pictures of one size.")
    side = 1 if len(images) == 1 else 2
    sheet = Image.new("RGB", (side * width, side * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % side * width, number // side * height))
    return sheet


def _compbench(out: Path) -> _Writer:
    """The scorer takes the prompt from the name, up to the first underscore."""

    def write(prompt: SuitePrompt, files: list[Path], number: int) -> int:
        if set("_/\0") & set(prompt.prompt) or len(prompt.prompt.encode()) + 11 > _LONGEST_NAME:
            raise LLMDiffError(
                f"The prompt {prompt.prompt[:60]!r} cannot be the name of a file, from which T2I-CompBench's scorer "
                "reads it: leave it out, or shorten it."
            )
        first = number * len(files)
        names = [f"{prompt.prompt}_{first + place:06}.png" for place in range(len(files))]
        _copy(files, [out / "samples" / name for name in names])
        return len(files)

    return write


def _unigenbench(out: Path) -> _Writer:
    """The scorer takes the suite's index as a whole number."""

    def write(prompt: SuitePrompt, files: list[Path], _: int) -> int:
        if not prompt.name.isdecimal():
            raise LLMDiffError(f"The index {prompt.name[:60]!r} of a prompt of UniGenBench is no number.")
        _copy(files, [out / f"{int(prompt.name)}_{place}.png" for place in range(len(files))])
        return len(files)

    return write


def _copy(files: Sequence[Path], places: Sequence[Path]) -> None:
    for file, place in zip(files, places, strict=True):
        with written_whole(place) as draft:
            shutil.copyfile(file, draft)


LAYOUTS: dict[str, Callable[[Path], _Writer]] = {
    "geneval": _geneval,
    "dpg": _dpg,
    "compbench": _compbench,
    "unigenbench": _unigenbench,
}
"""By the name of the suite."""
