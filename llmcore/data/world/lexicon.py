"""The words of the world by class, the most frequent first, and what is known about them."""

from llmcore.data.world.grammar import zipf

GIRLS = "Mia Nora Lily Anna Zoe Ruth Emma Clara Rosa Kate"
BOYS = "Tom Otto Ben Max Sam Leo Jack Finn Hugo Adam"
NAMES = [name for pair in zip(GIRLS.split(), BOYS.split(), strict=True) for name in pair]

OPPOSITES = dict(
    pair.split("/")
    for pair in (
        "big/small new/old clean/dirty full/empty heavy/light long/short wet/dry hard/soft thick/thin strong/weak"
    ).split()
)
OPPOSITE_OF = OPPOSITES | {second: first for first, second in OPPOSITES.items()}

QUALITIES = [quality for pair in OPPOSITES.items() for quality in pair]

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()

JOBS = dict(  # to do -> done
    pair.split("/")
    for pair in (
        "wash the dishes/washed the dishes, sweep the floor/swept the floor, feed the goat/fed the goat, "
        "paint the door/painted the door, open the window/opened the window, bake some bread/baked some bread, "
        "call the doctor/called the doctor, light the fire/lit the fire, carry the wood/carried the wood, "
        "milk the cow/milked the cow, write a letter/wrote a letter, sing a song/sang a song"
    ).split(", ")
)

LEXICON = {
    "name": zipf(NAMES),
    "colour": zipf("red blue green yellow white black brown pink"),
    "thing": zipf(
        "kite drum lamp ball spoon basket hat bell ladder mirror ring boat clock rope mask pillow blanket bottle "
        "hammer trumpet"
    ),
    "place": zipf(
        "market harbour farm park lake school station castle bridge beach bakery library river mill tower "
        "garden fountain forest museum pond barn fair village theatre lighthouse"
    ),
    "spot": zipf(
        "under a bench, behind the wall, in a box, on the roof, near the stairs, inside a barrel, among the flowers, "
        "below a tree, in the grass, on a shelf".split(", ")
    ),
    "animal": zipf(
        "dog cat fox goat rabbit horse duck bear owl mouse donkey squirrel hedgehog pony turtle swan lamb parrot "
        "badger frog"
    ),
    "food": zipf("apples cakes eggs plums nuts pears cookies carrots lemons cherries onions pies figs"),
    "quality": zipf(QUALITIES),
    "such": zipf(f"an {quality}" if quality[0] in "aeiou" else f"a {quality}" for quality in QUALITIES),
    "build": zipf("big small clean dirty wet dry strong weak"),
    "mood": zipf("happy tired hungry sad curious brave lonely cheerful sleepy nervous proud thirsty bored cross glad"),
    "weather": zipf("sunny rainy windy cloudy foggy stormy snowy warm cool mild frosty misty"),
    "time": zipf("morning evening afternoon night Monday Sunday Friday Saturday Tuesday Thursday Wednesday"),
    "day": zipf("Monday Sunday Friday Saturday Tuesday Thursday Wednesday"),
    "adverb": zipf(
        "softly quickly gladly kindly politely slowly proudly sadly firmly calmly warmly shyly bravely eagerly "
        "gently nervously"
    ),
    "act": zipf("danced slept sang laughed waited played jumped listened smiled walked whistled rested".split()),
    "job": zipf(JOBS),
    "done": zipf(JOBS.values()),
    "few": zipf(NUMBERS[1:5]),
    "price": zipf("20 10 50 30 15 40 25 60 80 99".split()),
}


def she(name: str) -> str:
    return "she" if name in GIRLS.split() else "he"


def her(name: str) -> str:
    """Return the object form, as in `gave her`."""
    return "her" if name in GIRLS.split() else "him"


def hers(name: str) -> str:
    """Return the possessive, as in `her kite`."""
    return "her" if name in GIRLS.split() else "his"


def sum_of(first: str, second: str) -> str:
    """Add numbers in words: ("two", "three") -> "five"."""
    return NUMBERS[NUMBERS.index(first) + NUMBERS.index(second) + 1]


FUNCTIONS = {
    "she": she,
    "She": lambda name: she(name).capitalize(),
    "her": her,
    "hers": hers,
    "sum": sum_of,
    "opposite": OPPOSITE_OF.__getitem__,
    "did": JOBS.__getitem__,
    "do": {done: job for job, done in JOBS.items()}.__getitem__,
    "Cap": lambda text: text[0].upper() + text[1:],
}
