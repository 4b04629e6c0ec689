"""Simple baselines that a model has to beat: the most frequent answer, a lookup table, TF-IDF."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_WEIGHTS = 2_000_000  # of a classifier fitted at once: L-BFGS holds 25 numbers per weight, 400 MB in all


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


def tfidf_predictions(train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]) -> list[str]:
    """Return the classes that logistic regression on TF-IDF weights of words and word pairs predicts.

    Punctuation marks count as words, because exclamation marks are typical of spam. Deterministic: the
    solver starts at zero and runs on one thread. If training has a single class, it is always predicted.
    Where all classes together would take too much memory, each is fitted against the rest by itself.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    classes = sorted(set(train_labels))
    if len(classes) == 1:
        return classes * len(test_texts)
    number = {label: place for place, label in enumerate(classes)}
    targets = np.array([number[label] for label in train_labels])
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    with threadpool_limits(1):
        features = vectorizer.fit_transform(train_texts)
        test_features = vectorizer.transform(test_texts)
        if len(classes) > 2 and len(classes) * features.shape[1] > MAX_WEIGHTS:
            predicted = _one_against_rest(features, targets, test_features)
        else:
            predicted = LogisticRegression(C=10.0, max_iter=1000).fit(features, targets).predict(test_features)
        return [classes[place] for place in predicted]


def _one_against_rest(features: Any, targets: np.ndarray, test_features: Any) -> np.ndarray:
    """Return the class of each test row whose own logistic regression is surest; one model is held at a time."""
    from sklearn.linear_model import LogisticRegression

    best = np.full(test_features.shape[0], -np.inf)
    predicted = np.zeros(test_features.shape[0], dtype=np.int64)
    for target in range(targets.max() + 1):
        solver = LogisticRegression(C=10.0, solver="liblinear", dual=True, tol=0.01, random_state=0)
        scores = solver.fit(features, targets == target).decision_function(test_features)
        predicted[scores > best] = target
        best = np.maximum(best, scores)
    return predicted
