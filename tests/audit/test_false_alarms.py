"""The thin version of what `python -m tests.audit.false_alarms` runs by hand."""

import numpy as np
import pytest

from audit.core import gdp_ladder
from audit.core.e_processes import mu_of
from audit.estimators import anytime_gdp
from tests.audit.false_alarms import DELTA, LAWS, by_gdp_scores, shares_alarmed

OPENED = gdp_ladder.Opening(anytime_gdp.OPENING, np.log(20))


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("claim", [1.0, 8.0])
def test_no_more_streams_alarm_at_a_claim_just_true_than_announced(claim, law):
    for share in shares_alarmed(claim, 200, 20_000, law).values():
        assert share <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_wealths_are_those_of_the_library_where_an_alarm_is_near():
    """Chunk by chunk, of scores drawn in the same order, against the wealth of whole streams."""
    mu, rng = mu_of(8.0, DELTA), np.random.default_rng(5)
    found = [wealths["gdp"] for wealths in by_gdp_scores(8.0, 40, 1000, np.random.default_rng(5))]
    coins, positions = [], []
    for _ in range(2):
        coins.append(rng.random((40, 500)) < 0.5)
        positions.append(coins[-1] + rng.normal(size=(40, 500)) / mu - anytime_gdp.CENTRE)
    whole = gdp_ladder.log_wealth(
        np.concatenate(positions, axis=1), np.concatenate(coins, axis=1), mu=mu, opening=OPENED
    )
    near = np.isfinite(shown := np.concatenate(found, axis=1))
    assert near.sum() > 100 and np.allclose(shown[near], whole[near], atol=1e-9)
    assert np.all(whole[~near] < np.log(20.0))
