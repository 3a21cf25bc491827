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
        "red, crimson, ruby, cherry-red, blood-red, tomato-red, fire-engine red, brick-red, rosy red, "
        "strawberry-red, cherry-coloured, ruby-coloured, tomato-coloured, strawberry-coloured, "
        "raspberry-coloured, ketchup-coloured, blood-coloured, lobster-coloured, ladybird-coloured, "
        "chilli-coloured, brick-coloured, wine-coloured, cranberry-coloured, pomegranate-coloured, "
        "redcurrant-coloured, paprika-coloured, lipstick-coloured, holly-berry-coloured, garnet, maroon, "
        "burgundy, claret, cardinal, pillar-box red, reddish, lava-red, fire-truck-coloured",
        "scarlet, vermilion, carmine",
    ),
    "orange": _words(
        "orange, tangerine, carrot-coloured, pumpkin-coloured, apricot, bright orange, amber-orange, "
        "marigold, tangerine-coloured, apricot-coloured, persimmon-coloured, kumquat-coloured, "
        "papaya-coloured, mango-coloured, traffic-cone-coloured, tiger-coloured, fox-coloured, "
        "marmalade-coloured, ginger, sweet-potato-coloured, cantaloupe-coloured, goldfish-coloured, "
        "flame-coloured, ember-coloured, orange-peel-coloured, cheddar-coloured, nectarine-coloured, "
        "neon orange, burnt orange, deep orange, rust-orange, pumpkin, carrot, orangey, "
        "jack-o'-lantern-coloured, monarch-butterfly-coloured",
        "mandarin-coloured, clementine-coloured, satsuma-coloured",
    ),
    "yellow": _words(
        "yellow, golden, lemon-yellow, canary-yellow, banana-yellow, butter-yellow, sunny yellow, mustard, "
        "gold, lemon-coloured, canary-coloured, banana-coloured, butter-coloured, mustard-coloured, "
        "corn-coloured, honey-coloured, sunflower-coloured, dandelion-coloured, primrose-coloured, "
        "egg-yolk-coloured, custard-coloured, duckling-coloured, pineapple-coloured, sunshine-coloured, "
        "maize, straw-coloured, cheese-coloured, blonde, citrine, flaxen, gold-coloured, brass-coloured, "
        "yellowish, bright yellow, school-bus-coloured, turmeric-coloured, wheat-coloured",
        "saffron, buttercup-coloured, daffodil-coloured",
    ),
    "green": _words(
        "green, emerald, lime-green, olive, grass-green, mint-green, forest-green, leafy green, jade, "
        "grass-coloured, lime-coloured, mint-coloured, leaf-coloured, emerald-coloured, jade-coloured, "
        "olive-coloured, avocado-coloured, pea-coloured, spinach-coloured, broccoli-coloured, "
        "cucumber-coloured, frog-coloured, basil-coloured, pickle-coloured, kiwi-coloured, lettuce-coloured, "
        "ivy-coloured, pine-coloured, clover-coloured, cactus-coloured, parsley-coloured, pistachio, "
        "chartreuse, viridian, malachite, hunter green, sea-green, apple-green, bottle-green, "
        "crocodile-coloured, meadow-coloured",
        "fern-coloured, moss-coloured, shamrock-coloured",
    ),
    "blue": _words(
        "blue, navy, azure, sky-blue, royal blue, sapphire, cobalt, ocean-blue, indigo, denim-blue, "
        "sky-coloured, ocean-coloured, sea-coloured, sapphire-coloured, denim-coloured, navy-coloured, "
        "cobalt-coloured, indigo-coloured, azure-coloured, bluebell-coloured, blueberry-coloured, "
        "forget-me-not-coloured, jeans-coloured, lapis-coloured, peacock-blue, kingfisher-coloured, "
        "bluebird-coloured, midnight-blue, baby blue, steel-blue, powder blue, electric blue, ink-coloured, "
        "gentian, delphinium-coloured, Prussian blue, bluish, larkspur-coloured, lagoon-coloured",
        "cerulean, ultramarine, cornflower-coloured",
    ),
    "purple": _words(
        "purple, violet, lilac, plum-coloured, lavender, grape-coloured, royal purple, mauve, amethyst, "
        "violet-coloured, lilac-coloured, lavender-coloured, amethyst-coloured, heather-coloured, "
        "orchid-coloured, iris-coloured, crocus-coloured, blackberry-coloured, elderberry-coloured, "
        "beetroot-coloured, fig-coloured, raisin-coloured, purplish, deep purple, Tyrian purple, "
        "imperial purple, periwinkle, thistle-coloured, mauve-coloured, boysenberry-coloured, "
        "blackcurrant-coloured, heliotrope, pansy-coloured, damson-coloured, prune-coloured, "
        "sugar-plum-coloured, plum, grape",
        "aubergine-coloured, mulberry-coloured, wisteria-coloured",
    ),
    "pink": _words(
        "pink, rose-coloured, bubblegum-pink, blush-pink, candy-pink, salmon-pink, hot pink, flamingo-pink, "
        "pale pink, rose-pink, bubblegum-coloured, flamingo-coloured, salmon-coloured, blush-coloured, "
        "carnation-coloured, peony-coloured, cherry-blossom-coloured, shrimp-coloured, prawn-coloured, "
        "ham-coloured, watermelon-pink, strawberry-milkshake-coloured, tongue-coloured, "
        "ballet-slipper-coloured, azalea-coloured, camellia-coloured, magenta, cerise, coral-pink, "
        "baby pink, shocking pink, neon pink, pinkish, dusty pink, raspberry-pink, rhubarb-coloured, "
        "grapefruit-pink, tutu-coloured, Barbie-coloured",
        "fuchsia, piglet-coloured, candyfloss-coloured",
    ),
    "brown": _words(
        "brown, chocolate-coloured, chestnut, coffee-brown, tan, walnut-brown, earthy brown, caramel, "
        "nut-brown, chestnut-coloured, coffee-coloured, walnut-coloured, caramel-coloured, "
        "hazelnut-coloured, toffee-coloured, mud-coloured, soil-coloured, earth-coloured, wood-coloured, "
        "bark-coloured, oak-coloured, teak-coloured, toast-coloured, gravy-coloured, bear-coloured, "
        "leather-coloured, fudge-coloured, brownie-coloured, peanut-coloured, acorn-coloured, umber, sepia, "
        "russet, beaver-coloured, espresso-coloured, mocha, tawny, hazel, nutmeg-coloured, "
        "gingerbread-coloured, brownish, dark brown",
        "mahogany, cocoa-coloured, cinnamon-coloured",
    ),
    "white": _words(
        "white, snow-white, ivory, milk-white, pearl-white, chalk-white, pure white, cream-coloured, "
        "pale white, snow-coloured, milk-coloured, chalk-coloured, pearl-coloured, ivory-coloured, "
        "cotton-coloured, swan-coloured, salt-coloured, sugar-coloured, flour-coloured, paper-coloured, "
        "lily-coloured, ghost-coloured, marble-coloured, polar-bear-coloured, eggshell-coloured, "
        "coconut-coloured, vanilla-coloured, rice-coloured, frost-coloured, whitish, bright white, bleached, "
        "snowy white, swan-white, lily-white, opal, whipped-cream-coloured, yoghurt-coloured, "
        "seagull-coloured",
        "alabaster, porcelain-coloured, bone-coloured",
    ),
}

