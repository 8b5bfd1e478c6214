"""The rules that look at all thresholds, side by side: levels, reference values, and what each can show."""

import numpy as np
import pytest
from scipy import special, stats

from audit.core.thresholds import errors_at_thresholds, refuted_by_limits
from audit.estimators import berk_jones, bonferroni, calibrated, dkw, held_out, maximal
from audit.estimators.berk_jones import limits, probability_that_all_hold
from mechanisms import InvalidParameter
from tests.audit.estimators.laws import LAWS, constant_ratio

RULES = {module.__name__.rpartition(".")[2]: module for module in (berk_jones, bonferroni, dkw, held_out)}


def bound(rule, inside, outside, delta=0.0, confidence=0.95):
    return RULES[rule].lower_bound_from_scores(included=inside, excluded=outside, delta=delta, confidence=confidence)


def scores_with_errors(missed, alarms, runs):
    """Scores of which exactly so many are on the wrong side of 0, all alike on either side."""
    return np.where(np.arange(runs) < missed, -1.0, 1.0), np.where(np.arange(runs) < alarms, 1.0, -1.0)


def test_the_reference_value_of_the_uniform_band_is_reproduced():
    inside, outside = scores_with_errors(50, 20, 1000)
    assert bound("dkw", inside, outside, 1e-5) == pytest.approx(2.667897760700089, abs=1e-9)


def test_the_bonferroni_bound_is_that_of_the_best_threshold_with_its_own_run_left_out():
    rng = np.random.default_rng(0)
    inside, outside = np.round(rng.normal(2, 1, 40), 1), np.round(rng.normal(0, 1, 30), 1)
    found = 0.0
    for place, cut in enumerate(np.concatenate([inside, outside])):
        others_in = np.delete(inside, place) if place < 40 else inside
        others_out = np.delete(outside, place - 40) if place >= 40 else outside
        counts = np.count_nonzero(others_in < cut), np.count_nonzero(others_out >= cut)
        x, y = (
            1.0 if k == n else stats.beta.ppf(1 - 0.05 / 140, k + 1, n - k)
            for k, n in zip(counts, (len(others_in), len(others_out)), strict=True)
        )
        found = max(found, np.log(max((1 - x) / y, (1 - y) / x)))
    assert bound("bonferroni", inside, outside) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert found > 0.1


@pytest.mark.parametrize("runs", [1, 2, 10, 60])
def test_the_limits_of_all_error_rates_hold_together_as_often_as_they_say(runs):
    rng = np.random.default_rng(runs)
    bounds = limits(runs, 0.05)
    assert np.all(np.diff(bounds) > 0) and bounds[-1] == 1.0
    held = np.all(np.sort(rng.random((20_000, runs)), axis=1) <= bounds[:-1], axis=1).mean()
    assert abs(held - 0.95) <= 4 * np.sqrt(0.05 * 0.95 / 20_000)
    assert -1e-12 <= probability_that_all_hold(bounds[:-1]) - 0.95 < 1e-5


def test_the_probability_that_limits_hold_agrees_with_a_determinant():
    """Steck's: n! det[u_i^(j − i + 1) / (j − i + 1)!] is P[U_(k) >= …]; here by repeated integration of polynomials."""
    bounds = np.sort(np.random.default_rng(4).random(7) ** 0.5)
    integral = np.polynomial.Polynomial([1.0])
    for bound_of_next in bounds[::-1]:  # P[x < U_(k) <= u_k, …], as a polynomial of the lower end x
        antiderivative = integral.integ()
        integral = antiderivative(bound_of_next) - antiderivative
    assert probability_that_all_hold(bounds) == pytest.approx(special.factorial(7) * integral(0.0), rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("law", LAWS)
def test_false_claims_stay_below_the_level_under_every_law(rule, law):
    rng = np.random.default_rng(1)
    claims = [
        RULES[rule].rejects(
            **dict(zip(("included", "excluded"), law(rng, 24, 24, 1.0, 0.02), strict=True)),
            epsilon=1.0,
            delta=0.02,
            confidence=0.95,
        )
        for _ in range(30)
    ]
    assert np.sum(claims) <= stats.binom.ppf(0.9999, 30, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.0, 1e-5])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("runs", [50, 200, 1000])
