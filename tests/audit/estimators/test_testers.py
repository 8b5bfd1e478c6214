"""The testers of black-box mechanisms: held-out events and Rényi's divergence."""

import numpy as np
import pytest
from scipy import optimize, stats

from audit.core.cells import Cells
from audit.core.held_out import Halves, best_cuts
from audit.core.rankings import odds_of_worlds
from audit.estimators import histogram, hockey_stick, mmd, renyi
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms import Exponential, Gaussian, InvalidParameter, KeyedSource, Laplace, RandomizedResponse

TESTERS = {"hockey_stick": hockey_stick, "histogram": histogram, "mmd": mmd, "renyi": renyi}
DELTA = 0.01
every_tester = pytest.mark.parametrize("tester", TESTERS.values(), ids=TESTERS)


def truthful(epsilon):
    return 1 / (1 + np.exp(-epsilon))


def constant_ratio(rng, size, epsilon):
    """Scores in (0, 1) and (1, 2) that say no more than the half they lie in."""
    share = (1 - DELTA) * truthful(epsilon) + DELTA, (1 - DELTA) * truthful(-epsilon)
    return tuple((rng.random(size) < part) + rng.random(size) for part in share)


def two_answers(rng, size, epsilon):
    return tuple(1.0 * (rng.random(size) < truthful(sign * epsilon)) for sign in (1, -1))


def gaussian_pair(rng, size, epsilon):
    def lost(mu):
        return stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)

    mu = optimize.brentq(lambda mu: lost(mu) - DELTA, 1e-3, 20)
    return rng.normal(mu, size=size), rng.normal(size=size)


def atom_at_infinity(rng, size, epsilon):
    """With probability δ an answer that only this world gives, else randomized response."""
    answers = two_answers(rng, size, epsilon)
    return tuple(
        np.where(rng.random(size) < DELTA, far, world) for far, world in zip((9.0, -9.0), answers, strict=True)
    )


def all_equal(rng, size, epsilon):
    return np.zeros(size), np.zeros(size)


def laplace_pair(rng, size, epsilon):
    return rng.laplace(epsilon, size=size), rng.laplace(size=size)


def rare_answer(rng, size, epsilon):
    """An event that two outputs of the second world are expected to show, among scores that say nothing."""
    rate = min(2 / size, truthful(-epsilon))
    likelier = min(np.exp(epsilon) * rate + DELTA, 1.0)
    return tuple(np.where(rng.random(size) < part, 5.0, rng.normal(size=size)) for part in (likelier, rate))


LAWS = (constant_ratio, two_answers, gaussian_pair, atom_at_infinity, all_equal, laplace_pair, rare_answer)


def false_claims(tester, law, size, epsilon, simulations):
    rng = np.random.default_rng(11)
    asked = {"epsilon": epsilon, "delta": DELTA, "confidence": 0.95}
    claims = 0
    for _ in range(simulations):
        first, second = law(rng, size, epsilon)
        claims += bool(tester.rejects(first=first, second=second, **asked))
    return claims / simulations


def allowed(simulations):
    return 0.05 + 4 * np.sqrt(0.05 * 0.95 / simulations)


@pytest.mark.thinned(5)
@every_tester
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("epsilon", [0.0, 4.0])
def test_false_claims_stay_below_the_level(tester, law, epsilon):
    assert false_claims(tester, law, 60, epsilon, 60) <= allowed(60)


@pytest.mark.slow
@every_tester
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("size", "simulations"), [(50, 2000), (200, 2000), (1000, 1000), (5000, 200)])
def test_false_claims_stay_below_the_level_at_any_size(tester, law, epsilon, size, simulations):
    assert false_claims(tester, law, size, epsilon, simulations) <= allowed(simulations)


def two_worlds(mechanism, first, second, **more):
    source = KeyedSource(5)
    return tuple(mechanism.release(world, randomness=source, **more) for world in (first, second))


def choices(size):
    choice, source = Exponential(epsilon=1.0, adjacency="add_remove"), KeyedSource(5)
    worlds = ([2.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0])  # no score moves by more than one
    return tuple(
        np.array([choice.release(scores, sensitivity=1.0, randomness=source) for _ in range(size)], dtype=float)
        for scores in worlds
    )