KIND_WORDS: dict[str, Words] = {
    "sun": _words(
        "sun, daystar, blazing sun, shining sun, bright sun, midday sun, noonday sun, summer sun, sun disc, "
        "sunny disc, smiling sun, radiant sun, warm sun, sunshine, beaming sun, morning sun, afternoon sun, "
        "glowing sun, tropical sun, hot sun",
        "solar body, sunburst",
    ),
    "moon": _words(
        "moon, crescent, crescent moon, half moon, new moon, crescent-shaped moon, quarter moon, "
        "waxing moon, waning moon, young moon, thin moon, moonlet, curved moon, silvery moon, "
        "harvest moon, night-time moon",
        "lunar sickle, lunar arc",
    ),
    "tree": _words(
        "tree, pine, fir, fir tree, evergreen, conifer, Christmas tree, pine tree, cedar, cypress, redwood, "
        "sequoia, juniper, yew, hemlock, oak, birch, maple, elm, beech, willow, sapling, woodland tree, "
        "forest tree, pointed tree, cedar tree, evergreen tree",
        "spruce, larch",
    ),
    "house": _words(
        "house, home, cottage, hut, cabin, dwelling, building, lodge, villa, farmhouse, mansion, homestead, "
        "residence, townhouse, shack, manor, barn, log cabin, country house, family home, guesthouse, shed, "
        "hovel, inn, abode, summer house, holiday home, farm cottage, gatehouse",
        "bungalow, chalet",
    ),
    "car": _words(
        "car, automobile, taxi, motorcar, sedan, vehicle, cab, coupe, roadster, convertible, jeep, "
        "station wagon, minivan, van, sports car, race car, racing car, estate car, motor vehicle, auto, "
        "taxicab, saloon car, cabriolet, family car, buggy, Ferrari, Toyota, Volkswagen, patrol car",
        "hatchback, limousine",
    ),
    "boat": _words(
        "boat, sailboat, ship, yacht, sailing boat, vessel, dinghy, ketch, catamaran, cutter, clipper, brig, "
        "galleon, frigate, skiff, sailing ship, sailing yacht, sailing vessel, tall ship, lugger, barque, "
        "fishing boat, rowing boat, canoe, ferry, galley, trawler, gondola, caravel",
        "schooner, sloop",
    ),
    "fish": _words(
        "fish, trout, goldfish, carp, salmon, swimming fish, cod, mackerel, sardine, tuna, perch, pike, "
        "haddock, bass, halibut, anchovy, tilapia, sea bream, guppy, catfish, snapper, koi, angelfish, "
        "clownfish, pilchard, sturgeon, barracuda",
        "herring, minnow",
    ),
    "flower": _words(
        "flower, blossom, bloom, daisy, tulip, rose, wildflower, lily, orchid, carnation, chrysanthemum, "
        "dahlia, peony, pansy, primrose, snowdrop, geranium, begonia, zinnia, anemone, crocus, hyacinth, "
        "iris, magnolia, camellia, gardenia, hibiscus, lotus, aster, garden flower, meadow flower, foxglove",
        "petunia, poppy",
    ),
    "star": _words(
        "star, five-pointed star, twinkling star, starlet shape, pointed star, North Star, evening star, "
        "gleaming star, Christmas star, sheriff's star, star shape, five-armed star, asterisk, wishing star, "
        "guiding star, star symbol, star emblem, glittering star, morning star, lucky star, shooting star",
        "pentagram, pentacle",
    ),
    "heart": _words(
        "heart, love heart, valentine, heart shape, loving heart, valentine heart, heart symbol, "
        "sweetheart, heart emblem, Cupid's heart, beating heart, symbol of affection, emblem of romance, "
        "romantic heart, tender heart, Valentine's heart, paper heart, candy heart, heart-shaped thing, "
        "heart icon",
        "lovers' symbol, sign of love",
    ),
    "ball": _words(
        "ball, sphere, globe, round ball, beach ball, orb, circle, volleyball, baseball, tennis ball, "
        "soccer ball, bowling ball, rubber ball, toy ball, handball, snooker ball, billiard ball, golf ball, "
        "bouncy ball, marble, disc, cricket ball, ping-pong ball, cannonball, round thing, rugby ball, "
        "softball",
        "football, basketball",
    ),
    "box": _words(
        "box, cube, crate, square, carton, block, chest, cardboard box, case, container, trunk, casket, "
        "packing case, shoebox, toy box, gift box, gift, bin, coffer, cuboid, storage box, wooden box, "
        "toolbox, mailbox, lunchbox, jewel box, matchbox, treasure chest, suitcase",
        "parcel, package",
    ),
    "cloud": _words(
        "cloud, puffy cloud, rain cloud, fluffy cloud, puff of vapour, storm cloud, raincloud, "
        "drifting cloud, woolly cloud, billowing cloud, cirrus, stratus, nimbus, cloudlet, bank of cloud, "
        "cottony cloud, summer cloud, floating cloud, fleecy cloud, puff of steam, puff of mist, soft cloud, "
        "fog bank",
        "cumulus, thundercloud",
    ),
    "cup": _words(
        "cup, mug, teacup, coffee mug, beaker, drinking cup, coffee cup, tea mug, cappuccino cup, "
        "espresso cup, beer mug, goblet, chalice, tumbler, drinking mug, breakfast cup, china cup, tea cup, "
        "paper cup, stein, drinking vessel, flagon, pint mug, soup cup, camping mug, latte cup",
        "tankard, demitasse",
    ),
    "mushroom": _words(
        "mushroom, toadstool, fungus, spotted mushroom, champignon, portobello, chanterelle, shiitake, "
        "truffle, morel, button mushroom, forest mushroom, field mushroom, poisonous mushroom, bolete, "
        "puffball, edible mushroom, oyster mushroom, fairy mushroom, wild mushroom, woodland mushroom, "
        "amanita",
        "fly agaric, porcini",
    ),
    "umbrella": _words(
        "umbrella, parasol, brolly, rain umbrella, opened umbrella, beach umbrella, cocktail umbrella, "
        "garden umbrella, folding umbrella, sun umbrella, open umbrella, sun parasol, rain shelter, "
        "golf umbrella, bumbershoot, paper parasol, lady's parasol, beach parasol, patio umbrella, canopy",
        "sunshade, gamp",
    ),
}

