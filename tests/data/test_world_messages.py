"""Messages are labelled with the stated probability, and their words alone do not determine the label."""

import re
from collections import Counter, defaultdict
from itertools import permutations

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from llmcore.data.world.messages import MESSAGES, Message, ceiling, write_messages


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return write_messages(4000, seed=2)


def test_equal_texts_have_equal_p_spam(messages: list[Message]) -> None:
    known: dict[str, set[float]] = defaultdict(set)
    for message in messages:
        known[_plain(message.text)].add(message.p_spam)
    assert all(len(values) == 1 for values in known.values())


def test_no_option_is_a_prefix_of_another() -> None:
    for options in MESSAGES.heads.values():
        for one, other in permutations(options.texts, 2):
            assert not other.startswith(one)


def test_labels_are_drawn_with_p_spam() -> None:
    by_p: dict[float, Counter[str]] = defaultdict(Counter)
    for message in write_messages(20_000, seed=5):
        by_p[message.p_spam][message.label] += 1
    assert set(by_p) == {0.0, 0.3, 0.5, 1.0}
    for p_spam, labels in by_p.items():
        assert labels["spam"] / labels.total() == pytest.approx(p_spam, abs=0.06)
        assert p_spam not in (0.0, 1.0) or len(labels) == 1


def test_a_quarter_is_spam_and_a_few_texts_are_repeated(messages: list[Message]) -> None:
    assert sum(message.label == "spam" for message in messages) / len(messages) == pytest.approx(0.25, abs=0.03)
    assert 0.05 < 1 - len({message.text for message in messages}) / len(messages) < 0.15
    assert len({_plain(message.text) for message in messages}) < len({message.text for message in messages})


def test_ceiling_of_given_messages_by_hand() -> None:
    rows = [Message("a", "ham", 0.0), Message("b", "spam", 1.0), Message("c", "ham", 0.3), Message("d", "spam", 0.5)]
    assert ceiling(rows) == pytest.approx((1 + 1 + 0.7 + 0.5) / 4)


def test_bag_of_words_models_stay_below_the_ceiling(messages: list[Message]) -> None:
    seen = messages[:3000]
    texts = {_plain(message.text) for message in seen}
    fresh = [message for message in messages[3000:] if _plain(message.text) not in texts]
    reached = {}
    for n in (1, 2):
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, n)), LogisticRegression(C=10, max_iter=1000))
        model.fit([message.text for message in seen], [message.label for message in seen])
        reached[n] = model.score([message.text for message in fresh], [message.label for message in fresh])
    majority = sum(message.label == "ham" for message in fresh) / len(fresh)
    assert majority + 0.05 < reached[1] < reached[2] < ceiling(fresh) - 0.02
    assert 0.96 < ceiling(fresh) < 0.985
    assert reached[1] < 0.90


def test_messages_depend_on_the_seed_alone() -> None:
    assert write_messages(50, seed=1) == write_messages(50, seed=1)
    assert write_messages(50, seed=1) != write_messages(50, seed=2)


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