# Shown at 2,000 outputs of either world, and the true ε, which no valid bound may pass.
@pytest.mark.parametrize(
    ("outputs", "delta", "expected", "truth"),
    [
        (
            lambda: two_worlds(Laplace(noise_multiplier=1.0), np.ones(2000), np.zeros(2000), sensitivity=1.0),
            0.0,
            {"hockey_stick": 0.7, "histogram": 0.6, "mmd": 0.7, "renyi": 0.45},
            1.0,
        ),
        (
            lambda: two_worlds(Gaussian(noise_multiplier=1 / 0.924931), np.ones(2000), np.zeros(2000), sensitivity=1.0),
            1e-5,
            {"hockey_stick": 1.0, "histogram": 1.0, "mmd": 0.25, "renyi": 0.3},
            4.0,
        ),
        (
            lambda: two_worlds(RandomizedResponse(epsilon=1.0, categories=2), np.ones(2000, int), np.zeros(2000, int)),
            0.0,
            {"hockey_stick": 0.75, "histogram": 0.75, "mmd": 0.75, "renyi": 0.65},
            1.0,
        ),
        (
            lambda: choices(600),
            0.0,
            {"hockey_stick": 0.2, "histogram": 0.2, "mmd": 0.2, "renyi": 0.0},
            0.6427,
        ),
    ],
    ids=["laplace", "gaussian", "randomized_response", "exponential"],
)
def test_testers_see_the_loss_of_our_mechanisms_and_no_more(outputs, delta, expected, truth):
    first, second = outputs()
    for name, least in expected.items():
        found = TESTERS[name].lower_bound_from_outputs(first, second, delta=delta, confidence=0.95)
        assert least <= found <= truth, name


@every_tester
def test_testers_see_outputs_of_several_coordinates(tester):
    """Five coordinates that together are one Gaussian pair of ε = 8 at δ = 1e-5."""
    shift = np.full((3000, 5), 1.666031 / np.sqrt(5))
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(3000, 5)) + shift, rng.normal(size=(3000, 5))
    assert 1.2 < tester.lower_bound_from_outputs(first, second, delta=1e-5, confidence=0.95) < 8


