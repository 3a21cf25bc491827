"""Words for what a scene can show: those of the adapter's training captions, and those kept back for the test.

A held-out word occurs in no training caption, plain or natural; only a model that knows English draws it right.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Ways to say one thing: `taught` in training captions, `held_out` in tests only."""

    taught: tuple[str, ...]
    held_out: tuple[str, ...]


def _words(taught: str, held_out: str) -> Words:
    return Words(tuple(taught.split(", ")), tuple(held_out.split(", ")))


COLOUR_WORDS: dict[str, Words] = {
    "red": _words(
        "red, crimson, ruby, cherry-red, blood-red, tomato-red, fire-engine red, brick-red, rosy red, strawberry-red",
        "scarlet, vermilion, carmine",
    ),
    "orange": _words(
        "orange, tangerine, carrot-coloured, pumpkin-coloured, apricot, bright orange, amber-orange, marigold",
        "mandarin-coloured, clementine-coloured, satsuma-coloured",
    ),
    "yellow": _words(
        "yellow, golden, lemon-yellow, canary-yellow, banana-yellow, butter-yellow, sunny yellow, mustard, gold",
        "saffron, buttercup-coloured, daffodil-coloured",
    ),
    "green": _words(
        "green, emerald, lime-green, olive, grass-green, mint-green, forest-green, leafy green, jade",
        "fern-coloured, moss-coloured, shamrock-coloured",
    ),
    "blue": _words(
        "blue, navy, azure, sky-blue, royal blue, sapphire, cobalt, ocean-blue, indigo, denim-blue",
        "cerulean, ultramarine, cornflower-coloured",
    ),
    "purple": _words(
        "purple, violet, lilac, plum-coloured, lavender, grape-coloured, royal purple, mauve, amethyst",
        "aubergine-coloured, mulberry-coloured, wisteria-coloured",
    ),
    "pink": _words(
        "pink, rose-coloured, bubblegum-pink, blush-pink, candy-pink, salmon-pink, hot pink, flamingo-pink, pale pink",
        "fuchsia, piglet-coloured, candyfloss-coloured",
    ),
    "brown": _words(
        "brown, chocolate-coloured, chestnut, coffee-brown, tan, walnut-brown, earthy brown, caramel, nut-brown",
        "mahogany, cocoa-coloured, cinnamon-coloured",
    ),
    "white": _words(
        "white, snow-white, ivory, milk-white, pearl-white, chalk-white, pure white, cream-coloured, pale white",
        "alabaster, porcelain-coloured, bone-coloured",
    ),
}

KIND_WORDS: dict[str, Words] = {
    "sun": _words("sun, daystar, blazing sun, shining sun, bright sun", "solar body, sunburst"),
    "moon": _words("moon, crescent, crescent moon, half moon, new moon", "lunar sickle, lunar arc"),
    "tree": _words("tree, pine, fir, fir tree, evergreen, conifer, Christmas tree", "spruce, larch"),
    "house": _words("house, home, cottage, hut, cabin, dwelling, building, lodge", "bungalow, chalet"),
    "car": _words("car, automobile, taxi, motorcar, sedan, vehicle, cab", "hatchback, limousine"),
    "boat": _words("boat, sailboat, ship, yacht, sailing boat, vessel, dinghy", "schooner, sloop"),
    "fish": _words("fish, trout, goldfish, carp, salmon, swimming fish", "herring, minnow"),
    "flower": _words("flower, blossom, bloom, daisy, tulip, rose, wildflower", "petunia, poppy"),
    "star": _words("star, five-pointed star, twinkling star, starlet shape, pointed star", "pentagram, pentacle"),
    "heart": _words("heart, love heart, valentine, heart shape, loving heart", "lovers' symbol, sign of love"),
    "ball": _words("ball, sphere, globe, round ball, beach ball, orb, circle", "football, basketball"),
    "box": _words("box, cube, crate, square, carton, block, chest", "parcel, package"),
    "cloud": _words("cloud, puffy cloud, rain cloud, fluffy cloud, puff of vapour", "cumulus, thundercloud"),
    "cup": _words("cup, mug, teacup, coffee mug, beaker, drinking cup", "tankard, demitasse"),
    "mushroom": _words("mushroom, toadstool, fungus, spotted mushroom, champignon", "fly agaric, porcini"),
    "umbrella": _words("umbrella, parasol, brolly, rain umbrella, opened umbrella", "sunshade, gamp"),
}

BACKGROUND_WORDS: dict[str, Words] = {
    "day": _words(
        "by day, in daylight, on a sunny day, under a clear blue sky, on a green meadow in the daytime, at noon, "
        "in the afternoon, in a grassy field on a bright day",
        "on a cloudless summer morning, in broad daylight",
    ),
    "night": _words(
        "at night, after dark, at midnight, under a dark sky, in the middle of the night, late in the night, "
        "on a dark evening, while the world sleeps",
        "in the small hours, when everyone has gone to bed",
    ),
    "sunset": _words(
        "at sunset, at dusk, in the evening glow, as the sun goes down, in the last light of the day, at sundown, "
        "under a peach-coloured evening sky",
        "in the twilight, when day turns to night",
    ),
    "snow": _words(
        "in the snow, in winter, on a snowy field, on a frosty white plain, after a snowfall, in a blizzard, "
        "on snow-covered ground",
        "in January on the ski slopes, at the North Pole",
    ),
    "desert": _words(
        "in the desert, on the sand, among the dunes, in a sandy waste, in the Sahara, on dry sandy ground, "
        "in a land of sand",
        "in the Gobi, where camels walk",
    ),
}

SIZE_WORDS: dict[str, Words] = {
    "small": _words(
        "small, little, tiny, mini, miniature, wee, petite, smallish, teeny",
        "minuscule, pint-sized, diminutive",
    ),
    "large": _words(
        "large, big, huge, giant, enormous, great big, massive, oversized, great",
        "gigantic, colossal, hulking",
    ),
}

RELATION_WORDS: dict[str, Words] = {
    "left of": _words(
        "left of, to the left of, on the left side of, on the left-hand side of, just left of", "leftward of"
    ),
    "right of": _words(
        "right of, to the right of, on the right side of, on the right-hand side of, just right of", "rightward of"
    ),
    "above": _words("above, over, higher than, on top of, up above, floating above", "overhead of"),
    "below": _words("below, under, beneath, underneath, lower than, down below", "at a lower height than"),
}

NUMBER_WORDS: dict[int, Words] = {
    2: _words("two, a pair of, a couple of, 2, exactly two", "twin, a duo of"),
    3: _words("three, 3, a trio of, a group of three, exactly three", "a threesome of, a triplet of"),
    4: _words("four, 4, a group of four, a set of four, exactly four", "a quartet of, a foursome of"),
}
