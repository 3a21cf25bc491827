"""Natural captions in one sentence: the same facts in the wordings that people use, and as a list of tags.

"Beneath the gigantic crimson bunny there is a wee ivory brolly, after dark, but no cake."
"""

import re
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.captions import listed
from llmdiff.scenes.phrasing import plural_phrase
from llmdiff.scenes.scene import OPPOSITE, Relation
from llmdiff.scenes.writing import CLOSINGS, LINKS, Chooser
from llmdiff.world.captions import article, noun_phrase
from llmdiff.world.description import Description, Link, Mention
from llmdiff.world.lexicon import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    NAMED_ONLY,
    NUMBER_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
    THING_WORDS,
)
from llmdiff.world.things import THING

_WITHOUT = (
    " without {a}",
    ", but no {noun}",
    ", and there is no {noun}",
    " with no {noun}",
    ", no {noun}",
    ". There is not a single {noun}",
)
FEWEST_KEYWORDS = 3
"""So many keywords a thing must have for them to tell it."""

_MOST_KEYWORDS = 4  # are said of one thing


@dataclass(frozen=True)
class Style:
    """The style of a natural caption."""

    synonym: float = 0.65
    """Chance of each thing being called by a synonym and not by its plain name."""
    plain: float = 0.35
    """Chance of each other word being the plain one."""
    held_out: float = 0.0
    """Chance of each other word being one that training never sees."""
    all_things: bool = False
    """Whether things that training captions call by their names alone are called otherwise too: in tests."""
    keywords: float = 0.0
    """Chance of each thing being told by keywords instead of a name, among tags."""

    def renames(self, kind: str) -> bool:
        """Whether a thing may be called by anything but its plain name."""
        return self.all_things or kind not in NAMED_ONLY


def short_text(description: Description, rng: np.random.Generator, style: Style | None = None) -> str:
    """A natural wording in one sentence, drawn by lot."""
    return Writer(rng, style or Style()).sentence(description)


def tags_text(description: Description, rng: np.random.Generator, style: Style | None = None) -> str:
    """The facts as tags, in any order: "two wee dogs, crimson brolly, after dark, no cake". Relations go unsaid."""
    writer = Writer(rng, style or Style())
    tags = [writer.tag(mention) for mention in description.mentions]
    tags += [writer.place(description.background)] if description.background else []
    tags += [f"no {THING[kind].noun}" for kind in description.absent]
    return ", ".join(tags[i] for i in rng.permutation(len(tags)))


_AFTER_HEAD = re.compile(r" (?:with|for|in|on|to|up) ")


def _plural(synonym: str) -> str:
    """ "slugs with a shell", "emperors of Antarctica"."""
    found = _AFTER_HEAD.search(synonym)
    end = found.start() if found else len(synonym)
    return plural_phrase(synonym[:end], "") + synonym[end:]


class Writer(Chooser):
    """Words one description in one sentence."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        super().__init__(rng, style)
        self.style = style

    def sentence(self, description: Description) -> str:
        names = [self.phrase(mention) for mention in description.mentions]
        linked = {link.b: link for link in description.links if link.b == link.a + 1}
        parts: list[str] = []
        for i, name in enumerate(names):
            # Of three in a row, the second relation would leave open whose it is.
            if i in linked and i - 1 not in linked:
                parts[-1] = self.related(parts[-1], name, linked[i].relation)
            else:
                parts.append(name)
        for link in (linked[i] for i in linked if i - 1 in linked):
            parts[-1] = f"{parts[-1]}, {self.related_again(description, link)}"
        body = listed(parts) if self.chance(0.5) else self.pick(LINKS).join(parts)
        where = self.place(description.background) if description.background else ""
        text = self.opened(body, where) + "".join(
            self.pick(_WITHOUT).format(noun=THING[kind].noun, a=article(THING[kind].noun))
            for kind in description.absent
        )
        return self.finish(text + (self.pick(CLOSINGS) if not description.absent else ""))

    def phrase(self, mention: Mention) -> str:
        """One mention: "a wee crimson bunny"."""
        look, n = mention.look, mention.n
        noun = self.noun(look.kind)
        size = self.choose(SIZE_WORDS[look.size], look.size) if look.size else ""
        colour = self.choose(COLOUR_WORDS[look.colour], look.colour) if look.colour else ""
        if n > 1:
            noun = THING[look.kind].plural if noun == THING[look.kind].noun else _plural(noun)
        head = " ".join(filter(None, (size, colour, noun)))
        return f"{self.choose(NUMBER_WORDS[n], NUMBER_WORDS[n].taught[0])} {head}" if n > 1 else article(head)

    def tag(self, mention: Mention) -> str:
        """One mention among tags: "wee crimson bunny", "wee crimson pet, burrow, Easter"."""
        phrase = self.phrase(mention).removeprefix("a ").removeprefix("an ")
        known = THING_WORDS[mention.look.kind].keywords
        possible = self.style.keywords and self.style.renames(mention.look.kind)
        if not (possible and len(known) >= FEWEST_KEYWORDS and mention.n == 1 and self.chance(self.style.keywords)):
            return phrase
        looks = [self.choose(SIZE_WORDS[mention.look.size], mention.look.size)] if mention.look.size else []
        looks += [self.choose(COLOUR_WORDS[mention.look.colour], mention.look.colour)] if mention.look.colour else []
        some = self.rng.permutation(len(known))[:_MOST_KEYWORDS]
        return " ".join([*looks, ", ".join(known[i] for i in some)])

    def noun(self, kind: str) -> str:
        """What a thing is called."""
        if self.style.renames(kind) and self.chance(self.style.synonym):
            return self.pick(THING_WORDS[kind].synonyms)
        return THING[kind].noun

    def related(self, a: str, b: str, relation: Relation) -> str:
        """`a` in its relation to `b`, said from either side."""
        forwards, backwards = self.relation(relation), self.relation(OPPOSITE[relation])
        return self.in_relation(a, b, forwards, backwards)

    def related_again(self, description: Description, link: Link) -> str:
        """A relation between things that are mentioned already."""
        a, b = (noun_phrase(description.mentions[i]).split(" ", 1)[1] for i in (link.a, link.b))
        return f"the {a} {self.relation(link.relation)} the {b}"

    def relation(self, relation: Relation) -> str:
        return self.choose(RELATION_WORDS[relation], relation)

    def place(self, background: str) -> str:
        words = BACKGROUND_WORDS[background]
        return self.choose(words, words.taught[0])
