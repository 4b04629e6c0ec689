"""Which of two models is better, from their results on the same rows: pure functions from numbers to a sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from llmcore.evaluate.scores import bootstrap

RESULTS_FOLDER = "results"  # artifacts of an evaluation's run in MLflow from which runs are compared
POWER = 0.8  # chance with which the rows that `rows_needed` names would show the difference


@dataclass(frozen=True)
class Comparison:
    """How much higher the second of two models scores, on `rows` rows that both were tested on.

    `low` and `high` bound the difference; `differs` says whether the rows tell the two apart;
    `rows_needed` is about how many would, were this the true difference: None where there is none.
    """

    rows: int
    first: float
    second: float
    low: float
    high: float
    differs: bool
    rows_needed: int | None
    p_value: float | None = None  # of McNemar's test, where rows are right or wrong

    @property
    def difference(self) -> float:
        return self.second - self.first


def compare_right(first: Sequence[bool], second: Sequence[bool], confidence: float) -> Comparison:
    """Compare two models that are right or wrong on each row; the scores are shares of right rows.

    The interval is Agresti and Min's (2005) for paired shares: Wald's, half a row added to each of the
    four cells. Two models are told apart where it leaves out zero and McNemar's exact test agrees.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    lost, won, rows = int((a & ~b).sum()), int((~a & b).sum()), len(a)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, mixed = (won - lost) / (rows + 2), (won + lost + 1) / (rows + 2)
    half = z * math.sqrt((mixed - centre**2) / (rows + 2))
    low, high = max(centre - half, -1.0), min(centre + half, 1.0)
    p_value = mcnemar(lost, won)
    differs = not low <= 0 <= high and p_value < 1 - confidence
    difference, discordant = (won - lost) / rows, (won + lost) / rows
    spread = math.sqrt(max(discordant - difference**2, 0.0))
    needed = _rows_needed(difference, math.sqrt(discordant), spread, confidence)
    return Comparison(rows, float(a.mean()), float(b.mean()), low, high, differs, needed, p_value)


def compare_scores(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float,
    generator: np.random.Generator,
) -> Comparison:
    """Compare two models by the mean of a score of each row; the interval is a paired bootstrap's."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    gain = b - a
    low, high = bootstrap(len(gain), lambda rows: float(gain[rows].mean()), confidence, generator)
    spread = float(gain.std())
    needed = _rows_needed(float(gain.mean()), spread, spread, confidence)
    return Comparison(len(gain), float(a.mean()), float(b.mean()), low, high, not low <= 0 <= high, needed)


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: the rows on which just one of two models is right.

    Under equal models each such row is a coin's toss. Q. McNemar, Psychometrika 12 (1947).
    """
    tosses, tail, ways = lost + won, 0, 1
    for heads in range(min(lost, won) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)
    return min(1.0, 2 * tail / 2**tosses)


def verdict(comparison: Comparison, first: str, second: str, score: str) -> str:
    """Return one plain sentence: the second model is better, worse, or cannot be told apart from the first."""
    c = comparison
    numbers = (
        f"{score} {c.second:.4g} against {c.first:.4g}, difference {c.difference:+.4g} [{c.low:+.4g}, {c.high:+.4g}]"
    )
    if c.differs:
        return f"{second} is {'better' if c.difference > 0 else 'worse'} than {first}: {numbers}."
    outlook = "no difference was seen" if c.rows_needed is None else f"about {c.rows_needed:,} items would be needed"
    return f"{second} and {first} cannot be told apart with this test set of {c.rows:,}; {outlook}: {numbers}."


def _rows_needed(difference: float, spread_if_equal: float, spread: float, confidence: float) -> int | None:
    """Return the rows of which a paired test shows `difference` with chance POWER (Connor, Biometrics 43, 1987)."""
    if difference == 0:
        return None
    equal, shown = NormalDist().inv_cdf((1 + confidence) / 2), NormalDist().inv_cdf(POWER)
    return math.ceil(((equal * spread_if_equal + shown * spread) / difference) ** 2)
