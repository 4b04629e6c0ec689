"""The floor is exact: a story's text alone gives its probability, and the probabilities of all texts sum to one."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise, permutations
from statistics import mean, stdev

import pytest

from llmcore.base.seeds import numpy_generator
from llmcore.data.world.grammar import Decide, Derivation, Grammar, Options, drawing, weighted
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON
from llmcore.data.world.stories import RULES, STORIES, write_stories

WORDS_LEFT = {"name": 4, "colour": 2, "thing": 2, "spot": 2, "done": 2, "job": 2, "few": 2}
SHRUNKEN = Grammar(
    RULES
    | {
        "title": {
            " at school. {lesson}": 1,
            ". {opening} {went} the {:place}. {scene}{close}": 1,
            " and the {c:colour} {t:thing}. {opening} {went} the {:place}. {thing_scene}{close}": 1,
        },
        "opening": ["Last {:time} {A}"],
        "went": ["went to", "was at"],
        "close": [" Everybody {:act} {:adverb}.", " They were {:mood}."],
    },
    {name: dict(list(words.items())[: WORDS_LEFT.get(name, 1)]) for name, words in LEXICON.items()},
    FUNCTIONS,
)


class DeadEndError(Exception):
    """The choices made so far do not lead to the text."""


def derivations(grammar: Grammar, rule: str, text: str) -> list[Derivation]:
    """Return all derivations of a text, found from the text alone."""
    found: list[Derivation] = []
    untried: list[list[int]] = [[]]
    while untried:
        made: list[int] = []
        path = untried.pop()
        with suppress(DeadEndError):
            derivation = grammar.expand(rule, reading(text, path, made, untried))
            found += [derivation] if derivation.text == text else []
    return found


def reading(text: str, path: list[int], made: list[int], untried: list[list[int]]) -> Decide:
    """Return a decision that follows `path`, then takes the first option that fits the text; others go to `untried`."""

    def decide(options: Options, before: str) -> int:
        fitting = [i for i, option in enumerate(options.texts) if text.startswith(before + option)]
        if len(made) < len(path):
            fitting = [path[len(made)]]
        if not fitting:
            raise DeadEndError
        untried.extend([*made, other] for other in fitting[1:])
        made.append(fitting[0])
        return made[-1]

    return decide


def beginnings(rule: str) -> list[str]:
    """Return how the lines of a rule begin: their text, or the words of the class that comes first."""
    first_slot = {line[0]: line[1] for line in STORIES.lines[rule] if len(line) > 1}
    heads = STORIES.heads[rule].texts
    return [word for head in heads for word in ([head] if head else LEXICON[first_slot[head].split(":")[1]])]


def every_text(grammar: Grammar, rule: str) -> Iterator[Derivation]:
    """Yield one derivation for every sequence of choices."""
    path: list[int] | None = []
    while path is not None:
        made: list[tuple[int, int]] = []  # (index, number of options) of each choice
        yield grammar.expand(rule, following(path, made))
        path = next_path(made)


def following(path: list[int], made: list[tuple[int, int]]) -> Decide:
    """Return a decision that follows `path`, then takes the first option; it appends its choices to `made`."""

    def decide(options: Options, _before: str) -> int:
        made.append((path[len(made)] if len(made) < len(path) else 0, len(options.texts)))
        return made[-1][0]

    return decide


def next_path(made: list[tuple[int, int]]) -> list[int] | None:
    """Return the path that follows the one in `made`, in counting order; None after the last one."""
    while made and made[-1][0] + 1 == made[-1][1]:
        made.pop()
    return [index for index, _ in made[:-1]] + [made[-1][0] + 1] if made else None


@pytest.fixture(scope="module")
def all_shrunken() -> list[Derivation]:
    return list(every_text(SHRUNKEN, "story"))


def test_a_reader_of_the_text_finds_one_derivation_and_its_nats() -> None:
    for story in write_stories(3000, seed=7):
        assert [each.nats for each in derivations(STORIES, "story", story.text)] == [story.nats]


def test_no_option_is_a_prefix_of_another() -> None:
    choices = [beginnings(rule) for rule in RULES if len(RULES[rule]) > 1]
    for texts in choices + [list(LEXICON[word_class]) for word_class in LEXICON]:
        for one, other in permutations(texts, 2):
            assert not other.startswith(one)


def test_probabilities_of_all_texts_sum_to_one(all_shrunken: list[Derivation]) -> None:
    assert len(all_shrunken) > 10_000
    assert math.fsum(math.exp(-each.nats) for each in all_shrunken) == pytest.approx(1, abs=1e-9)


def test_all_texts_differ_and_none_is_a_prefix_of_another(all_shrunken: list[Derivation]) -> None:
    texts = sorted(each.text for each in all_shrunken)
    assert not any(after.startswith(before) for before, after in pairwise(texts))


def test_mean_nats_is_the_entropy(all_shrunken: list[Derivation]) -> None:
    entropy = math.fsum(math.exp(-each.nats) * each.nats for each in all_shrunken)
    decide = drawing(numpy_generator(3, "test"))
    drawn = [SHRUNKEN.expand("story", decide).nats for _ in range(20_000)]
    assert abs(mean(drawn) - entropy) < 4 * stdev(drawn) / math.sqrt(len(drawn))


def test_words_are_drawn_as_often_as_their_weights_say() -> None:
    options = weighted({"a": 5, "b": 3, "c": 2})
    decide = drawing(numpy_generator(1, "test"))
    counts = Counter(options.texts[decide(options, "")] for _ in range(20_000))
    assert [round(counts[text] / 20_000, 2) for text in "abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.011)


def test_lines_that_begin_alike_are_refused() -> None:
    with pytest.raises(AssertionError, match="begin alike"):
        Grammar({"line": ["I like {:word}.", "I like {:word}!"]}, {"word": {"tea": 1}}, {})


def test_nats_of_a_small_grammar_by_hand() -> None:
    grammar = Grammar(
        {"line": {"{x:word} is not {y:word}.{end}": 1}, "end": {" Yes": 3, "!": 1}},
        {"word": {"tea": 1, "rye": 2, "oil": 3}},
        {},
    )
    (derivation,) = derivations(grammar, "line", "rye is not oil. Yes")
    assert derivation.nats == pytest.approx(-math.log(2 / 6 * 3 / 4 * 3 / 4))


def test_stories_depend_on_the_seed_alone() -> None:
    assert write_stories(50, seed=1) == write_stories(50, seed=1)
    assert write_stories(50, seed=1)[:10] == write_stories(10, seed=1)
    assert not set(write_stories(50, seed=1)) & set(write_stories(50, seed=2))
