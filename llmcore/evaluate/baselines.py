"""What a model has to beat: word counts and a linear classifier."""

from collections.abc import Sequence


def tfidf_baseline(train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]) -> list[str]:
    """Return the classes that logistic regression on TF-IDF weights of words and word pairs gives to `test_texts`.

    Punctuation marks count as words, for spam shouts. Deterministic: the solver starts at zero and runs
    on one thread. With a single class in training, that class is the answer to everything.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(set(train_labels)) == 1:
        return [train_labels[0]] * len(test_texts)
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    with threadpool_limits(1):
        model = LogisticRegression(C=10.0, max_iter=1000).fit(words.fit_transform(train_texts), list(train_labels))
        return [str(label) for label in model.predict(words.transform(test_texts))]
