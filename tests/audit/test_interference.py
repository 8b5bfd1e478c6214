import numpy as np
import pytest

from audit import interference as module
from audit.interference import interference
from mechanisms import Gaussian, InvalidParameter, Poisson, Repeat, Sampled, UnsupportedProcess

RNG = np.random.default_rng(0)
STEPS, RATE, NOISE = 20, 0.3, 1.5
RUN = Repeat(Sampled(Gaussian(noise_multiplier=NOISE), Poisson(probability=RATE)), STEPS)


def test_the_shares_are_those_of_simulated_scores():
    gradients = RNG.normal(size=(12, 30)) / 9
    coins, runs = RNG.random((40_000, 12)) < 0.5, 40_000
    visits = RNG.binomial(STEPS, RATE, (runs, 12)) * coins
    of_others = visits @ (gradients @ gradients.T) - visits * np.sum(gradients**2, axis=1)
    of_noise = RNG.normal(0, NOISE * np.sqrt(STEPS), (runs, 30)) @ gradients.T
    shares = of_others.var(axis=0) / (of_others + of_noise).var(axis=0)
    found = interference(gradients, RUN)
    assert found.largest_share == pytest.approx(shares.max(), rel=0.05)
    assert found.mean_share == pytest.approx(shares.mean(), rel=0.03)


def test_cosines_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES", 30)  # so that rows are taken in several pieces
    gradients = RNG.normal(size=(9, 5))
    cosines = np.corrcoef(np.hstack([gradients, -gradients]))  # of zero mean, so that correlations are cosines
    pairs = np.abs(cosines[~np.eye(9, dtype=bool)])
    found = interference(gradients, RUN)
    assert found.largest_cosine == pytest.approx(pairs.max())
    assert found.root_mean_square_cosine == pytest.approx(np.sqrt(np.mean(pairs**2)))


def test_canaries_at_right_angles_do_not_interfere():
    found = interference(np.eye(6), RUN)
    assert (found.largest_cosine, found.largest_share, found.mean_share) == (0.0, 0.0, 0.0)
    assert interference([[1.0, 0.0]], RUN).largest_cosine == 0.0


@pytest.mark.parametrize(
    ("gradients", "text"),
    [([[0.0, 0.0], [1.0, 0.0]], "must not be zero"), ([1.0], r"of shape \(m, d\)"), ([[np.nan]], "must be finite")],
)
def test_bad_gradients_are_named(gradients, text):
    with pytest.raises(InvalidParameter, match=text):
        interference(gradients, RUN)


def test_other_processes_are_refused():
    with pytest.raises(UnsupportedProcess, match="one Gaussian step"):
        interference([[1.0]], Repeat(Sampled(RUN, Poisson(probability=0.5)), 2))