BACKGROUND_WORDS: dict[str, Words] = {
    "day": _words(
        "by day, in daylight, on a sunny day, under a clear blue sky, on a green meadow in the daytime, "
        "at noon, in the afternoon, in a grassy field on a bright day, in the morning, at midday, "
        "during the day, on a bright day, in the sunshine, on a fine summer day, at lunchtime, "
        "when the sun is high, on a lawn at noon, in full daylight, on a warm afternoon, one sunny morning, "
        "on a pleasant spring day",
        "on a cloudless summer morning, in broad daylight",
    ),
    "night": _words(
        "at night, after dark, at midnight, under a dark sky, in the middle of the night, late in the night, "
        "on a dark evening, while the world sleeps, by night, in the dark, in the darkness, "
        "when all is dark, under the stars, long past midnight, at bedtime, while children sleep, "
        "on a black night, in the dead of night, at two in the morning, when owls hoot, by starlight",
        "in the small hours, when everyone has gone to bed",
    ),
    "sunset": _words(
        "at sunset, at dusk, in the evening glow, as the sun goes down, in the last light of the day, "
        "at sundown, under a peach-coloured evening sky, at nightfall, in the evening, "
        "at the end of the day, when the sun sets, under an orange sky, in the sunset glow, "
        "as evening falls, when the sun sinks, at eventide, in the glow of the setting sun, as the day ends, "
        "as dusk falls",
        "in the twilight, when day turns to night",
    ),
    "snow": _words(
        "in the snow, in winter, on a snowy field, on a frosty white plain, after a snowfall, in a blizzard, "
        "on snow-covered ground, on the ice, in deep snow, on a cold winter day, in December, at Christmas, "
        "on a glacier, in Antarctica, in Lapland, in the frozen north, where penguins live, "
        "where everything is frozen, in the Arctic, on a snowy mountain, in a snowstorm",
        "in January on the ski slopes, at the North Pole",
    ),
    "desert": _words(
        "in the desert, on the sand, among the dunes, in a sandy waste, in the Sahara, on dry sandy ground, "
        "in a land of sand, on a sand dune, in Egypt beside the pyramids, in the hot sand, "
        "where it never rains, in the Kalahari, in the Mojave, on a sandy plain, among cacti, "
        "in Death Valley, in an arid land, on parched ground, in the sands of Arabia, in a dry wilderness",
        "in the Gobi, where camels walk",
    ),
}