@every_tester
def test_what_only_the_half_learnt_from_shows_is_not_shown(tester):
    """Every second output of the first world is far off, the others are like those of the second world."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=2000), rng.normal(size=2000)
    level = {"delta": 0.0, "confidence": 0.95}
    first[::2] += 5.0
    assert tester.lower_bound_from_outputs(first, second, **level) == 0.0
    assert tester.lower_bound_from_outputs(np.sort(first), second, **level) > 0.1


@every_tester
@pytest.mark.parametrize("columns", [1, 3])
def test_outputs_near_the_largest_float_show_nothing_that_is_not_there(tester, columns):
    rng = np.random.default_rng(3)
    first, second = (1.7e308 * rng.uniform(-1, 1, size=(400, columns)) for _ in range(2))
    assert tester.lower_bound_from_outputs(first, second, delta=0.0, confidence=0.999) == 0.0


@every_tester
@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_the_bound_inverts_the_test(tester, shift):
    rng = np.random.default_rng(2)
    worlds = {"first": rng.normal(shift, size=800), "second": rng.normal(size=900)}
    level = {"delta": 1e-3, "confidence": 0.95}
    found = tester.lower_bound_from_outputs(**worlds, **level)
    refuted = tester.rejects(**worlds, epsilon=np.array([max(found - 1e-9, 0.0), found + 1e-9]), **level)
    assert list(refuted) == [found > 0, False]


@every_tester
def test_which_world_is_called_first_makes_little_difference(tester):
    rng = np.random.default_rng(4)
    first, second = rng.laplace(1.5, size=4000), rng.laplace(size=4000)
    level = {"delta": 0.0, "confidence": 0.95}
    found = tester.lower_bound_from_outputs(first, second, **level)
    assert tester.lower_bound_from_outputs(second, first, **level) == pytest.approx(found, rel=0.25)


@every_tester
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": [1.0]}, "outputs must have shape .* in either world"),
        ({"second": []}, "outputs must have shape .* in either world"),
        ({"second": np.ones((9, 2, 2))}, "outputs must have shape .* in either world"),
        ({"first": [1.0, np.nan, 0.0, 1.0]}, "outputs of the first world must be finite"),
        ({"first": np.ones((9, 2))}, "outputs of both worlds must have as many coordinates, got 2 and 1"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 1.5}, "confidence must lie strictly between"),
    ],
)
def test_impossible_outputs_are_refused(tester, change, message):
    asked = {"first": np.arange(9.0), "second": np.arange(9.0), "delta": 0.0, "confidence": 0.95} | change
    with pytest.raises(InvalidParameter, match=message):
        tester.lower_bound_from_outputs(asked.pop("first"), asked.pop("second"), **asked)


def test_one_class_empty_is_refused():
    scores = Scores(values=np.arange(9.0), design=IndependentRuns(runs=9), guessing_rule=Threshold(value=0.0))
    data = LabelledScores(scores=scores, membership=np.ones(9, dtype=bool))
    with pytest.raises(InvalidParameter, match=r"outputs must have shape .* in either world"):
        histogram.Histogram().epsilon(data, process=None, delta=0.0, confidence=0.95)


def test_a_ceiling_is_reached_by_worlds_that_have_nothing_in_common():
    scores = Scores(values=np.arange(400) // 200, design=IndependentRuns(runs=400), guessing_rule=Threshold(value=0.5))
    data = LabelledScores(scores=scores, membership=np.arange(400) >= 200)
    for found in (hockey_stick.HockeyStick(), histogram.Histogram(), mmd.MMD()):
        shown = found.epsilon(data, process=None, delta=1e-5, confidence=0.95)
        assert shown == found.ceiling(data, delta=1e-5, confidence=0.95) > 3


@pytest.mark.parametrize("order", [1.5, 2.0, 8.0])
def test_the_divergence_is_bounded_from_below_and_nearly_reached(order):
    """Gaussians μ apart have D_α = α μ²/2; randomized response that of its formula."""
    rng = np.random.default_rng(6)
    first, second = rng.normal(0.5, size=200_000), rng.normal(size=200_000)
    found = renyi.divergence_lower_bound(first, second, confidence=0.99, order=order)
    assert 0.55 * order * 0.125 < found < order * 0.125
    answers = two_answers(rng, 200_000, 1.0)
    likely, less = truthful(1.0), truthful(-1.0)
    exact = np.log(likely**order * less ** (1 - order) + less**order * likely ** (1 - order)) / (order - 1)
    found = renyi.divergence_lower_bound(*answers, confidence=0.99, order=order)
    assert 0.9 * exact < found < exact


@every_tester
def test_an_answer_that_one_world_alone_gives_shows_no_more_than_delta_forgives(tester):
    """A fifth of the first world's outputs; all others say nothing, so that ε is 0 at δ = 1/4 and inf at δ = 0."""
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 3, 4000), rng.integers(0, 3, 4000)
    first[rng.random(4000) < 0.2] = 9
    assert tester.lower_bound_from_outputs(first, second, delta=0.25, confidence=0.95) == 0.0
    assert tester.lower_bound_from_outputs(first, second, delta=0.0, confidence=0.95) > 1.5


@pytest.mark.parametrize("order", [1.0, 0.5, np.inf, np.nan])
def test_orders_that_have_no_such_bound_are_refused(order):
    with pytest.raises(InvalidParameter, match="renyi: order must be"):
        renyi.divergence_lower_bound(np.arange(9.0), np.arange(9.0), confidence=0.95, order=order)


@every_tester
def test_too_few_outputs_are_refused_in_words_that_tell_nothing_of_their_number(tester):
    least, level = 4 if tester is renyi else 2, {"delta": 0.0, "confidence": 0.95}
    for size in range(1, least):
        for worlds in (([1.0] * size, np.arange(9.0)), (np.arange(9.0), [1.0] * size)):
            with pytest.raises(InvalidParameter) as refused:
                tester.lower_bound_from_outputs(*worlds, **level)
            assert f"with n >= {least} in either world, and in one have not" in str(refused.value)
    tester.lower_bound_from_outputs([1.0] * least, np.arange(9.0), **level)


def test_a_rank_is_a_function_of_the_output_alone_to_the_last_bit():
    rng = np.random.default_rng(8)
    first, second = rng.normal(1, size=(50, 2)), rng.normal(size=(50, 2))
    points = rng.normal(size=(20, 2))
    for learn in (odds_of_worlds, mmd.MMD().learn):
        ranks = learn(first, second)(points)
        assert np.array_equal(np.concatenate([learn(first, second)(points[:7]), ranks[7:]]), ranks)


def test_odds_of_worlds_find_the_direction_in_which_they_differ():
    rng = np.random.default_rng(9)
    first, second = rng.normal([2.0, 0.0], size=(500, 2)), rng.normal(size=(500, 2))
    ranks = odds_of_worlds(first, second)(np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]]))
    assert ranks[0] > ranks[1] > ranks[2]


