import numpy as np
import pytest
from scipy import special

from audit.attacks.rmia import dominated_shares
from audit.core.references import References, balanced_membership
from mechanisms import InvalidParameter

RNG = np.random.default_rng(0)
MODELS, CANARIES, POPULATION = 6, 40, 300
INCLUDED = balanced_membership(models=MODELS, canaries=CANARIES, rng=RNG)
REFERENCES = References(
    confidences=RNG.normal(2 * INCLUDED, 1.5), included=INCLUDED, population=RNG.normal(0, 1.5, (MODELS, POPULATION))
)


def by_hand(x, z, mode, gamma, slope):
    """The share from the definition, over all pairs."""
    chances, everyone = special.expit(REFERENCES.confidences), special.expit(REFERENCES.population)
    shares = []
    for canary in range(CANARIES):
        without = chances[~INCLUDED[:, canary], canary].mean()
        usual = (chances[INCLUDED[:, canary], canary].mean() + without) / 2
        of_z = everyone.mean(axis=0)
        if mode == "offline":
            usual, of_z = ((1 + slope) * without + 1 - slope) / 2, ((1 + slope) * of_z + 1 - slope) / 2
        won = [(special.expit(x[canary]) / usual) / (special.expit(z[j]) / of_z[j]) >= gamma for j in range(POPULATION)]
        shares.append(np.mean(won))
    return shares


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(("gamma", "slope"), [(1.0, 0.3), (2.0, 1.0), (0.7, 0.0)])
def test_shares_are_those_of_all_pairs(mode, gamma, slope, rng):
    x, z = rng.normal(1, 1.5, CANARIES), rng.normal(0, 1.5, POPULATION)
    found = dominated_shares(x, z, REFERENCES, mode=mode, gamma=gamma, offline_slope=slope)
    np.testing.assert_allclose(found, by_hand(x, z, mode, gamma, slope), atol=1e-12)


def test_for_one_model_the_ranks_are_those_of_the_ratio_to_the_usual_chance(rng):
    canaries, models = 300, 8
    included = balanced_membership(models=models, canaries=canaries, rng=rng)
    references = References(
        confidences=rng.normal(size=(models, canaries)), included=included, population=rng.normal(size=(models, 5000))
    )
    x = rng.normal(size=canaries)
    shares = dominated_shares(x, rng.normal(size=5000), references)
    chances = special.expit(references.confidences)
    usual = [(chances[included[:, i], i].mean() + chances[~included[:, i], i].mean()) / 2 for i in range(canaries)]
    assert np.all(np.diff(shares[np.argsort(special.expit(x) / usual)]) >= 0)


def test_chances_too_small_for_floats_keep_their_ratios():
    references = References(
        confidences=[[-2000.0], [-2000.0]], included=[[True], [False]], population=[[-3000.0, -3000.0]] * 2
    )
    assert dominated_shares([-1999.0], [-3000.5, -2998.0], references) == 0.5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"population": np.zeros(3)}, "population must be the records that"),
        ({"confidences": np.zeros(3)}, "must be the 40 that"),
        ({"references": References(confidences=[[0.0] * 40], included=[[False] * 40])}, "asked about, of shape"),
        ({"confidences": np.full(CANARIES, np.nan)}, "rmia: confidences must be finite"),
        ({"population": np.full(POPULATION, np.nan)}, "rmia: population must be finite"),
        ({"gamma": 0.0}, "gamma must be above 0"),
        ({"offline_slope": 1.5}, r"offline_slope must lie in \[0, 1\]"),
        ({"mode": "x"}, "mode must be one of"),
    ],
)
def test_bad_input_is_named(change, text):
    given = {"confidences": np.zeros(CANARIES), "population": np.zeros(POPULATION), "references": REFERENCES} | change
    with pytest.raises(InvalidParameter, match=text):
        dominated_shares(**given)


def test_online_needs_models_with_each_canary():
    references = References(confidences=[[0.0]], included=[[False]], population=[[0.0]])
    with pytest.raises(InvalidParameter, match='Use mode="offline"'):
        dominated_shares([0.0], [0.0], references)
    assert dominated_shares([0.0], [0.0], references, mode="offline") == 1.0