SIZE_WORDS: dict[str, Words] = {
    "small": _words(
        "small, little, tiny, mini, miniature, wee, petite, smallish, teeny, baby, itty-bitty, dinky, dwarf, "
        "compact, mini-sized, very small, microscopic, toy-sized, puny, bite-sized, pocket-sized, "
        "undersized, diddy, titchy, itsy-bitsy, little bitty, short",
        "minuscule, pint-sized, diminutive",
    ),
    "large": _words(
        "large, big, huge, giant, enormous, great big, massive, oversized, great, very large, towering, "
        "mighty, immense, vast, monumental, monstrous, jumbo, mega, king-sized, humongous, hefty, "
        "extra-large, substantial, sizeable, mammoth, tremendous, whopping, outsize, bulky",
        "gigantic, colossal, hulking",
    ),
}

RELATION_WORDS: dict[str, Words] = {
    "left of": _words(
        "left of, to the left of, on the left side of, on the left-hand side of, just left of, left from, "
        "at the left of, to the left-hand side of, on the left of, standing left of, somewhere left of, "
        "further left than, to the west of",
        "leftward of",
    ),
    "right of": _words(
        "right of, to the right of, on the right side of, on the right-hand side of, just right of, "
        "right from, at the right of, to the right-hand side of, on the right of, standing right of, "
        "somewhere right of, further right than, to the east of",
        "rightward of",
    ),
    "above": _words(
        "above, over, higher than, on top of, up above, floating above, high above, hovering over, "
        "directly above, hanging over, somewhere above, further up than, at a greater height than, "
        "over the top of",
        "overhead of",
    ),
    "below": _words(
        "below, under, beneath, underneath, lower than, down below, directly below, somewhere below, "
        "further down than, at the foot of, right under, at a lower level than, far below, deep under",
        "at a lower height than",
    ),
}

NUMBER_WORDS: dict[int, Words] = {
    2: _words(
        "two, a pair of, a couple of, 2, exactly two, a twosome of, a brace of, two whole, a set of two, "
        "a duet of, just two, 2 different, two single",
        "twin, a duo of",
    ),
    3: _words(
        "three, 3, a trio of, a group of three, exactly three, a triad of, a trinity of, three whole, "
        "a set of three, just three, 3 different, three single, a cluster of three",
        "a threesome of, a triplet of",
    ),
    4: _words(
        "four, 4, a group of four, a set of four, exactly four, a tetrad of, two pairs of, four whole, "
        "a cluster of four, just four, 4 different, four single, twice two",
        "a quartet of, a foursome of",
    ),
}
