"""How far a frozen LLM carries from names to other wordings: `python -m world.caption_mix OUT.json` in recipes.

A small reader learns to say which of the first 120 things a caption is of, from states of four blocks of an LLM. It
learns on captions of one kind or of several, in which a quarter of the things go by their plain names alone, as in all
training captions of the world; then it is asked for those, told in other words. The mix of captions on which an adapter
should be trained (`llmdiff.world.mixture`) is one that teaches the other wordings without teaching that they mean only
the things that training describes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from torch import Tensor

from llmdiff.evaluation.bootstrap import crossed_interval
from llmdiff.world.captions import plain_text
from llmdiff.world.description import Description, Detail, describe
from llmdiff.world.languages import foreign_text
from llmdiff.world.lexicon import HELD_OUT_LANGUAGES, NAMED_ONLY, TAUGHT_LANGUAGES, THING_WORDS
from llmdiff.world.phrasing import FEWEST_KEYWORDS, Style, short_text, tags_text
from llmdiff.world.prose import Prose, prose_text
from llmdiff.world.scene import sample
from llmdiff.world.things import FIRST, NAMES
from world.thing_reader import By, States, ThingReader, states_of

THINGS = NAMES[:FIRST]
UNSEEN = [name for name in THINGS if name in NAMED_ONLY]
_DETAIL = Detail(size=0.2, background=0.3)
_Worded = Callable[[Description, np.random.Generator, bool], str]


def _foreign(codes: Sequence[str]) -> _Worded:
    def worded(description: Description, rng: np.random.Generator, every: bool) -> str:
        if not every and description.mentions[0].look.kind in NAMED_ONLY:
            return short_text(description, rng, Style(synonym=0.0))
        return foreign_text(description, codes[int(rng.integers(len(codes)))])

    return worded


KINDS: dict[str, _Worded] = {
    "plain": lambda d, rng, every: plain_text(d),
    "names": lambda d, rng, every: short_text(d, rng, Style(synonym=0.0)),
    "synonyms": lambda d, rng, every: short_text(d, rng, Style(synonym=1.0, all_things=every)),
    "implied": lambda d, rng, every: prose_text(d, rng, Prose(implied=1.0), Style(all_things=every)),
    "definitions": lambda d, rng, every: prose_text(d, rng, Prose(1.0, defined=1.0), Style(all_things=every)),
    "keywords": lambda d, rng, every: tags_text(d, rng, Style(synonym=0.0, all_things=every, keywords=1.0)),
    "languages": _foreign(TAUGHT_LANGUAGES),
    "unseen languages": _foreign(HELD_OUT_LANGUAGES),
}
"""Captions of one thing, by what they call it; last, whether things that training only names are called so too."""

TESTS = tuple(kind for kind in KINDS if kind != "plain")

MIXES: dict[str, dict[str, float]] = {
    "names": {"plain": 0.5, "names": 0.5},
    "+ synonyms, 5 %": {"plain": 0.5, "names": 0.45, "synonyms": 0.05},
    "+ synonyms, 35 %": {"plain": 0.35, "names": 0.3, "synonyms": 0.35},
    "+ implied, 3 %": {"plain": 0.5, "names": 0.47, "implied": 0.03},
    "+ implied, 30 %": {"plain": 0.35, "names": 0.35, "implied": 0.3},
    "+ definitions, 12 %": {"plain": 0.45, "names": 0.43, "definitions": 0.12},
    "+ keywords, 12 %": {"plain": 0.45, "names": 0.43, "keywords": 0.12},
    "+ languages, 13 %": {"plain": 0.45, "names": 0.42, "languages": 0.13},
    "all, implied 12 %": {
        "plain": 0.25, "names": 0.15, "synonyms": 0.3, "languages": 0.13, "keywords": 0.05, "implied": 0.12,
    },
    "all, implied 30 %": {
        "plain": 0.2, "names": 0.1, "synonyms": 0.2, "languages": 0.1, "keywords": 0.05, "definitions": 0.1,
        "implied": 0.25,
    },
}  # fmt: skip
"""Shares of kinds of captions, by what the table calls the mix."""


@dataclass(frozen=True)
class Told:
    """Captions of things, and the numbers of these."""

    texts: tuple[str, ...]
    things: tuple[int, ...]


def told(kind: str, things: Sequence[str], each: int, seed: int, every: bool) -> Told:
    """So many captions of each of the things.

    Args:
        kind: of `KINDS`.
        things: their names.
        each: captions of one thing.
        seed: of the lot.
        every: whether things that training only names are called otherwise too.
    """
    texts, numbers = [], []
    for name in things:
        rng = np.random.default_rng((seed, list(KINDS).index(kind), NAMES.index(name)))
        for _ in range(each):
            texts.append(KINDS[kind](describe(sample(rng, [name], count=1), rng, _DETAIL), rng, every))
            numbers.append(THINGS.index(name))
    return Told(tuple(texts), tuple(numbers))


def askable(kind: str) -> list[str]:
    """Things that are only named in training and have words of a kind to be asked in."""
    if kind == "definitions":
        return [name for name in UNSEEN if THING_WORDS[name].definition]
    return [name for name in UNSEEN if kind != "keywords" or len(THING_WORDS[name].keywords) >= FEWEST_KEYWORDS]


@dataclass(frozen=True)
class Captions:
    """The captions of one kind as an LLM reads them, and their things (N,)."""

    states: States
    things: Tensor


def read(llm: str, each: int, tested: int, seed: int) -> tuple[dict[str, Captions], dict[str, Captions]]:
    """Captions for training, of all kinds that have a part in a mix, and for tests, of things that are only named."""
    taught = {kind: told(kind, THINGS, each, seed, every=False) for kind in KINDS if kind != "unseen languages"}
    asked = {kind: told(kind, askable(kind), tested, seed + 1, every=True) for kind in TESTS}
    both = [*taught.values(), *asked.values()]
    states = states_of(llm, [text for one in both for text in one.texts])
    captions = []
    for one in both:
        captions.append(Captions(states[: len(one.texts)], torch.tensor(one.things)))
        states = states[len(one.texts) :]
    return dict(zip(taught, captions, strict=False)), dict(zip(asked, captions[len(taught) :], strict=True))


def trained(captions: dict[str, Captions], mix: dict[str, float], by: By, steps: int, seed: int) -> ThingReader:
    """A reader trained on so many batches of captions of a mix; every thing comes as often as another."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    reader = ThingReader(FIRST, by)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    kinds, shares = list(mix), np.array(list(mix.values()))
    for _ in range(steps):
        drawn = rng.multinomial(_BATCH, shares / shares.sum())
        parts = [
            (captions[kind], rng.integers(len(captions[kind].things), size=n))
            for kind, n in zip(kinds, drawn, strict=True)
        ]
        wanted = torch.cat([part.things[torch.from_numpy(chosen)] for part, chosen in parts])
        vectors = torch.cat([reader(part.states.batch(chosen)) for part, chosen in parts if len(chosen)])
        optimizer.zero_grad()
        reader.loss(vectors, wanted).backward()
        optimizer.step()
        schedule.step()
    return reader.eval()


