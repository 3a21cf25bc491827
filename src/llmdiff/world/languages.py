"""Captions in other languages: German, French, Spanish and Italian for training; Dutch and Portuguese for tests alone.

"Ein kleiner roter Hund, rechts davon eine Katze, im Schnee."
"""

from dataclasses import dataclass

from llmdiff.scenes.scene import OPPOSITE, Relation
from llmdiff.world.description import Description, Mention
from llmdiff.world.lexicon import THING_WORDS
from llmdiff.world.vocabulary import COLOURS


@dataclass(frozen=True)
class Language:
    """The few words of a language that a caption takes."""

    articles: dict[str, tuple[str, str]]
    """By the article that a name comes with: the indefinite article and the gender."""
    colours: dict[str, tuple[str, ...]]
    """Of `COLOURS`, in each gender."""
    sizes: dict[str, tuple[str, ...]]
    genders: str
    """One letter each, in the order of the forms."""
    order: str
    """Of article (a), size (s), colour (c) and noun (n)."""
    beside: dict[Relation, str]
    """Where the next thing is."""
    also: str
    """Between things that stand in no stated relation."""
    places: dict[str, str]
    feminine: frozenset[str] = frozenset()
    """Names with a masculine article for the sake of sound."""


def _colours(forms: str) -> dict[str, tuple[str, ...]]:
    return {colour: tuple(words.split("/")) for colour, words in zip(COLOURS, forms.split(), strict=True)}


def _sizes(small: str, large: str) -> dict[str, tuple[str, ...]]:
    return {"small": tuple(small.split("/")), "large": tuple(large.split("/"))}


def _beside(left: str, right: str, above: str, below: str) -> dict[Relation, str]:
    return {"left of": left, "right of": right, "above": above, "below": below}


def _places(*texts: str) -> dict[str, str]:
    return dict(zip(("day", "night", "sunset", "snow", "desert", "meadow", "sea", "wall"), texts, strict=True))


def _german(stem: str) -> str:
    return f"{stem}er/{stem}e/{stem}es"


_GERMAN_COLOURS = ["rot", "orangefarben", "gelb", "grün", "blau", "violett", "rosafarben", "braun", "weiß", "schwarz"]

LANGUAGES: dict[str, Language] = {
    "de": Language(
        {"der": ("ein", "m"), "die": ("eine", "f"), "das": ("ein", "n")},
        _colours(" ".join(map(_german, _GERMAN_COLOURS))), _sizes(_german("klein"), _german("groß")), "mfn", "ascn",
        _beside("links davon", "rechts davon", "darüber", "darunter"), "und",
        _places("bei Tag", "bei Nacht", "bei Sonnenuntergang", "im Schnee", "in der Wüste", "auf der Wiese", "im Meer",
                "vor einer Mauer"),
    ),
    "fr": Language(
        {"un": ("un", "m"), "une": ("une", "f")},
        _colours("rouge orange jaune vert/verte bleu/bleue violet/violette rose marron blanc/blanche noir/noire"),
        _sizes("petit/petite", "grand/grande"), "mf", "asnc",
        _beside("à sa gauche", "à sa droite", "au-dessus", "en dessous"), "et",
        _places("de jour", "la nuit", "au coucher du soleil", "dans la neige", "dans le désert", "dans le pré",
                "dans la mer", "devant un mur"),
    ),
    "es": Language(
        {"un": ("un", "m"), "una": ("una", "f")},
        _colours("rojo/roja naranja amarillo/amarilla verde azul morado/morada rosa marrón blanco/blanca negro/negra"),
        _sizes("pequeño/pequeña", "grande"), "mf", "ancs",
        _beside("a su izquierda", "a su derecha", "encima", "debajo"), "y",
        _places("de día", "de noche", "al atardecer", "en la nieve", "en el desierto", "en el prado", "en el mar",
                "delante de un muro"),
        frozenset({"ancla", "hacha", "águila"}),
    ),
    "it": Language(
        {"un": ("un", "m"), "uno": ("uno", "m"), "una": ("una", "f"), "un'": ("un'", "f")},
        _colours("rosso/rossa arancione giallo/gialla verde blu viola rosa marrone bianco/bianca nero/nera"),
        _sizes("piccolo/piccola", "grande"), "mf", "ancs",
        _beside("alla sua sinistra", "alla sua destra", "sopra", "sotto"), "e",
        _places("di giorno", "di notte", "al tramonto", "nella neve", "nel deserto", "sul prato", "nel mare",
                "davanti a un muro"),
    ),
    "nl": Language(
        {"de": ("een", "c"), "het": ("een", "n")},
        _colours("rode/rood oranje gele/geel groene/groen blauwe/blauw paarse/paars roze bruine/bruin witte/wit "
                 "zwarte/zwart"),
        _sizes("kleine/klein", "grote/groot"), "cn", "ascn",
        _beside("links ervan", "rechts ervan", "erboven", "eronder"), "en",
        _places("overdag", "'s nachts", "bij zonsondergang", "in de sneeuw", "in de woestijn", "in de wei", "in de zee",
                "voor een muur"),
    ),
    "pt": Language(
        {"um": ("um", "m"), "uma": ("uma", "f")},
        _colours("vermelho/vermelha laranja amarelo/amarela verde azul roxo/roxa rosa marrom branco/branca "
                 "preto/preta"),
        _sizes("pequeno/pequena", "grande"), "mf", "ancs",
        _beside("à sua esquerda", "à sua direita", "em cima", "embaixo"), "e",
        _places("de dia", "à noite", "ao pôr do sol", "na neve", "no deserto", "no prado", "no mar",
                "na frente de um muro"),
    ),
}  # fmt: skip
"""By the code of ISO 639-1."""


def can_say(description: Description) -> bool:
    """Whether other languages have words for it: for one of each thing, and nothing that is absent."""
    return all(mention.n == 1 for mention in description.mentions) and not description.absent


def foreign_text(description: Description, code: str) -> str:
    """The wording of a description in another language.

    Example:
        >>> foreign_text(Description((Mention(Look("dog", "red", "small"), 1),), background="snow"), "de")
        'Ein kleiner roter Hund, im Schnee.'
    """
    language = LANGUAGES[code]
    linked = {link.b: link.relation for link in description.links if link.b == link.a + 1}
    text = ""
    for i, mention in enumerate(description.mentions):
        name = _phrase(mention, code)
        if i in linked:
            text += f", {language.beside[OPPOSITE[linked[i]]]} {name}"
        else:
            text += f" {language.also} {name}" if i else name
    place = f", {language.places[description.background]}" if description.background else ""
    return text[0].upper() + text[1:] + place + "."


def _phrase(mention: Mention, code: str) -> str:
    language, look = LANGUAGES[code], mention.look
    name = THING_WORDS[look.kind].names[code]
    given, noun = ("un'", name[3:]) if name.startswith("un'") else name.split(" ", 1)
    article, gender = language.articles[given]
    form = language.genders.index("f" if noun in language.feminine else gender)
    words = {"a": article, "n": noun, "s": "", "c": ""}
    if look.size:
        words["s"] = _form(language.sizes[look.size], form)
    if look.colour:
        words["c"] = _form(language.colours[look.colour], form)
    return " ".join(words[part] for part in language.order if words[part]).replace("' ", "'")


def _form(forms: tuple[str, ...], index: int) -> str:
    return forms[index] if len(forms) > 1 else forms[0]
