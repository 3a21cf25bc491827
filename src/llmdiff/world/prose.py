"""Captions of several sentences: things by what they are instead of by name, and long texts with the facts spread.

"Draw a pet that barks and wags its tail. It is crimson. Right of it you see a lemon. We are in the snow."
"""

import re
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.scene import OPPOSITE
from llmdiff.world.captions import article
from llmdiff.world.description import Description, Mention
from llmdiff.world.lexicon import COLOUR_WORDS, SIZE_WORDS, THING_WORDS
from llmdiff.world.phrasing import Style, Writer
from llmdiff.world.things import THING
from llmdiff.world.vocabulary import COLOURS

SHORTEST, LONGEST = 60, 200
"""Words of a long caption."""

_FIRST = ("Draw {}.", "There is {}.", "You see {}.", "Imagine {}.", "We look at {}.", "The picture shows {}.")
_NEXT = ("Then there is {}.", "You also see {}.", "{}, too, belongs here.", "It shows {} as well.", "Add {}.")
_LINKED = ("{}, there is {}.", "{}, you see {}.", "{}, we find {}.")
_PLACES = ("Let it be {}.", "All this is {}.", "It happens {}.", "The whole scene is {}.", "Everything is {}.")
_ABSENT = ("There is no {} anywhere.", "Leave out any {}.", "No {}, please.", "You will look for a {} in vain.")
_FILLERS = (
    "Nobody knows how it came to be like this, and nobody minds.",
    "The picture is a simple one, such as you find in a book for small children.",
    "I thought about it for a long time before I asked for it.",
    "My niece asked for exactly this and would not take anything else.",
    "Please take care that it is drawn neatly, with clear edges and plain surfaces.",
    "It should look friendly, and one should see at first sight what is what.",
    "Somebody told me about it last week, and I have not forgotten a word.",
    "Perhaps this sounds odd, but it is what the story says.",
    "The story goes on from here, though that is not for today.",
    "When you have read all of this, you will know what to do.",
    "It is quiet, and nothing moves at all.",
    "There is enough room for everything that I mention.",
    "I would have drawn it myself if my hands were steadier.",
    "Do not hurry; read to the end before you begin.",
    "Whoever looks at it should smile a little.",
    "That is how I remember it from long ago.",
    "I am sure that you have seen something of the kind before.",
    "Let nothing else distract from what I describe.",
)  # fmt: skip


_ALL = {2: "They both", 3: "All three", 4: "All four"}

_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)}|grey|golden|violet|gold|silver|dark|rosy|colou?r\w*)\b")
"""What says a thing's own colour: a tinted thing is not told by such a description."""


@dataclass(frozen=True)
class Prose:
    """How things are called in captions of several sentences, the rest as in `Style`."""

    implied: float = 0.0
    """Chance of each thing being told by what it is: its class with a distinguishing mark, a description, a riddle."""
    defined: float = 0.0
    """Chance of a thing that is told so being told by a dictionary's definition."""
    long: bool = False
    """Whether sentences that say nothing of the picture stand between, to `SHORTEST` words at least."""


def prose_text(
    description: Description, rng: np.random.Generator, prose: Prose | None = None, style: Style | None = None
) -> str:
    """A wording in several sentences, drawn by lot."""
    prose = prose or Prose()
    writer = _Teller(rng, style or Style(), prose)
    sentences = writer.sentences(description)
    fillers = [_FILLERS[i] for i in rng.permutation(len(_FILLERS))] if prose.long else []
    wanted = int(rng.integers(SHORTEST, LONGEST - 30)) if prose.long else 0
    while fillers and sum(len(s.split()) for s in sentences) < wanted:
        sentences.insert(writer.gap(sentences), fillers.pop())
    return " ".join(sentences)


class _Teller(Writer):
    def __init__(self, rng: np.random.Generator, style: Style, prose: Prose) -> None:
        super().__init__(rng, style)
        self.prose = prose

    def sentences(self, description: Description) -> list[str]:
        body: list[str] = []
        linked = {link.b: link for link in description.links if link.b == link.a + 1}
        for i, mention in enumerate(description.mentions):
            if i in linked:
                where = self.relation(OPPOSITE[linked[i].relation]) + " it"
                patterns = tuple(p.format(where[0].upper() + where[1:], "{}") for p in _LINKED)
            else:
                patterns = _NEXT if i else _FIRST
            body += self.mentioned(mention, patterns)
        ends = [self.pick(_ABSENT).format(THING[kind].noun) for kind in description.absent]
        if description.background:
            place = self.pick(_PLACES).format(self.place(description.background))
            # A place told between two things would part "it" from what it stands for.
            ends.append(place) if self.chance(0.5) else body.insert(0, place)
        return body + ends

    def mentioned(self, mention: Mention, patterns: tuple[str, ...]) -> list[str]:
        """A thing in one sentence or more."""
        kind, n = mention.look.kind, mention.n
        words = THING_WORDS[kind]
        options = tuple(
            text for text in (words.mark, words.description) if not (mention.look.colour and _COLOUR.search(text))
        )
        implied = bool(options) and n == 1 and self.style.renames(kind) and self.chance(self.prose.implied)
        if implied and self.prose.defined and words.definition and self.chance(self.prose.defined):
            definition = f"{self.pick(('something defined as', 'this', 'the following'))}: {words.definition}"
            return [_sentence(self.pick(patterns), definition), *self.looks(mention)]
        if implied and words.riddle and patterns is _FIRST and self.chance(0.3):
            return [f"{words.riddle} {self.pick(('Draw me', 'Show me', 'Paint me'))}.", *self.looks(mention)]
        if not implied and not (self.prose.long and self.chance(0.6)):
            return [_sentence(self.pick(patterns), self.phrase(mention))]
        if implied:
            name = article(self.pick(options))
        else:
            bare = Mention(type(mention.look)(kind), n)
            name = self.phrase(bare) if n > 1 else article(self.noun(kind))
        return [_sentence(self.pick(patterns), name), *self.looks(mention)]

    def looks(self, mention: Mention) -> list[str]:
        """Size and colour of what was just named, in sentences of their own."""
        look, many = mention.look, mention.n > 1
        words = []
        if look.size:
            words.append(self.choose(SIZE_WORDS[look.size], look.size))
        if look.colour:
            words.append(self.choose(COLOUR_WORDS[look.colour], look.colour))
        subject = f"{_ALL[mention.n]} are" if many else "It is"
        if len(words) == 2 and self.chance(0.5):
            return [f"{subject} {words[0]} and {words[1]}."]
        return [f"{subject} {word}." for word in words]

    def gap(self, sentences: list[str]) -> int:
        """A place between two sentences, but not before one that goes on with "it"."""
        places = [i for i in range(1, len(sentences) + 1) if i == len(sentences) or not _goes_on(sentences[i])]
        return places[int(self.rng.integers(len(places)))]


def _sentence(pattern: str, name: str) -> str:
    text = pattern.format(name)
    return text[0].upper() + text[1:]


def _goes_on(sentence: str) -> bool:
    """Whether a sentence speaks of what the one before it named."""
    return sentence.startswith(("It is ", *_ALL.values())) or " it, " in sentence
