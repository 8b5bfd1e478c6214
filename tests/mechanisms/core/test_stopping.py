"""Laws of the number of runs: what they take, and their means in many digits."""

import math

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import InvalidParameter
from mechanisms.core.stopping import PoissonRuns, TruncatedNegativeBinomial


@pytest.mark.parametrize("eta", [-1.0, -2.0, math.nan, math.inf, "1", None])
def test_what_is_no_eta_is_refused(eta):
    with pytest.raises(InvalidParameter, match="TruncatedNegativeBinomial: eta must"):
        TruncatedNegativeBinomial(eta=eta, gamma=0.5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.1, 10, math.nan, "0.1", True])
def test_what_is_no_gamma_is_refused(gamma):
    with pytest.raises(InvalidParameter, match="TruncatedNegativeBinomial: gamma must"):
        TruncatedNegativeBinomial(eta=1.0, gamma=gamma)


@pytest.mark.parametrize("runs", [-1.0, math.inf, math.nan, "3", None])
def test_what_is_no_mean_number_of_runs_is_refused(runs):
    with pytest.raises(InvalidParameter, match="PoissonRuns: runs must"):
        PoissonRuns(runs=runs)
    with pytest.raises(InvalidParameter, match="TruncatedNegativeBinomial: mean must"):
        TruncatedNegativeBinomial.of_mean(runs, eta=0.0)


@given(st.floats(-0.999, 50.0), st.floats(1e-300, 1 - 2.0**-53))
def test_the_mean_is_enclosed(eta, gamma):
    law = TruncatedNegativeBinomial(eta=eta, gamma=gamma)
    with mp.workdps(400):
        e, g = mp.mpf(eta), mp.mpf(gamma)
        truth = (1 - g) / g / -mp.log(g) if e == 0 else e * (1 - g) / (g * (1 - g**e))
        truth = (1 / g - 1) / -mp.log(g) if e == 0 else truth
        assert mp.mpf(law.log_mean.lower) <= mp.log(truth) * (1 + mp.mpf("1e-300")) + mp.mpf("1e-300")
        assert mp.log(truth) <= mp.mpf(law.log_mean.upper)
        assert law.log_mean.width <= 1e-7 + 1e-12 * law.log_mean.upper


@pytest.mark.parametrize(("mean", "eta"), [(10, 1.0), (10, 0.0), (100, 0.5), (1.5, -0.5), (1000, 7.0)])
def test_a_law_is_found_by_its_mean(mean, eta):
    law = TruncatedNegativeBinomial.of_mean(mean, eta=eta)
    assert law.mean.lower * (1 - 1e-9) <= mean <= law.mean.upper * (1 + 1e-9)
