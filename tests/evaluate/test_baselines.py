"""The baselines: most frequent answer, lookup and TF-IDF."""

import pytest

from llmcore.evaluate.baselines import lookup_answers, most_frequent, tfidf_predictions

TEXTS = ["win a prize now!", "free prize, call now!", "see you at lunch", "are you at home"] * 5
LABELS = ["spam", "spam", "ham", "ham"] * 5


def test_tfidf_learns_words_and_is_deterministic() -> None:
    first = tfidf_predictions(TEXTS, LABELS, ["a free prize!", "lunch at home"])
    assert first == ["spam", "ham"]
    assert tfidf_predictions(TEXTS, LABELS, ["a free prize!", "lunch at home"]) == first


def test_tfidf_predicts_a_class_for_empty_and_unknown_texts() -> None:
    assert set(tfidf_predictions(TEXTS, LABELS, ["", "zzz"])) <= {"ham", "spam"}


def test_tfidf_always_predicts_the_single_class_of_training() -> None:
    assert tfidf_predictions(["a", "b"], ["ham", "ham"], ["c"]) == ["ham"]


@pytest.mark.parametrize(("answers", "expected"), [(["b", "a", "b"], "b"), (["b", "a"], "a"), ([], "")])
def test_ties_of_the_most_frequent_answer_are_broken_alphabetically(answers: list[str], expected: str) -> None:
    assert most_frequent(answers) == expected


def test_lookup_repeats_training_answers_or_falls_back_to_the_most_frequent() -> None:
    assert lookup_answers(["q1", "q1", "q1", "q2"], ["x", "y", "y", "x"], ["q1", "q2", "q3"]) == ["y", "x", "x"]
