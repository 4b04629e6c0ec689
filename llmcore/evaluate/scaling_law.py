"""The scaling law L(N, D) = E + A / N^alpha + B / D^beta: its fit with intervals, and the best size for a budget.

L is the loss in nats per token, N the parameters, D the tokens seen. The form, and the fit by a Huber loss on log L
from a grid of starts, are those of Hoffmann et al. 2022 (arXiv:2203.15556, approach 3). The Huber losses are summed,
not averaged, and L-BFGS stops late: Besiroglu et al. 2024 (arXiv:2404.10102) found that an early stop had shifted the
published coefficients. SciPy is imported inside the functions: importing this module must stay cheap.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product

import numpy as np

from llmcore.base.errors import UserError
from llmcore.evaluate.scores import Uncertainty, percentile_interval

HUBER_DELTA = 1e-3  # of log L, as in the paper
RESAMPLES = 500
START_EXPONENTS = (0.25, 1.0, 2.0)  # alpha and beta of the starts
START_SHARES = (0.1, 0.5)  # of the mean loss that A / N^alpha, and B / D^beta, make at a start
MIN_POINTS = 6  # one more than coefficients


@dataclass(frozen=True)
class ScalingLaw:
    """The coefficients of E + A / N^alpha + B / D^beta; losses in nats per token."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, parameters: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """Return L(N, D)."""
        return np.asarray(self.E + self.A * np.power(parameters, -self.alpha) + self.B * np.power(tokens, -self.beta))

    def best_parameters(self, flops: float, flops_per_token: tuple[float, float]) -> float:
        """Return the N of the lowest loss for a budget, where a token costs c N^p operations: `flops_per_token` (c, p).

        D is then flops / (c N^p). With c N^p = 6 N it is the paper's equation 4.
        """
        c, p = flops_per_token
        balance = self.alpha * self.A / (p * self.beta * self.B)
        return float((balance * (flops / c) ** self.beta) ** (1 / (self.alpha + p * self.beta)))


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def covers(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class FittedLaw:
    """A law and the interval of each of its coefficients, by name, at a level of confidence."""

    law: ScalingLaw
    intervals: dict[str, Interval]
    confidence: float


def fit_scaling_law(
    parameters: np.ndarray, tokens: np.ndarray, losses: np.ndarray, *, irreducible: float | None = None
) -> ScalingLaw:
    """Return the law with the lowest summed Huber loss on log L over the points, each array (points,).

    `irreducible` fixes E. UserError for fewer than MIN_POINTS points, or those of one size or one amount of data.
    """
    if len(losses) < MIN_POINTS or len(set(parameters)) < 2 or len(set(tokens)) < 2:
        raise UserError(
            f"scaling law: must have {MIN_POINTS} trainings, of two sizes and two amounts of data at least, got "
            f"{len(losses)} of {len(set(parameters))} and {len(set(tokens))}; train more of them"
        )
    fit = _Fit(parameters, tokens, losses, irreducible)
    return fit.law(fit.solve(fit.starts()))


def fit_with_intervals(
    parameters: np.ndarray,
    tokens: np.ndarray,
    losses: np.ndarray,
    uncertainty: Uncertainty,
    *,
    irreducible: float | None = None,
) -> FittedLaw:
    """Return `fit_scaling_law` with the percentile intervals of a bootstrap of RESAMPLES fits.

    The grid is a design and stays whole: not points are drawn, but residuals of log L, widened by sqrt(n / (n - k)) for
    the k coefficients fitted (Efron and Tibshirani 1993, chapter 9).
    """
    law = fit_scaling_law(parameters, tokens, losses, irreducible=irreducible)
    fitted = np.log(law.loss(parameters, tokens))
    residuals = np.log(losses) - fitted
    n_coefficients = 5 if irreducible is None else 4
    residuals = (residuals - residuals.mean()) * np.sqrt(len(losses) / (len(losses) - n_coefficients))
    refits = []
    for _ in range(RESAMPLES):
        drawn = np.exp(fitted + uncertainty.generator.choice(residuals, len(residuals)))
        fit = _Fit(parameters, tokens, drawn, irreducible)
        refits.append(astuple(fit.law(fit.solve([fit.start(law)]))))
    ends = (percentile_interval(column, uncertainty.confidence) for column in np.array(refits).T)
    names = (field.name for field in fields(ScalingLaw))
    return FittedLaw(law, {name: Interval(*end) for name, end in zip(names, ends, strict=True)}, uncertainty.confidence)


class _Fit:
    """One fit. Its unknowns are log A', alpha, log B', beta and, unless fixed, log E.

    A' and B' are those of N and D divided by their geometric means: A and alpha alone would be nearly collinear.
    """

    def __init__(self, parameters: np.ndarray, tokens: np.ndarray, losses: np.ndarray, irreducible: float | None):
        self.log_n = np.log(np.asarray(parameters, dtype=np.float64))
        self.log_d = np.log(np.asarray(tokens, dtype=np.float64))
        self.centres = self.log_n.mean(), self.log_d.mean()
        self.log_losses = np.log(np.asarray(losses, dtype=np.float64))
        self.log_e = None if irreducible is None else float(np.log(irreducible))

    def objective(self, unknowns: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the summed Huber loss and its gradient."""
        log_a, alpha, log_b, beta = unknowns[:4]
        log_e = unknowns[4] if self.log_e is None else self.log_e
        n, d = self.log_n - self.centres[0], self.log_d - self.centres[1]  # (points,)
        terms = np.stack([log_a - alpha * n, log_b - beta * d, np.full_like(n, log_e)])  # (3, points)
        predicted = np.logaddexp.reduce(terms)  # (points,)
        residuals = predicted - self.log_losses
        bounded = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)  # the derivative of the Huber loss
        pulls = bounded * np.exp(terms - predicted)  # (3, points): each term's share of the loss
        gradient = np.array([pulls[0].sum(), -(pulls[0] * n).sum(), pulls[1].sum(), -(pulls[1] * d).sum()])
        if self.log_e is None:
            gradient = np.append(gradient, pulls[2].sum())
        loss = (bounded * (residuals - bounded / 2)).sum()
        scale = HUBER_DELTA  # so that the optimizer sees numbers near one
        return float(loss / scale), gradient / scale

    def solve(self, starts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the unknowns of the lowest objective that L-BFGS reaches from any start."""
        from scipy.optimize import minimize

        options = {"maxiter": 2000, "maxfun": 10000, "ftol": 1e-12, "gtol": 1e-8}
        found = [minimize(self.objective, start, jac=True, method="L-BFGS-B", options=options) for start in starts]
        best: np.ndarray = min(found, key=lambda result: float(result.fun)).x
        return best

    def starts(self) -> list[np.ndarray]:
        mean = self.log_losses.mean()
        grid = product(START_EXPONENTS, START_EXPONENTS, START_SHARES, START_SHARES)
        shares = [
            (mean + np.log(a), alpha, mean + np.log(b), beta, mean + np.log(1 - 0.9 * max(a, b)))
            for alpha, beta, a, b in grid
        ]
        return [np.array(start[: 5 if self.log_e is None else 4]) for start in shares]

    def start(self, law: ScalingLaw) -> np.ndarray:
        """Return the unknowns that are `law`."""
        log_a = np.log(law.A) - law.alpha * self.centres[0]
        log_b = np.log(law.B) - law.beta * self.centres[1]
        unknowns = np.array([log_a, law.alpha, log_b, law.beta, np.log(law.E)])
        return unknowns if self.log_e is None else unknowns[:4]

    def law(self, unknowns: np.ndarray) -> ScalingLaw:
        log_a, alpha, log_b, beta = map(float, unknowns[:4])
        log_e = float(unknowns[4]) if self.log_e is None else self.log_e
        a, b = np.exp([log_a + alpha * self.centres[0], log_b + beta * self.centres[1]])
        return ScalingLaw(float(np.exp(log_e)), float(a), alpha, float(b), beta)
