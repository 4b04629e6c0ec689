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
START_EXPONENTS = (0.3, 1.0, 2.0)  # alpha and beta of the starts
START_SHARE = 0.3  # of the mean loss that A / N^alpha, and B / D^beta, make at a start; E has the rest
EXPONENT_BOUNDS = (0.0, 5.0)
# of `_Fit`'s unknowns, against overflow
BOUNDS = ((-30.0, 30.0), EXPONENT_BOUNDS, (-30.0, 30.0), EXPONENT_BOUNDS, (-30.0, 30.0))
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

    @property
    def has_best_size(self) -> bool:
        """Whether more parameters, and more tokens, lower the loss."""
        return min(self.A, self.alpha, self.B, self.beta) > 0

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
    _require_enough(parameters, tokens, losses)
    fit = _Fit(parameters, tokens, losses, irreducible)
    return fit.law(fit.solve(fit.starts(), np.ones(len(losses))))


def fit_with_intervals(
    parameters: np.ndarray,
    tokens: np.ndarray,
    losses: np.ndarray,
    uncertainty: Uncertainty,
    *,
    irreducible: float | None = None,
) -> FittedLaw:
    """Return `fit_scaling_law` with the percentile intervals of a bootstrap: RESAMPLES fits to points drawn again.

    Whole points are drawn, not residuals, so that where the law is wrong in form the intervals are wider.
    """
    _require_enough(parameters, tokens, losses)
    fit = _Fit(parameters, tokens, losses, irreducible)
    best = fit.solve(fit.starts(), np.ones(len(losses)))
    shares = np.full(len(losses), 1 / len(losses))
    draws = uncertainty.generator.multinomial(len(losses), shares, size=RESAMPLES)  # how often each point is drawn
    refits = np.array([astuple(fit.law(fit.solve([best], draw))) for draw in draws])
    ends = [percentile_interval(column, uncertainty.confidence) for column in refits.T]
    names = [field.name for field in fields(ScalingLaw)]
    return FittedLaw(
        fit.law(best), {name: Interval(*end) for name, end in zip(names, ends, strict=True)}, uncertainty.confidence
    )


def _require_enough(parameters: np.ndarray, tokens: np.ndarray, losses: np.ndarray) -> None:
    if len(losses) < MIN_POINTS or len(set(parameters)) < 2 or len(set(tokens)) < 2:
        raise UserError(
            f"scaling law: must have {MIN_POINTS} trainings, of two sizes and two amounts of data at least, got "
            f"{len(losses)} of {len(set(parameters))} and {len(set(tokens))}; train more of them"
        )


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

    def objective(self, unknowns: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the sum of the Huber losses of the points, each times its weight (points,), and its gradient."""
        log_a, alpha, log_b, beta = unknowns[:4]
        log_e = unknowns[4] if self.log_e is None else self.log_e
        n, d = self.log_n - self.centres[0], self.log_d - self.centres[1]  # (points,)
        terms = np.stack([log_a - alpha * n, log_b - beta * d, np.full_like(n, log_e)])  # (3, points)
        predicted = np.logaddexp.reduce(terms)  # (points,)
        residuals = predicted - self.log_losses
        bounded = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)  # the derivative of the Huber loss
        pulls = weights * bounded * np.exp(terms - predicted)  # (3, points): each term's share of the loss
        gradient = np.array([pulls[0].sum(), -(pulls[0] * n).sum(), pulls[1].sum(), -(pulls[1] * d).sum()])
        if self.log_e is None:
            gradient = np.append(gradient, pulls[2].sum())
        loss = (weights * bounded * (residuals - bounded / 2)).sum()
        return float(loss / HUBER_DELTA), gradient / HUBER_DELTA  # the optimizer wants numbers near one

    def solve(self, starts: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        """Return the unknowns of the lowest objective that L-BFGS reaches from any start."""
        from scipy.optimize import minimize

        options = {"maxiter": 2000, "maxfun": 10000, "ftol": 1e-12, "gtol": 1e-8}
        bounds = BOUNDS[: len(starts[0])]
        found = [
            minimize(self.objective, start, (weights,), "L-BFGS-B", jac=True, bounds=bounds, options=options)
            for start in starts
        ]
        best: np.ndarray = min(found, key=lambda result: float(result.fun)).x
        return best

    def starts(self) -> list[np.ndarray]:
        part, rest = self.log_losses.mean() + np.log([START_SHARE, 1 - 2 * START_SHARE])
        grid = product(START_EXPONENTS, START_EXPONENTS)
        n_unknowns = 5 if self.log_e is None else 4
        return [np.array([part, alpha, part, beta, rest][:n_unknowns]) for alpha, beta in grid]

    def law(self, unknowns: np.ndarray) -> ScalingLaw:
        log_a, alpha, log_b, beta = map(float, unknowns[:4])
        log_e = float(unknowns[4]) if self.log_e is None else self.log_e
        a, b = np.exp([log_a + alpha * self.centres[0], log_b + beta * self.centres[1]])
        return ScalingLaw(float(np.exp(log_e)), float(a), alpha, float(b), beta)
