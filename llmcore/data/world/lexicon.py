"""The words of the world by class, the most frequent first, and functions of words."""

from collections.abc import Callable, Iterable

from llmcore.data.world.grammar import zipf


def words(text: str) -> list[str]:
    """Return the words of a text, divided by white space."""
    return text.split()


def phrases(text: str) -> list[str]:
    """Return the phrases of a text, divided by commas."""
    return text.split(", ")


GIRLS = words("Mia Nora Lily Anna Zoe Ruth Emma Clara Rosa Kate")
BOYS = words("Tom Otto Ben Max Sam Leo Jack Finn Hugo Adam")
NAMES = [name for girl_and_boy in zip(GIRLS, BOYS, strict=True) for name in girl_and_boy]

OPPOSITES = dict(
    pair.split("/")
    for pair in words("big/small new/old clean/dirty full/empty wet/dry hard/soft strong/weak light/heavy")
)
OPPOSITE_OF = OPPOSITES | {second: first for first, second in OPPOSITES.items()}

NUMBERS = words("one two three four five six seven eight nine ten eleven twelve")

JOBS = dict(  # infinitive -> past tense
    pair.split("/")
    for pair in phrases(
        "wash the dishes/washed the dishes, sweep the floor/swept the floor, feed the goat/fed the goat, "
        "paint the door/painted the door, open the window/opened the window, bake some bread/baked some bread, "
        "call the doctor/called the doctor, light the fire/lit the fire, carry the wood/carried the wood, "
        "milk the cow/milked the cow, write a letter/wrote a letter, sing a song/sang a song"
    )
)

RANKED: dict[str, Iterable[str]] = {
    "name": NAMES,
    "colour": words("red blue green yellow white black brown pink"),
    "thing": words(
        "kite drum lamp ball spoon basket hat bell ladder mirror ring boat clock rope mask pillow blanket bottle "
        "hammer trumpet"
    ),
    "place": words(
        "market harbour farm park lake school station castle bridge beach bakery library river mill tower "
        "garden fountain forest museum pond barn fair village theatre lighthouse"
    ),
    "spot": phrases(
        "under a bench, behind the wall, in a box, on the roof, near the stairs, inside a barrel, "
        "among the flowers, below a tree, in the grass, on a shelf"
    ),
    "animal": words(
        "dog cat fox goat rabbit horse duck bear owl mouse donkey squirrel hedgehog pony turtle swan lamb parrot "
        "badger frog"
    ),
    "food": words("apples cakes eggs plums nuts pears cookies carrots lemons cherries onions pies figs"),
    "quality": OPPOSITE_OF,
    "mood": words("happy tired hungry sad curious brave lonely cheerful sleepy nervous proud thirsty bored cross glad"),
    "weather": words("sunny rainy windy cloudy foggy stormy snowy warm cool mild frosty misty"),
    "time": words("morning evening afternoon night Monday Sunday Friday Saturday Tuesday Thursday Wednesday"),
    "day": words("Monday Sunday Friday Saturday Tuesday Thursday Wednesday"),
    "adverb": words(
        "softly quickly gladly kindly politely slowly proudly sadly firmly calmly warmly shyly bravely eagerly "
        "gently nervously"
    ),
    "act": words("danced slept sang laughed waited played jumped listened smiled walked whistled rested"),
    "job": JOBS,
    "done": JOBS.values(),
    "few": NUMBERS[1:5],
    "price": words("20 10 50 30 15 40 25 60 80 99"),
}

LEXICON = {word_class: zipf(ranked) for word_class, ranked in RANKED.items()}


def she(name: str) -> str:
    """Return the subject pronoun of a name: she or he."""
    return "she" if name in GIRLS else "he"


def her(name: str) -> str:
    """Return the object pronoun of a name: her or him."""
    return "her" if name in GIRLS else "him"


def sum_of(first: str, second: str) -> str:
    """Return the sum of two numbers in words: `("two", "three") -> "five"`."""
    return NUMBERS[NUMBERS.index(first) + NUMBERS.index(second) + 1]


FUNCTIONS: dict[str, Callable[..., str]] = {
    "she": she,
    "She": lambda name: she(name).capitalize(),
    "her": her,
    "sum": sum_of,
    "opposite": OPPOSITE_OF.__getitem__,
}