@pytest.mark.parametrize("rule", RULES)
def test_many_draws_of_every_law_keep_the_level(rule, runs, epsilon, delta):
    rng, draws, found = np.random.default_rng(2), 1000, {}
    for law in LAWS:
        scores = [law(rng, runs, runs, epsilon, delta) for _ in range(draws)]
        found[law.__name__] = np.mean([bound(rule, *pair, delta) > epsilon for pair in scores])
    print(rule, runs, epsilon, delta, found)
    assert max(found.values()) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("rule", [*RULES, "maximal"])
def test_many_sets_are_refuted_as_each_by_itself(rule):
    """Against the bounds, of continuous scores and of tied ones, at ε among the bounds and at each of them."""
    module = RULES.get(rule, maximal)
    rng, level = np.random.default_rng(3), {"delta": 0.0, "confidence": 0.7}
    rejected = []
    for round_to in (9, 0):
        inside = np.round(rng.normal(2.0, 1.0, (8, 14)), round_to)
        outside = np.round(rng.normal(0.0, 1.0, (8, 11)), round_to)
        bounds = np.array(
            [
                module.lower_bound_from_scores(included=x, excluded=y, **level)
                for x, y in zip(inside, outside, strict=True)
            ]
        )
        for epsilon in (0.0, np.median(bounds), bounds[0]):
            found = module.rejects(included=inside, excluded=outside, epsilon=float(epsilon), **level)
            assert found.tolist() == ((epsilon <= bounds) & (bounds > 0)).tolist()
            rejected.append(found.mean())
    assert 0.2 < np.mean(rejected) < 0.8


@pytest.mark.parametrize("rule", [*RULES, "maximal"])
def test_scores_that_cannot_be_compared_are_refused(rule):
    module = RULES.get(rule, maximal)
    asked = {"delta": 0.0, "confidence": 0.95}
    for inside, outside in [([], [1.0]), ([1.0], []), ([np.nan], [1.0])]:
        with pytest.raises(InvalidParameter, match=f"(?s){rule}: scores must be"):
            module.lower_bound_from_scores(included=inside, excluded=outside, **asked)
        with pytest.raises(InvalidParameter, match=f"(?s){rule}: scores must be"):
            module.rejects(included=inside, excluded=outside, epsilon=1.0, **asked)
    with pytest.raises(InvalidParameter, match="got 2 and 1 dimensions"):
        module.rejects(included=[[1.0], [2.0]], excluded=[1.0], epsilon=1.0, **asked)


def test_the_threshold_that_is_held_out_is_the_first_that_suggests_most():
    rng = np.random.default_rng(6)
    inside, outside = np.round(rng.normal(1.0, 1.0, (20, 12))), np.round(rng.normal(0.0, 1.0, (20, 9)))
    found = held_out._best_threshold(inside, outside, 0.0, 0.95)
    order = calibrated.ordering(12, 9, 0.0, 0.95)
    for x, y, threshold in zip(inside, outside, found, strict=True):
        cuts = [*x, *y]
        shown = [float(order.suggested(np.sum(x < cut), np.sum(y >= cut))) for cut in cuts]
        assert threshold == cuts[int(np.argmax(shown))]


@pytest.mark.parametrize("rule", RULES)
def test_one_run_of_each_kind_shows_nothing(rule):
    assert bound(rule, [1.0], [0.0]) == 0.0


def rectangle(limit_of, missed, alarms, level):
    return refuted_by_limits(limit_of(missed, level), limit_of(alarms, level), 0.0)