def test_the_best_cut_lies_midway_between_ranks_that_are_not_alike():
    first, second = (
        np.array([[3.0, 3.0, 2.0, 5.0], [1.0, 1.0, 1.0, 1.0]]),
        np.array([[1.0, 1.0 + 1e-15, 2.0], [1.0] * 3]),
    )
    assert best_cuts(first, second, 0.0, 0.3).tolist() == [2.5, np.inf]
    assert best_cuts(first[0], np.array([1.0, 1.0 + 1e-15]), 0.0, 0.3) == pytest.approx(1.5)


def cells_of(first, second, first_held=(0.0, 0.0), second_held=(0.0, 0.0)):
    parts = (np.asarray(part, dtype=float)[:, None] for part in (first, second, first_held, second_held))
    return Cells.of(Halves(**dict(zip(("first", "second", "first_held", "second_held"), parts, strict=True))))


def test_cells_of_few_values_are_the_values():
    first, second = np.repeat([0.0, 1.0, 2.0], [80, 15, 5]), np.repeat([0.0, 1.0, 2.0], [5, 15, 80])
    found = cells_of(first, second, [-9.0, 0.5, 1.0], [1.5, 2.0, 9.0])
    assert found.log_ratio[:3] == pytest.approx(np.log([5.5 / 80.5, 1.0, 80.5 / 5.5])) and found.log_ratio[3] == np.inf
    assert found.first.tolist() == [5, 15, 80, 0] and found.second.tolist() == [80, 15, 5, 0]
    assert found.first_held.tolist() == [0, 1, 2, 0] and found.second_held.tolist() == [2, 1, 0, 0]


def test_cells_of_many_values_lie_between_quantiles_of_both_worlds_together():
    rng = np.random.default_rng(1)
    first, second, held = rng.normal(1, size=700), rng.normal(size=650), rng.normal(size=99)
    found = cells_of(first, second, held, held)
    pooled = np.concatenate([first, second])
    edges = np.quantile(pooled, np.linspace(0, 1, 24, endpoint=False), method="inverted_cdf")
    places = [np.maximum(np.searchsorted(edges, world, side="right") - 1, 0) for world in (first, second, held)]
    ones, others, held_out = (np.bincount(place, minlength=24) for place in places)
    log_ratio = np.log((ones + 0.5) / 700 * 650 / (others + 0.5))
    order = np.argsort(log_ratio, kind="stable")
    assert found.log_ratio[:24] == pytest.approx(log_ratio[order], abs=1e-12) and np.all(found.log_ratio[24:] == np.inf)
    assert np.bincount(found.first[:24]).tolist() == np.bincount(ones).tolist()
    assert sorted(zip(found.first, found.second, found.first_held, strict=True))[-24:] == sorted(
        zip(ones, others, held_out, strict=True)
    )


@pytest.mark.thinned(3)
@every_tester
@pytest.mark.parametrize("columns", [1, 2])
def test_many_sets_are_refuted_as_each_by_itself(tester, columns):
    rng, level = np.random.default_rng(9), {"delta": 1e-3, "confidence": 0.9}
    first, second = rng.normal(3.0, size=(12, 90, columns)), rng.normal(size=(12, 80, columns))
    first[::2, :40], second[::2, :20] = np.round(first[::2, :40]), 0.0
    bounds = [tester.lower_bound_from_outputs(*worlds, **level) for worlds in zip(first, second, strict=True)]
    assert np.max(bounds) > 0
    for epsilon in (0.0, float(np.median(bounds)), float(np.max(bounds)) - 1e-9):
        found = tester.rejects(first=first, second=second, epsilon=epsilon, **level)
        each = [tester.rejects(first=x, second=y, epsilon=epsilon, **level) for x, y in zip(first, second, strict=True)]
        assert found.tolist() == [bool(one) for one in each]
        assert not found[np.array(bounds) < epsilon - 1e-9].any() and found[np.array(bounds) > epsilon + 1e-9].all()


@every_tester
def test_sets_that_do_not_match_are_refused(tester):
    asked = {"epsilon": 1.0, "delta": 0.0, "confidence": 0.95}
    with pytest.raises(InvalidParameter, match="must be of as many sets of runs"):
        tester.rejects(first=np.zeros((2, 9, 1)), second=np.zeros((3, 9, 1)), **asked)
    with pytest.raises(InvalidParameter, match="confidence must lie strictly between"):
        tester.rejects(first=np.zeros(9), second=np.zeros(9), **asked | {"confidence": 1.0})