_BATCH = 64


@torch.no_grad()
def right(reader: ThingReader, captions: Captions) -> np.ndarray:
    """Which captions are told right: float (N,)."""
    count = len(captions.things)
    parts = [np.arange(first, min(first + _BATCH, count)) for first in range(0, count, _BATCH)]
    said = torch.cat([reader.named(reader(captions.states.batch(part))) for part in parts])
    return (said == captions.things).double().numpy()


def main(
    out: Annotated[Path, typer.Argument(help="JSON file of the rows.")],
    llm: Annotated[list[str] | None, typer.Option(help="names of `llmdiff models list`; again for several")] = None,
    seeds: Annotated[int, typer.Option(help="trainings of each mix")] = 3,
    steps: int = 300,
    each: Annotated[int, typer.Option(help="captions of a thing and kind, for training")] = 4,
    by: Annotated[Literal["names", "vectors", "both"], typer.Option(help="what readers learn by")] = "both",
    tested: Annotated[int, typer.Option(help="the same, for tests")] = 4,
    mix: Annotated[list[str] | None, typer.Option(help="name of a mix; by default all")] = None,
) -> None:
    """Prints a table for each LLM, and writes its rows."""
    torch.set_num_threads(1)
    objectives: list[By] = ["names", "vectors"] if by == "both" else [by]
    rows: list[dict] = []
    for name in llm or ["smollm2-135m"]:
        taught, asked = read(name, each, tested, seed=41)
        for kind, label in product(objectives, mix or MIXES):
            readers = [trained(taught, MIXES[label], kind, steps, seed) for seed in range(seeds)]
            found = {k: np.stack([right(one, captions) for one in readers]) for k, captions in asked.items()}
            rows.append(
                {"llm": name, "by": kind, "mix": label, "seeds": seeds, **{k: _figure(v) for k, v in found.items()}}
            )
            typer.echo(_line(rows[-1]))
            out.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", "utf-8")


def _figure(values: np.ndarray) -> list[float]:
    """Share, and the ends of its interval over trainings and captions, of (seeds, N)."""
    return [round(float(x), 3) for x in (values.mean(), *crossed_interval(values))]


def _line(row: dict) -> str:
    shown = [f"{100 * row[k][0]:.0f} ({100 * row[k][1]:.0f}–{100 * row[k][2]:.0f})" for k in TESTS]
    return f"| {row['llm']} | {row['by']} | {row['mix']} | " + " | ".join(shown) + " |"


if __name__ == "__main__":
    typer.run(main)