@pytest.mark.slow
def test_what_each_rule_claims_falsely_and_shows_under_the_constant_ratio(capsys):
    """1,000 runs a side, ε = 2, δ = 0, level 5 %: share of false claims and mean bound of every rule."""
    n, draws, epsilon = 1000, 2000, 2.0
    rng = np.random.default_rng(0)
    errors = np.arange(n + 1)

    def exact(level):
        return np.where(errors < n, stats.beta.ppf(1 - level, errors + 1, np.maximum(n - errors, 1)), 1.0)

    def jeffreys(level):
        return np.where(errors < n, stats.beta.ppf(1 - level, errors + 0.5, n - errors + 0.5), 1.0)

    tables = {"exact": exact(0.025), "exact, α each": exact(0.05), "Jeffreys": jeffreys(0.025)}
    tables["Jeffreys, α each"] = jeffreys(0.05)
    order = maximal.ordering(n, n, 0.0, 0.95)
    shown = {}
    statistics = []
    for _ in range(draws):
        inside, outside = constant_ratio(rng, n, n, epsilon, 0.0)
        missed, alarms = errors_at_thresholds(inside, outside)
        fixed = np.count_nonzero(inside < 2.0), np.count_nonzero(outside >= 2.0)
        for name, table in tables.items():
            shown.setdefault(f"fixed, {name}", []).append(refuted_by_limits(table[fixed[0]], table[fixed[1]], 0.0))
            shown.setdefault(f"largest, {name}", []).append(refuted_by_limits(table[missed], table[alarms], 0.0))
        for rule in RULES:
            shown.setdefault(rule, []).append(bound(rule, inside, outside))
        counts = dict(false_negatives=fixed[0], true_positives=n - fixed[0], false_positives=fixed[1])
        shown.setdefault("fixed, calibrated", []).append(
            calibrated.lower_bound_from_counts(**counts, true_negatives=n - fixed[1], delta=0.0, confidence=0.95)
        )
        statistics.append(maximal.largest_suggested(order, inside, outside))
    knots = np.linspace(min(statistics), max(statistics), 25)  # the bound is a smooth function of the statistic
    bounds = [maximal._largest_refuted(order, knot, 0.05) for knot in knots]
    shown["maximal"] = np.interp(statistics, knots, bounds)
    rates = {name: (np.mean(np.array(values) > epsilon), np.mean(values)) for name, values in shown.items()}
    with capsys.disabled():
        print()
        for name, (false, mean) in sorted(rates.items(), key=lambda pair: pair[1][1]):
            print(f"{name:26s} false claims {false:6.1%}   mean bound {mean:.4f}")
    published = {  # (false claims, mean bound)
        "fixed, exact": (0.025, 1.85),
        "fixed, exact, α each": (0.067, 1.88),
        "fixed, Jeffreys": (0.027, 1.85),
        "largest, exact": (0.143, 1.90),
        "largest, Jeffreys, α each": (0.387, 2.02),
        "bonferroni": (0.0, 1.65),
        "dkw": (0.0, 1.68),
    }
    for name, (false, mean) in published.items():
        assert rates[name][0] == pytest.approx(false, abs=4 * np.sqrt(max(false, 0.01) / draws)), name
        assert rates[name][1] == pytest.approx(mean, abs=0.025), name
    assert rates["maximal"][1] >= 1.85
    assert rates["maximal"][0] <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("rule", [berk_jones, bonferroni, held_out])
def test_more_runs_than_are_answered_in_seconds_are_refused_by_name(rule):
    asked = {"included": np.zeros(rule.MOST_RUNS + 2), "excluded": np.zeros(2), "delta": 0.0, "confidence": 0.95}
    name, most = rule.__name__.rpartition(".")[2], f"{rule.MOST_RUNS:,}"
    for question in (rule.lower_bound_from_scores, lambda **given: rule.rejects(**given, epsilon=1.0)):
        with pytest.raises(InvalidParameter, match=f"{name}: scores must be of at most {most} runs of a kind"):
            question(**asked)


def test_more_pairs_of_runs_than_fit_the_tables_of_the_maximal_rule_are_refused():
    asked = {"included": np.zeros(50_001), "excluded": np.zeros(1_000), "delta": 0.0, "confidence": 0.95}
    for question in (maximal.lower_bound_from_scores, lambda **given: maximal.rejects(**given, epsilon=1.0)):
        with pytest.raises(InvalidParameter, match="maximal: scores must be of at most 50,000,000 pairs"):
            question(**asked)
