"""Captions of all kinds, mixed: what an adapter of the world is trained on.

Things that are named only (`llmdiff.world.lexicon`) go by their plain names in all of them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmdiff.world.captions import plain_text
from llmdiff.world.description import Caption, Description, Detail, describe
from llmdiff.world.languages import can_say, foreign_text
from llmdiff.world.lexicon import NAMED_ONLY, TAUGHT_LANGUAGES
from llmdiff.world.mix import KINDS, Mix
from llmdiff.world.phrasing import Style, short_text, tags_text
from llmdiff.world.prose import Prose, prose_text
from llmdiff.world.scene import Scene
from llmdiff.world.things import NAMES


def mixed_caption(
    scene: Scene, rng: np.random.Generator, things: Sequence[str] = NAMES, mix: Mix | None = None
) -> Caption:
    """A caption of `scene` of a kind drawn by lot, with the facts that it states.

    Args:
        scene: what is shown.
        rng: decides.
        things: names of what is said to be absent.
        mix: the proportions.
    """
    mix = mix or Mix()
    shares = np.array(list(mix.shares().values()))
    kind = KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    description = describe(scene, rng, Detail(links=0.8))
    if kind == "foreign" and not _is_translated(description):
        kind = "short"
    if kind not in ("plain", "foreign") and rng.random() < mix.absent:
        description = with_absent(description, rng, things)
    if kind == "tags":
        description = replace(description, links=())
    return Caption(_text(kind, description, rng, mix), description.facts())


def _text(kind: str, description: Description, rng: np.random.Generator, mix: Mix) -> str:
    if kind == "plain":
        return plain_text(description)
    if kind == "short":
        return short_text(description, rng)
    if kind == "tags":
        return tags_text(description, rng, Style(keywords=mix.keywords))
    if kind == "foreign":
        return foreign_text(description, TAUGHT_LANGUAGES[int(rng.integers(len(TAUGHT_LANGUAGES)))])
    implied = 1.0 if kind == "implied" else 0.1
    return prose_text(description, rng, Prose(implied, mix.defined, long=kind == "long"))


def _is_translated(description: Description) -> bool:
    return can_say(description) and not any(mention.look.kind in NAMED_ONLY for mention in description.mentions)


def with_absent(
    description: Description, rng: np.random.Generator, things: Sequence[str] = NAMES, count: int = 1
) -> Description:
    """The same, and that some other things are not there."""
    shown = {mention.look.kind for mention in description.mentions}
    others = [name for name in things if name not in shown]
    return replace(description, absent=tuple(others[i] for i in rng.choice(len(others), count, replace=False)))
