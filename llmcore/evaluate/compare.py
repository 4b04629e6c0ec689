"""Which of two models is better, given their results on the same rows: pure functions from numbers to a sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from llmcore.base.errors import UserError
from llmcore.evaluate.scores import mean_interval

RESULTS_FOLDER = "results"  # artifact folder of an evaluation's MLflow run that holds its rows, for comparing runs
MAX_CONFIDENCE = 0.999999  # nearer to 1, a quantile of the normal distribution rounds to that of 1, which has none
POWER = 0.8  # probability that a test with `rows_needed` rows detects the difference


@dataclass(frozen=True)
class Comparison:
    """Mean scores of two models on the same `rows` rows, and the confidence interval of second minus first.

    `differs` is whether these rows tell the models apart. `rows_needed` estimates how many rows would,
    if the observed difference were the true one; None if there is no difference.
    """

    rows: int
    first: float
    second: float
    low: float
    high: float
    differs: bool
    rows_needed: int | None
    p_value: float | None = None  # of McNemar's test, for rows that are right or wrong

    @property
    def difference(self) -> float:
        return self.second - self.first


def check_confidence(confidence: float) -> None:
    """UserError for a confidence level that has no interval."""
    if not 0 < confidence < 1:
        raise UserError(f"--confidence: must be between 0 and 1, got {confidence!r}; correct it")
    if confidence > MAX_CONFIDENCE:
        raise UserError(f"--confidence: must be at most {MAX_CONFIDENCE}, got {confidence!r}; lower it")


def compare_correctness(first: Sequence[bool], second: Sequence[bool], confidence: float) -> Comparison:
    """Compare two models that are right or wrong on each row, by their proportion of right rows.

    The interval is that of Agresti and Min (2005) for paired proportions: Wald's interval with half a row
    added to each of the four cells. The models differ if it excludes zero and McNemar's exact test agrees.
    """
    a = np.asarray(first, dtype=bool)
    b = np.asarray(second, dtype=bool)
    rows = len(a)
    lost = int((a & ~b).sum())
    won = int((~a & b).sum())
    low, high = _agresti_min_interval(lost, won, rows, confidence)
    p_value = mcnemar(lost, won)
    difference = (won - lost) / rows
    discordant = (won + lost) / rows
    spread = math.sqrt(max(discordant - difference**2, 0.0))
    return Comparison(
        rows=rows,
        first=float(a.mean()),
        second=float(b.mean()),
        low=low,
        high=high,
        differs=not low <= 0 <= high and p_value < 1 - confidence,
        rows_needed=_rows_needed(difference, math.sqrt(discordant), spread, confidence),
        p_value=p_value,
    )


def compare_scores(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float,
    generator: np.random.Generator,
) -> Comparison:
    """Compare two models by the mean of a score per row, with a paired bootstrap interval."""
    a = np.asarray(first, dtype=np.float64)
    b = np.asarray(second, dtype=np.float64)
    gain = b - a
    low, high = mean_interval(gain, confidence, generator)
    spread = float(gain.std())
    return Comparison(
        rows=len(gain),
        first=float(a.mean()),
        second=float(b.mean()),
        low=low,
        high=high,
        differs=not low <= 0 <= high,
        rows_needed=_rows_needed(float(gain.mean()), spread, spread, confidence),
    )


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    `lost` and `won` count the rows on which only the first, or only the second, model is right. If the
    models are equally good, each such row is a coin toss. Q. McNemar, Psychometrika 12 (1947).
    """
    from scipy.stats import binomtest

    if lost + won == 0:
        return 1.0
    return float(binomtest(min(lost, won), lost + won, 0.5).pvalue)


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


def _agresti_min_interval(lost: int, won: int, rows: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (won - lost) / (rows + 2)
    discordant = (won + lost + 1) / (rows + 2)
    half_width = z * math.sqrt((discordant - centre**2) / (rows + 2))
    return max(centre - half_width, -1.0), min(centre + half_width, 1.0)


def _rows_needed(difference: float, spread_if_equal: float, spread: float, confidence: float) -> int | None:
    """Return how many rows a paired test needs to detect `difference` with probability POWER.

    Spreads are standard deviations of the difference per row, without and with a true difference.
    R. J. Connor, Biometrics 43 (1987).
    """
    if difference == 0:
        return None
    z_confidence = NormalDist().inv_cdf((1 + confidence) / 2)
    z_power = NormalDist().inv_cdf(POWER)
    return math.ceil(((z_confidence * spread_if_equal + z_power * spread) / difference) ** 2)
