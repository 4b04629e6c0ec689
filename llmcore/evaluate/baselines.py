"""Simple baselines that a model has to beat: the most frequent answer, a lookup table, TF-IDF."""

from collections import Counter, defaultdict
from collections.abc import Sequence


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
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(set(train_labels)) == 1:
        return [train_labels[0]] * len(test_texts)
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    with threadpool_limits(1):
        features = vectorizer.fit_transform(train_texts)
        model = LogisticRegression(C=10.0, max_iter=1000).fit(features, list(train_labels))
        return [str(label) for label in model.predict(vectorizer.transform(test_texts))]
