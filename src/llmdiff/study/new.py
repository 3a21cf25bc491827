"""A new study: prompts are fixed, pictures are drawn or found, and all that names a system is taken off them."""

import hashlib
import json
import random
import secrets
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.generation import draw_listed, listed, pictures_in, prompt_of, read_picture, read_prompt_file, save_png
from llmdiff.generation.found import check_same_names, no_prompt
from llmdiff.generation.prompt_file import LARGEST
from llmdiff.progress import Progress, silent
from llmdiff.study.config import StudyConfig
from llmdiff.study.plan import MANIFEST, PICTURES, Pair, Shown, Study, checks_needed

DRAWN = "drawn"
_PIECES = 4  # a side of a check's wrong picture
Prompts = Mapping[str, str]
"""Prompts by the name of their picture."""


def new_study(config: StudyConfig, folder: Path, progress: Progress = silent) -> Study:
    """Makes a study in a folder; after an interruption the same call goes on, and draws nothing twice.

    Args:
        config: What is compared.
        folder: New, or that of the same study that was interrupted.
        progress: Shows how far it is.

    Returns:
        The study. Its pictures have random names and nothing but pixels; what names their systems stands in
        ``study.json``, which no rater is given.

    Raises:
        LLMDiffError: There is a study in the folder, the prompts have changed since it was begun, the systems do not
            have the same pictures of the same prompts and sizes, or a picture cannot be drawn or read.

    Example:
        >>> config = StudyConfig(systems={"a": {"pictures": "a"}, "b": {"pictures": "b"}}, trials=20)
        >>> study = new_study(config, Path("new-study"))
        >>> study.systems
        ('a', 'b')
    """
    if (folder / MANIFEST).exists():
        raise LLMDiffError(f"There is a study in {folder} already: choose another folder.")
    fixed = None if config.prompts is None else _fix_prompts(config, folder)
    sources = {
        name: Path(str(settings["pictures"])) for name, settings in config.systems.items() if "pictures" in settings
    }
    names: dict[str, str] = {}
    if fixed is not None:
        for system in config.drawn():
            sources[system] = folder / DRAWN / _folder_name(system)
            names |= _draw(config, system, fixed, sources[system], progress)
    study = _Maker(config, folder, {name: sources[name] for name in config.systems}, names).make(progress)
    study.save()
    return study


def _fix_prompts(config: StudyConfig, folder: Path) -> Path:
    """The file of prompts in the study's folder: written once, never changed."""
    source = config.prompts
    if isinstance(source, Path):
        path = folder / f"prompts{source.suffix.lower()}"
        try:
            text = read_text(open_regular(source), LARGEST)
        except (OSError, UnicodeError) as error:
            raise LLMDiffError(f"The file of prompts {source} cannot be read ({why_not(error)}).") from error
    else:
        path = folder / "prompts.jsonl"
        text = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in source or ())
    if path.exists() and read_text(open_regular(path), LARGEST) != text:
        raise LLMDiffError(f"The prompts have changed since the study in {folder} was begun: choose another folder.")
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _draw(config: StudyConfig, system: str, prompts: Path, folder: Path, progress: Progress) -> dict[str, str]:
    """Draws what a system has not drawn yet; gives the prompts by the names of their pictures."""
    requests = read_prompt_file(prompts, dict(config.systems[system]) | {"num": config.seeds})
    pictures = listed(requests, folder)
    for _ in draw_listed(pictures, progress=lambda stage, share: progress(f"{stage} ({system})", share)):
        pass
    return {one.path.stem: one.request.prompts[0] for one in pictures}


def _folder_name(system: str) -> str:
    """A name that any file system takes, another one for each system."""
    return hashlib.sha256(system.encode()).hexdigest()[:12]


class _Maker:
    """Makes pairs of the pictures of several systems, which have the same names in all of them."""

    def __init__(self, config: StudyConfig, folder: Path, sources: Mapping[str, Path], prompts: Prompts) -> None:
        self._config = config
        self._folder = folder
        self._prompts = prompts
        self._files = {system: pictures_in(source) for system, source in sources.items()}
        self._seed = secrets.randbelow(2**53) if config.seed is None else config.seed
        self._rng = random.Random(f"{self._seed} pictures")

    def make(self, progress: Progress) -> Study:
        check_same_names(self._files)
        names = sorted(next(iter(self._files.values())))
        pairs: list[Pair] = []
        for number, name in enumerate(names):
            progress("Copying pictures", number / len(names))
            pairs += self._pairs(name)
        self._rng.shuffle(pairs)  # of several systems, the order of a prompt's pairs would tell whose they are
        config = self._config
        return Study(
            title=config.title,
            questions=config.questions,
            systems=tuple(config.systems),
            trials=config.trials,
            repeats=config.repeats,
            seed=self._seed,
            pairs=tuple(pairs),
            checks=tuple(self._checks(pairs)),
            folder=self._folder,
        )

    def _pairs(self, name: str) -> Iterator[Pair]:
        images, prompt = self._read(name)
        shown = {system: self._copy(system, image) for system, image in images.items()}
        for pair in combinations(shown.values(), 2):
            first, second = self._rng.sample(pair, 2)
            yield Pair(prompt=prompt, name=name, pictures=(first, second))

    def _read(self, name: str) -> tuple[dict[str, Image.Image], str]:
        """The pictures of a name by system, and their prompt."""
        images: dict[str, Image.Image] = {}
        prompts: dict[str, str] = {}
        for system, files in self._files.items():
            images[system], chunks = read_picture(files[name])
            own = self._prompts.get(name) or prompt_of(files[name], chunks)
            if own is not None:
                prompts[own] = system
            if images[system].size != next(iter(images.values())).size:
                raise LLMDiffError(
                    f"The pictures {name!r} have different sizes, which tell their systems apart: make them equal."
                )
        if not prompts:
            raise no_prompt(next(iter(self._files.values()))[name])
        if len(prompts) > 1:
            first, second, *_ = prompts.values()
            raise LLMDiffError(f"The picture {name!r} of {first!r} has another prompt than that of {second!r}.")
        return images, next(iter(prompts))

    def _copy(self, system: str, image: Image.Image) -> Shown:
        """Pixels alone, under a name that no seed gives away."""
        shown = Shown(system=system, picture=secrets.token_hex(8))
        save_png(self._folder / PICTURES / f"{shown.picture}.png", Image.fromarray(np.asarray(image)))
        return shown

    def _checks(self, pairs: list[Pair]) -> Iterator[Pair]:
        count = checks_needed(min(self._config.trials, len(pairs)), self._config.checks)
        for pair in self._rng.choices(pairs, k=count):
            right = self._rng.choice(pair.pictures)
            image, _ = read_picture(self._folder / PICTURES / f"{right.picture}.png")
            wrong = self._copy("", _in_disorder(image, self._rng))
            yield Pair(prompt=pair.prompt, name=pair.name, pictures=(right, wrong))


def _in_disorder(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture cut into pieces, none of which is where it was."""
    columns = [image.width * n // _PIECES for n in range(_PIECES + 1)]
    rows = [image.height * n // _PIECES for n in range(_PIECES + 1)]
    boxes = [(x0, y0, x1, y1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]
    order = list(range(len(boxes)))
    rng.shuffle(order)
    result = image.copy()
    for place, piece in zip(order, order[1:] + order[:1], strict=True):
        x0, y0, x1, y1 = boxes[place]
        result.paste(image.crop(boxes[piece]).resize((x1 - x0, y1 - y0)), (x0, y0))
    return result
