"""The baselines: most frequent answer, lookup and TF-IDF."""

from typing import cast

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from llmcore.base.rows import LabelledRow
from llmcore.evaluate.baselines import (
    MAX_NGRAMS,
    REGULARISATIONS,
    TfidfChoice,
    choose_tfidf,
    lookup_answers,
    most_frequent,
    tfidf_predictions,
)


def rows(*labelled: tuple[str, str]) -> list[LabelledRow]:
    return [cast(LabelledRow, {"text": text, "label": label}) for text, label in labelled]


ROWS = rows(
    ("win a prize now!", "spam"),
    ("free prize, call now!", "spam"),
    ("see you at lunch", "ham"),
    ("are you at home", "ham"),
    *[("you are free at lunch", "ham")] * 3,
)
CHOICE = TfidfChoice(c=10.0, max_ngram=2)


def scikit_learns_predictions(train: list[LabelledRow], test_texts: list[str], choice: TfidfChoice) -> list[str]:
    """One-against-rest logistic regression as scikit-learn's pipeline fits it."""
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, choice.max_ngram), sublinear_tf=True)
    one = LogisticRegression(C=choice.c, solver="liblinear", dual=True, tol=0.1, random_state=0)
    pipeline = make_pipeline(vectorizer, OneVsRestClassifier(one))
    texts, labels = zip(*((row["text"], row["label"]) for row in train), strict=True)
    predicted: list[str] = pipeline.fit(texts, labels).predict(test_texts).tolist()
    return predicted


def random_rows(n_rows: int, n_classes: int, seed: int) -> list[LabelledRow]:
    """Rows in which a third of the words hint at the class."""
    draw = np.random.default_rng(seed)
    classes = draw.integers(0, n_classes, n_rows)
    words = [[f"c{k}" if draw.random() < 0.3 else f"w{draw.integers(40)}" for _ in range(5)] for k in classes]
    return rows(*((" ".join(of_row), f"class {k:02}") for of_row, k in zip(words, classes, strict=True)))


def test_tfidf_learns_words() -> None:
    assert tfidf_predictions(ROWS, ["a free prize!", "lunch at home"], CHOICE) == ["spam", "ham"]


@pytest.mark.parametrize("n_classes", [2, 12])
@pytest.mark.parametrize("choice", [TfidfChoice(1.0, 1), TfidfChoice(100.0, 2)])
def test_tfidf_predicts_as_scikit_learns_pipeline_does(n_classes: int, choice: TfidfChoice) -> None:
    train, test = random_rows(200, n_classes, 0), [row["text"] for row in random_rows(100, n_classes, 1)]
    assert tfidf_predictions(train, test, choice) == scikit_learns_predictions(train, test, choice)


def test_the_choice_is_the_one_with_most_validation_rows_right_over_all_folds() -> None:
    folds = [(random_rows(80, 4, seed), random_rows(60, 4, seed + 10)) for seed in (0, 1)]
    right = {
        choice: sum(
            guess == row["label"]
            for train, val in folds
            for guess, row in zip(scikit_learns_predictions(train, [r["text"] for r in val], choice), val, strict=True)
        )
        for choice in (TfidfChoice(c, n) for n in MAX_NGRAMS for c in REGULARISATIONS)
    }
    assert len(set(right.values())) > 1
    chosen = choose_tfidf(folds)
    assert right[chosen] == max(right.values())
    assert chosen == next(choice for choice in right if right[choice] == right[chosen])  # the simplest of equals


def test_tfidf_predicts_a_class_for_empty_and_unknown_texts() -> None:
    assert set(tfidf_predictions(ROWS, ["", "zzz"], CHOICE)) <= {"ham", "spam"}


def test_tfidf_always_predicts_the_single_class_of_training() -> None:
    single = rows(("a", "ham"), ("b", "ham"))
    assert tfidf_predictions(single, ["c"], choose_tfidf([(single, ROWS)])) == ["ham"]


@pytest.mark.parametrize(("answers", "expected"), [(["b", "a", "b"], "b"), (["b", "a"], "a"), ([], "")])
def test_ties_of_the_most_frequent_answer_are_broken_alphabetically(answers: list[str], expected: str) -> None:
    assert most_frequent(answers) == expected


def test_lookup_repeats_training_answers_or_falls_back_to_the_most_frequent() -> None:
    assert lookup_answers(["q1", "q1", "q1", "q2"], ["x", "y", "y", "x"], ["q1", "q2", "q3"]) == ["y", "x", "x"]
