"""Whitened noise is bounded and its law tested at the levels announced; what is not the law is refuted."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from audit.core.whitened_noise import TESTS, lag_p_value, law_refuted, noise_bound, p_values
from audit.core.whitened_scores import Whitened
from audit.estimators.accountant_inversion import AccountantInversion
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import InvalidParameter, MatrixMechanism, Tree, UnsupportedProcess
from mechanisms.matrix import square_root
from tests.audit.correlated import begun_anew, labelled, of_same_variance, run_of, used_again

TREE = Tree(noise_multiplier=2.0, steps=24, participations=3, separation=8)
MATRIX = MatrixMechanism(noise_multiplier=2.0, coefficients=square_root(6), steps=24, participations=3, separation=8)
FEW = MatrixMechanism(noise_multiplier=0.5, coefficients=(1.0, 0.5), steps=5, participations=2, separation=3)
BOTH = pytest.mark.parametrize("mechanism", [TREE, MATRIX], ids=["tree", "matrix"])
FEW_NODES = Tree(noise_multiplier=0.5, steps=5, participations=2, separation=3)
ALPHA = 1e-4


def refuted(mechanism, data, confidence=1 - ALPHA):
    return AccountantInversion(adjacency="zero_out").refutes_description(data, process=mechanism, confidence=confidence)


def epsilon(mechanism, data, confidence=1 - ALPHA):
    inversion = AccountantInversion(adjacency="zero_out")
    return inversion.epsilon(data, process=mechanism, delta=1e-5, confidence=confidence)


def claimed(mechanism):
    from accountant import epsilon_bounds

    return epsilon_bounds(mechanism, delta=1e-5, adjacency="zero_out").upper


@BOTH
def test_half_the_noise_is_refuted_and_all_of_it_is_not(mechanism):
    honest, half = labelled(mechanism, seed=1), labelled(mechanism, seed=1, scale=0.5)
    assert not refuted(mechanism, honest) and refuted(mechanism, half)
    assert epsilon(mechanism, honest) < claimed(mechanism) < epsilon(mechanism, half)


@pytest.mark.slow
@BOTH
def test_honest_noise_is_never_refuted_at_a_level_of_one_in_ten_thousand(mechanism):
    assert not any(refuted(mechanism, labelled(mechanism, seed=seed)) for seed in range(100))


@BOTH
@pytest.mark.parametrize("fake", [of_same_variance, begun_anew, used_again])
def test_noise_that_is_correlated_in_another_way_is_refuted_by_its_law(mechanism, fake):
    if mechanism is MATRIX and fake is begun_anew:
        mechanism = dataclasses.replace(MATRIX, coefficients=square_root(24))
    data = labelled(mechanism, fake, seed=0, canaries=400)
    assert noise_bound(data, run_of(mechanism), confidence=1 - ALPHA) > 1.9
    assert law_refuted(data, run_of(mechanism), confidence=1 - ALPHA) and refuted(mechanism, data)


@BOTH
@pytest.mark.parametrize("bug", [{"contribution": 1.5}, {"more": 0.5}], ids=["longer", "more turns"])
def test_contributions_beyond_those_told_are_refuted(mechanism, bug):
    data = labelled(mechanism, seed=0, canaries=400, **bug)
    found = p_values(data, run_of(mechanism))
    assert found["contribution"] < 1e-6 and refuted(mechanism, data)


@BOTH
def test_more_noise_of_the_kind_described_is_not_refuted(mechanism):
    data = labelled(mechanism, seed=0, scale=3.0)
    assert not refuted(mechanism, data) and epsilon(mechanism, data) < claimed(mechanism)


def test_noise_without_canaries_shows_nothing():
    data = labelled(MATRIX, seed=0, scale=0.1, contribution=0.0)
    assert noise_bound(data, run_of(MATRIX), confidence=0.9) == np.inf
    assert epsilon(MATRIX, data) == 0.0 and not refuted(MATRIX, data)


def test_fakes_are_refuted_though_their_noise_buries_the_canaries():
    data = labelled(TREE, of_same_variance, seed=0, canaries=400, contribution=0.0)
    assert noise_bound(data, run_of(TREE), confidence=0.9) == np.inf and refuted(TREE, data)


@pytest.mark.parametrize("separation", [2, 5])
def test_canaries_without_a_turn_and_single_steps_teach_nothing_false(separation):
    """With the first of five steps alone most canaries never have a turn, or all have one."""
    mechanism = dataclasses.replace(FEW, steps=5, participations=1, separation=separation)
    data = labelled(mechanism, seed=0, canaries=40)
    idle = dataclasses.replace(data.scores.whitened, energies=np.zeros(40), matched=np.zeros(40))
    unseen = dataclasses.replace(data, scores=dataclasses.replace(data.scores, whitened=idle))
    assert not refuted(mechanism, unseen) and epsilon(mechanism, unseen) == 0.0
    once = dataclasses.replace(FEW, coefficients=(1.0,), steps=1, participations=1, separation=1)
    assert not refuted(once, labelled(once, seed=0)) and epsilon(once, labelled(once, seed=0)) > 0


def test_canaries_below_the_norm_described_show_nothing_of_the_noise():
    data = labelled(MATRIX, seed=0, scale=0.1, contribution=0.5)
    assert noise_bound(data, run_of(MATRIX), confidence=0.9) == np.inf


def test_no_noise_at_all_is_refuted_with_an_infinite_loss():
    data = labelled(MATRIX, seed=0, scale=0.0)
    assert epsilon(MATRIX, data) > 1e3 and refuted(MATRIX, data)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("mechanism", [FEW_NODES, FEW], ids=["tree", "matrix"])
def test_p_values_of_honest_noise_are_uniform_and_its_lag_is_never_below(mechanism):
    """Few steps and canaries, where a law that is only nearly exact would show."""
    found = [p_values(labelled(mechanism, seed=seed, canaries=12), run_of(mechanism)) for seed in range(300)]
    kept = [one for one in found if one]
    assert len(kept) > 270
    for name in ("contribution", "signature", "prefix", "halfway"):
        assert stats.kstest([one[name] for one in kept], "uniform").pvalue > 1e-4, name
    lags = np.array([one["lag"] for one in kept])
    for level in (0.01, 0.1, 0.5):
        assert np.mean(lags <= level) <= level + 4 * np.sqrt(level / len(kept))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("level", [0.3, 0.1])
def test_the_bound_holds_as_often_as_announced(level):
    bounds = [
        noise_bound(labelled(FEW, seed=seed, canaries=12), run_of(FEW), confidence=1 - level) for seed in range(300)
    ]
    below = np.mean(np.array(bounds) < FEW.noise_multiplier)
    assert below <= level / 2 + 4 * np.sqrt(level / 2 / 300)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.45, 0.49])
def test_the_lag_of_two_steps_is_bounded_from_above_by_its_exact_law(ratio):
    """One canary, two steps: r = sin(2θ)/2 with θ uniform."""
    exact = 1 - 2 / np.pi * np.arcsin(2 * ratio)
    assert exact <= lag_p_value(ratio, 1.0, canaries=1, steps=2) <= min(1.0, 8 * exact)


def test_the_lag_of_many_steps_is_that_of_a_normal_up_to_the_bounds_price():
    canaries, steps, ratio = 50, 400, 0.03
    normal = 2 * stats.norm.sf(ratio * np.sqrt(canaries * steps))
    assert normal <= lag_p_value(ratio, 1.0, canaries=canaries, steps=steps) <= 30 * normal
    assert lag_p_value(-ratio, 1.0, canaries=canaries, steps=steps) == lag_p_value(
        ratio, 1.0, canaries=canaries, steps=steps
    )


@pytest.mark.parametrize(("lagged", "total", "steps"), [(0.0, 0.0, 5), (0.0, 1.0, 1), (0.0, 9.0, 7)])
def test_where_there_is_no_lag_nothing_is_refuted(lagged, total, steps):
    assert lag_p_value(lagged, total, canaries=3, steps=steps) == 1.0


def test_nothing_is_known_of_the_noise_where_canaries_share_directions():
    data = labelled(MATRIX, of_same_variance, seed=0, canaries=400)
    askew = dataclasses.replace(data.scores.whitened, lagged=None)
    shared = dataclasses.replace(data, scores=dataclasses.replace(data.scores, whitened=askew))
    assert p_values(shared, run_of(MATRIX)) == {} and not law_refuted(shared, run_of(MATRIX), confidence=0.9)
    assert noise_bound(shared, run_of(MATRIX), confidence=0.9) == np.inf
    assert len(p_values(data, run_of(MATRIX))) == TESTS


def test_scores_that_are_not_whitened_are_refused_by_name():
    plain = Scores(values=np.zeros(4), design=OneRun(canaries=4), guessing_rule=Threshold(value=0.0))
    data = LabelledScores(scores=plain, membership=[True, True, False, False])
    with pytest.raises(UnsupportedProcess, match=r"accountant_inversion: scores must be whitened where .*\n.*whitened"):
        epsilon(TREE, data)
    with pytest.raises(InvalidParameter, match="scores must be of the 25 steps described, got those of 24"):
        epsilon(dataclasses.replace(TREE, steps=25), labelled(TREE, seed=0, canaries=8))
    one_out = dataclasses.replace(labelled(TREE, seed=0, canaries=4), membership=[True, True, True, False])
    with pytest.raises(InvalidParameter, match="accountant_inversion"):
        epsilon(TREE, one_out)


def test_what_was_whitened_must_be_finite_numbers_of_one_shape():
    good = {"steps": 3, "energies": np.ones(2), "matched": np.ones(2), "halfway": np.ones(2), "lagged": None}
    for name, bad, text in [
        ("matched", [1.0, np.inf], "matched must be finite"),
        ("halfway", [1.0], r"halfway must have shape \(m,\), as energies, got \(1,\)"),
        ("energies", [-1.0, 0.0], "energies must be at least 0"),
        ("steps", 0, "steps must be"),
    ]:
        with pytest.raises(InvalidParameter, match=f"Whitened: {text}"):
            Whitened(**(good | {name: bad}))
    with pytest.raises(InvalidParameter, match="Scores: whitened must be of 3 canaries"):
        Scores(
            values=np.zeros(3),
            design=OneRun(canaries=3),
            guessing_rule=Threshold(value=0.0),
            whitened=Whitened(**good),
        )
