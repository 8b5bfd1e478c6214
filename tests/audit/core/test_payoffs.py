import numpy as np
import pytest
from scipy import optimize, special

from accountant import available
from audit.core.payoffs import CELLS, Payoffs, against_gaussian, certified, gaussian_delta
from mechanisms import Adjacency, Gaussian, Poisson, Repeat, Sampled

MUS = np.array([0.0156, 0.0156, 0.268, 0.268, 0.925, 1.666, 1.666, 5.0, 10.0, 10.0])
ALTERNATIVES = np.array([0.02, 10.0, 0.3, 1.0, 2.0, 1.9, 40.0, 8.0, 11.1, 40.0])
POINTS = np.linspace(-26.0, 26.0, 200_001)


def density(centre):
    return np.exp(-0.5 * (POINTS - centre) ** 2) / np.sqrt(2 * np.pi)


def worst_mean(payoffs, mu):
    """The mean under the worst computation: it sees N(±mu/2, 1) and emits the cell that pays the most on average."""
    paid = np.max(
        np.exp(payoffs.included)[:, None] * density(mu / 2) + np.exp(payoffs.excluded)[:, None] * density(-mu / 2),
        axis=0,
    )
    return 0.5 * np.sum(paid) * (POINTS[1] - POINTS[0])


def row(payoffs, index):
    return Payoffs(limit=payoffs.limit[index], included=payoffs.included[index], excluded=payoffs.excluded[index])


@pytest.mark.parametrize("index", range(len(MUS)))
def test_the_worst_gaussian_computation_gets_a_mean_of_one_and_no_more(index):
    payoffs = row(against_gaussian(MUS, ALTERNATIVES), index)
    assert 1 - 1e-4 < worst_mean(payoffs, MUS[index]) <= 1 + 1e-9


def test_payoffs_never_fall_for_in_scores_and_never_rise_for_out_scores():
    payoffs = against_gaussian(MUS, ALTERNATIVES)
    assert np.all(np.diff(payoffs.included, axis=1) >= 0) and np.all(np.diff(payoffs.excluded, axis=1) <= 0)
    assert np.all(np.isfinite(payoffs.included)) and np.all(np.isfinite(payoffs.excluded))


def test_the_worlds_are_treated_alike_and_no_payoff_beats_the_odds_on_the_best_guess():
    payoffs = against_gaussian(MUS, ALTERNATIVES)
    assert np.array_equal(payoffs.included, payoffs.excluded[:, ::-1])
    assert np.all(payoffs.included[:, -1] <= -special.log_ndtr(MUS / 2))


@pytest.mark.parametrize(("mu", "alternative"), [(1.666, 3.332), (0.268, 0.536)])
def test_no_other_intervals_of_the_real_line_are_nearer_to_the_alternative(mu, alternative):
    """A general minimiser over the same intervals finds no smaller relative entropy, so no payoffs grow faster."""
    payoffs = row(against_gaussian(np.array([mu]), np.array([alternative])), 0)
    edges = np.concatenate([[-np.inf], payoffs.limit * alternative * np.linspace(-1, 1, CELLS - 1), [np.inf]])
    feared = np.diff(special.ndtr(edges - alternative / 2))
    growth = 0.5 * feared @ payoffs.included + 0.5 * feared[::-1] @ payoffs.excluded

    def entropy(spacing):
        points = np.concatenate(
            [[-np.inf], spacing[0] + np.concatenate([[0], np.cumsum(np.exp(spacing[1:]))]), [np.inf]]
        )
        masses = [np.maximum(np.diff(special.ndtr(points - centre)), 1e-300) for centre in (mu / 2, -mu / 2)]
        return 0.5 * feared @ np.log(feared / masses[0]) + 0.5 * feared[::-1] @ np.log(feared[::-1] / masses[1])

    inner = edges[1:-1] * (mu / alternative)
    start = np.concatenate([[inner[0]], np.log(np.diff(inner))])
    found = optimize.minimize(entropy, start, method="L-BFGS-B", options={"maxiter": 3000, "maxfun": 200_000})
    assert growth == pytest.approx(found.fun, rel=2e-3)
    assert growth <= found.fun + 1e-6


@pytest.mark.parametrize("epsilon", [-9.0, -1.0, 0.0, 0.5, 3.0, 9.0])
@pytest.mark.parametrize("mu", [0.1, 1.0, 6.0])
def test_the_gaussian_profile_is_the_hockey_stick_of_its_densities(epsilon, mu):
    stick = np.sum(np.maximum(density(mu / 2) - np.exp(epsilon) * density(-mu / 2), 0)) * (POINTS[1] - POINTS[0])
    assert gaussian_delta(np.array(epsilon), np.array(mu)) == pytest.approx(stick, abs=1e-8)


def test_the_gaussian_profile_has_limits():
    assert gaussian_delta(np.array([-np.inf, np.inf]), np.array(1.0)).tolist() == [1.0, 0.0]


def test_any_profile_certifies_payoffs_of_any_making():
    """For a Poisson-sampled Gaussian, the true pair of laws stays below 1 whatever cell its outcomes are put in."""
    process = Repeat(Sampled(Gaussian(noise_multiplier=0.8), Poisson(probability=0.3)), 1)
    certificate = available()["tightest"]().profile(process, adjacency=Adjacency.ADD_REMOVE)

    def profile(epsilon):
        finite = np.clip(epsilon, -30, 30)
        upper = certificate.delta(np.abs(finite).ravel()).upper
        upper = np.reshape(upper, np.shape(finite))
        return np.where(epsilon == np.inf, 0.0, np.where(finite >= 0, upper, 1 - np.exp(finite) * (1 - upper)))

    raw = against_gaussian(np.array([1.0]), np.array([3.0]))
    payoffs = row(certified(raw, profile), 0)
    out = np.exp(-0.5 * (POINTS / 0.8) ** 2) / (0.8 * np.sqrt(2 * np.pi))
    included = 0.7 * out + 0.3 * np.exp(-0.5 * ((POINTS - 1) / 0.8) ** 2) / (0.8 * np.sqrt(2 * np.pi))
    worst = np.max(np.exp(payoffs.included)[:, None] * included + np.exp(payoffs.excluded)[:, None] * out, axis=0)
    mean = 0.5 * np.sum(worst) * (POINTS[1] - POINTS[0])
    assert 0.8 < mean <= 1 + 1e-9


def test_cells_run_from_the_lowest_scores_to_the_highest():
    payoffs = row(against_gaussian(np.array([1.0]), np.array([2.0])), 0)
    cells = payoffs.cells(np.linspace(-5, 5, 1001))
    assert np.all(np.diff(cells) >= 0) and set(cells) == set(range(CELLS))
    assert list(payoffs.cells(np.array([-1e308, 1e308]))) == [0, CELLS - 1]
