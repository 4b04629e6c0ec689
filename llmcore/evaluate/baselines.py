"""Simple baselines that a model has to beat: the most frequent answer, a lookup table, tuned TF-IDF."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmcore.base.rows import LabelledRow

REGULARISATIONS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # each C that is tried; scikit-learn's 1.0 is too small for text
MAX_NGRAMS = (1, 2)
LIBLINEAR_TOLERANCE = 0.1  # liblinear's own; a smaller one takes longer and classified no row of CLINC150 better

Rows = Sequence[LabelledRow]


def most_frequent(answers: Sequence[str]) -> str:
    """Return the most frequent answer, the alphabetically first of ties; empty without answers."""
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer), default="")


def lookup_answers(prompts: Sequence[str], answers: Sequence[str], test_prompts: Sequence[str]) -> list[str]:
    """Return the answers of pure memorisation, one per test prompt.

    That is the most frequent answer to an equal training prompt, or the most frequent of all answers
    where there is none. `prompts` and `answers` are the training rows.
    """
    known: dict[str, list[str]] = defaultdict(list)
    for prompt, answer in zip(prompts, answers, strict=True):
        known[prompt].append(answer)
    fallback = most_frequent(answers)
    return [most_frequent(known[prompt]) if prompt in known else fallback for prompt in test_prompts]


class TfidfChoice(NamedTuple):
    """Settings of logistic regression on TF-IDF weights that are chosen by validation."""

    c: float  # scikit-learn's C, the inverse of the regularisation
    max_ngram: int  # 1: words alone; 2: words and word pairs


def choose_tfidf(folds: Iterable[tuple[Rows, Rows]]) -> TfidfChoice:
    """Return the choice that classifies most validation rows of all folds (train, val) correctly.

    Of equals the one with words alone, then with the smallest C.
    """
    correct: Counter[TfidfChoice] = Counter()
    for train, val in folds:
        for max_ngram in MAX_NGRAMS:
            predict = _tfidf_classifier(train, [row["text"] for row in val], max_ngram)
            for c in REGULARISATIONS:
                hits = sum(guess == row["label"] for guess, row in zip(predict(c), val, strict=True))
                correct[TfidfChoice(c, max_ngram)] += hits
    return max(correct, key=correct.__getitem__)  # the first of equals, in the order of the loops


def tfidf_predictions(train: Rows, test_texts: Sequence[str], choice: TfidfChoice) -> list[str]:
    """Return the classes that logistic regression on TF-IDF weights of words predicts.

    Punctuation marks count as words, because exclamation marks are typical of spam. If training has a single class,
    it is always predicted; of more than two each is fitted against the rest by itself, so memory does not grow with
    their number.
    """
    return _tfidf_classifier(train, test_texts, choice.max_ngram)(choice.c)


def _tfidf_classifier(train: Rows, test_texts: Sequence[str], max_ngram: int) -> Callable[[float], list[str]]:
    """Return the function from C to the predicted classes; the features are computed once."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    classes = sorted({row["label"] for row in train})
    if len(classes) == 1:
        return lambda c: classes * len(test_texts)
    number = {label: place for place, label in enumerate(classes)}
    targets = np.array([number[row["label"]] for row in train])
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, max_ngram), sublinear_tf=True)
    features = vectorizer.fit_transform([row["text"] for row in train])
    test_features = vectorizer.transform(test_texts)

    def predict(c: float) -> list[str]:
        if len(classes) == 2:
            is_second = _logistic_scores(features, targets == 1, test_features, c) > 0
            return [classes[int(second)] for second in is_second]
        best = np.full(test_features.shape[0], -np.inf)
        predicted = np.zeros(test_features.shape[0], dtype=np.int64)
        for target in range(len(classes)):
            scores = _logistic_scores(features, targets == target, test_features, c)
            predicted[scores > best] = target
            best = np.maximum(best, scores)
        return [classes[place] for place in predicted]

    return predict


def _logistic_scores(features: Any, is_positive: np.ndarray, test_features: Any, c: float) -> np.ndarray:
    """Return how far each test row is on the positive side: (test rows,).

    liblinear's dual solver draws from its own seeded generator and calls no BLAS: the same bytes on every CPU.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=c, solver="liblinear", dual=True, tol=LIBLINEAR_TOLERANCE, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a large C; what it has reached is validated like all
        scores: np.ndarray = solver.fit(features, is_positive).decision_function(test_features)
    return scores
