"""The fit of a scaling law: it recovers known coefficients, and its intervals cover them about as often as they say."""

import numpy as np
import pytest

from llmcore.base.errors import UserError
from llmcore.base.seeds import numpy_generator
from llmcore.evaluate import scaling_law
from llmcore.evaluate.scaling_law import ScalingLaw, fit_scaling_law, fit_with_intervals
from llmcore.evaluate.scores import Uncertainty

# Hoffmann et al. 2022 with the digits of their TeX source, and the fit of Besiroglu et al. 2024 to the same trainings.
HOFFMANN = ScalingLaw(E=1.6934, A=406.4, alpha=0.3392, B=410.7, beta=0.2849)
BESIROGLU = ScalingLaw(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658)
SMALL = ScalingLaw(E=0.63, A=2000.0, alpha=0.8, B=3e5, beta=1.0)

SMALL_N, SMALL_D = (
    axis.ravel() for axis in np.meshgrid([8e4, 1.5e5, 2.4e5, 4.6e5, 7.7e5], [3e5, 6e5, 1.2e6, 2.4e6], indexing="ij")
)
LARGE_N, LARGE_D = (axis.ravel() for axis in np.meshgrid(np.geomspace(7e7, 1.6e10, 6), np.geomspace(5e9, 5e11, 5)))


@pytest.mark.parametrize(
    ("law", "parameters", "tokens"),
    [(HOFFMANN, LARGE_N, LARGE_D), (BESIROGLU, LARGE_N, LARGE_D), (SMALL, SMALL_N, SMALL_D)],
)
def test_fit_recovers_the_coefficients_of_exact_losses(
    law: ScalingLaw, parameters: np.ndarray, tokens: np.ndarray
) -> None:
    found = fit_scaling_law(parameters, tokens, law.loss(parameters, tokens))
    assert vars(found) == pytest.approx(vars(law), rel=1e-4)


def test_fit_with_a_fixed_irreducible_loss_recovers_the_others() -> None:
    found = fit_scaling_law(SMALL_N, SMALL_D, SMALL.loss(SMALL_N, SMALL_D), irreducible=SMALL.E)
    assert found.E == SMALL.E
    assert vars(found) == pytest.approx(vars(SMALL), rel=1e-4)


def test_one_wrong_loss_hardly_moves_the_fit() -> None:
    losses = SMALL.loss(SMALL_N, SMALL_D)
    losses[7] *= 1.5
    found = fit_scaling_law(SMALL_N, SMALL_D, losses)
    assert found.loss(SMALL_N, SMALL_D) == pytest.approx(SMALL.loss(SMALL_N, SMALL_D), rel=0.01)


@pytest.mark.exhaustive
def test_intervals_cover_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 90%, of 40 fits to noise of 1%; narrower intervals than stated are Besiroglu's main finding."""
    monkeypatch.setattr(scaling_law, "RESAMPLES", 60)
    generator = numpy_generator(1, "noise")
    n_covered = dict.fromkeys(vars(SMALL), 0)
    for _ in range(40):
        losses = SMALL.loss(SMALL_N, SMALL_D) * np.exp(generator.normal(0.0, 0.01, len(SMALL_N)))
        fitted = fit_with_intervals(SMALL_N, SMALL_D, losses, Uncertainty(0.9, generator))
        for name, interval in fitted.intervals.items():
            n_covered[name] += interval.covers(getattr(SMALL, name))
    assert all(n >= 31 for n in n_covered.values()), n_covered


def test_best_size_for_gophers_budget_is_that_of_the_paper() -> None:
    """40 billion parameters by approach 3, for 5.76e23 operations at 6 N per token."""
    assert HOFFMANN.best_parameters(5.76e23, (6.0, 1.0)) == pytest.approx(40e9, rel=0.02)


def test_no_other_size_has_a_lower_loss_for_the_budget() -> None:
    flops, (c, p) = 1e13, (9.0, 0.95)
    sizes = np.geomspace(1e4, 1e7, 2001)
    losses = SMALL.loss(sizes, flops / (c * sizes**p))
    assert SMALL.best_parameters(flops, (c, p)) == pytest.approx(sizes[losses.argmin()], rel=0.01)


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [
        ([8e4, 8e4, 2e5, 2e5, 5e5], [3e5, 6e5, 3e5, 6e5, 3e5]),
        ([8e4] * 6, np.geomspace(3e5, 2e6, 6)),
        (np.geomspace(8e4, 8e5, 6), [3e5] * 6),
    ],
    ids=["too few", "one size", "one amount of data"],
)
def test_trainings_that_determine_no_law_are_refused(parameters: list[float], tokens: list[float]) -> None:
    n, d = np.array(parameters), np.array(tokens)
    with pytest.raises(UserError, match=r"^scaling law: must have 6 trainings, of two sizes and two amounts"):
        fit_scaling_law(n, d, SMALL.loss(n, d))
