"""The word-count baseline learns words, is deterministic, and survives odd inputs."""

from llmcore.evaluate.baselines import tfidf_baseline

TEXTS = ["win a prize now!", "free prize, call now!", "see you at lunch", "are you at home"] * 5
LABELS = ["spam", "spam", "ham", "ham"] * 5


def test_it_tells_words_apart_and_repeats_itself():
    first = tfidf_baseline(TEXTS, LABELS, ["a free prize!", "lunch at home"])
    assert first == ["spam", "ham"]
    assert tfidf_baseline(TEXTS, LABELS, ["a free prize!", "lunch at home"]) == first


def test_empty_and_unknown_messages_still_get_a_class():
    assert set(tfidf_baseline(TEXTS, LABELS, ["", "zzz"])) <= {"ham", "spam"}


def test_one_class_in_training_is_the_answer_to_everything():
    assert tfidf_baseline(["a", "b"], ["ham", "ham"], ["c"]) == ["ham"]
