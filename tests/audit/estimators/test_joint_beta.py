import numpy as np
import pytest
from scipy import special, stats

from audit.estimators.joint_beta import (
    JointBeta,
    _as_fixed,
    _both,
    interval_from_counts,
    lower_bound_from_counts,
    rejects,
)
from mechanisms import InvalidParameter

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")

# (TP, FN, FP, TN), δ, ends at .90. The first is the example of Microsoft's privacy-estimates, which prints 0.145 and
# 6.399, both to its own tolerance.
REFERENCE = [
    ((487, 0, 512, 1), 1e-5, (0.14389495705889252, 6.415595673956335)),
    ((90, 10, 10, 90), 0.0, (1.9129879382020167, 2.8338441214040913)),
    ((950, 50, 20, 980), 1e-5, (3.5113563739887153, 4.238522917376006)),
]

# (FN, TP, FP, TN), ε, δ, G(ε), by mpmath at thirty digits.
THIRTY_DIGITS = [
    ((0, 487, 512, 1), 0.144, 1e-5, 0.050034055506353224),
    ((0, 487, 512, 1), 6.4156, 1e-5, 0.9500001080668206),
    ((0, 10, 0, 10), 8.0, 0.01, 0.8758953693689044),
    ((0, 100, 0, 1000), 7.0, 1e-5, 0.11931060546465679),
    ((1, 1, 1, 1), 0.5, 0.3, 0.7262406907368626),
    ((300, 0, 300, 0), 5.0, 1e-3, 0.0020294691519601427),
]


def named(counts):
    return dict(zip(NAMES, counts, strict=True))


def posterior(function, counts, epsilon, delta):
    missed, hits, alarms, rest = counts
    return float(
        function(
            np.array([float(missed)]),
            missed + hits,
            np.array([float(alarms)]),
            alarms + rest,
            np.array([float(epsilon)]),
            delta,
        )[0]
    )


@pytest.mark.parametrize(("counts", "delta", "expected"), REFERENCE)
def test_reference_values_are_reproduced(counts, delta, expected):
    found = interval_from_counts(**named(counts), delta=delta, confidence=0.9)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("counts", "epsilon", "delta", "expected"), THIRTY_DIGITS)
def test_the_posterior_agrees_with_thirty_digits(counts, epsilon, delta, expected):
    assert posterior(_both, counts, epsilon, delta) == pytest.approx(expected, abs=1e-11)


def double_integral(counts, epsilon, delta):
    """The posterior inside both halves of the region, by a double integral in the two angles, without betainc."""
    missed, hits, alarms, rest = counts
    roots, weights = np.polynomial.legendre.leggauss(12)

    def panels(ends):
        half = 0.5 * np.diff(ends, axis=-1)[..., None]
        nodes = ends[..., :-1, None] + half * (1 + roots)
        return nodes.reshape(*ends.shape[:-1], -1), (half * weights).reshape(*ends.shape[:-1], -1)

    def density(angle, ones, twos):
        logarithm = special.xlogy(2 * ones, np.sin(angle)) + special.xlogy(2 * twos, np.cos(angle))
        return 2 * np.exp(logarithm - special.betaln(ones + 0.5, twos + 0.5))

    growth = np.exp(epsilon)
    kinks = [1 / (1 + growth), growth / (1 + growth), delta, 1 - delta, (1 - delta) / (1 + growth)]
    ends = np.sort(np.r_[np.linspace(0, np.pi / 2, 300), np.arcsin(np.sqrt([*kinks, 1 - kinks[-1]]))])
    outer, outer_weights = panels(ends)
    x = np.sin(outer) ** 2
    low = np.maximum.reduce([0 * x, 1 - delta - growth * x, (1 - delta - x) / growth])
    high = np.minimum.reduce([0 * x + 1, delta + growth * (1 - x), 1 - (x - delta) / growth])
    low, high = np.arcsin(np.sqrt(low)), np.arcsin(np.sqrt(np.maximum(high, 0.0)))
    inner, inner_weights = panels(low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 30))
    inside = np.sum(density(inner, alarms, rest) * inner_weights, axis=1)
    return float(np.sum(inside * density(outer, missed, hits) * outer_weights))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("counts", [(10, 90, 10, 90), (0, 40, 3, 20), (5, 5, 0, 60), (30, 2, 40, 1)])
@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 0.0), (0.3, 0.05), (4.0, 1e-3)])
def test_the_posterior_agrees_with_a_double_integral(counts, epsilon, delta):
    expected = double_integral(counts, epsilon, delta)
    assert posterior(_both, counts, epsilon, delta) == pytest.approx(expected, abs=2e-7)


@pytest.mark.thinned(7)
@pytest.mark.parametrize(("few", "many"), [(3, 10**6), (10**6, 3), (10**6, 10**6), (1, 1)])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 5.0, 40.0, 200.0])
@pytest.mark.parametrize("delta", [0.0, 1e-9, 0.9])
def test_the_posterior_is_a_probability_that_grows_with_epsilon_also_for_lopsided_counts(few, many, epsilon, delta):
    counts = (few // 3, few - few // 3, many // 5, many - many // 5)
    lower, upper = (posterior(_both, counts, point, delta) for point in (epsilon, epsilon + 0.5))
    assert -1e-7 <= lower <= upper + 1e-9 <= 1 + 1e-7


def test_widely_spread_and_concentrated_rates_meet_where_one_of_them_is_known():
    """FPR known to be 1/5: P[x >= (4/5 − δ)/e^ε and x >= 1 − δ − e^ε/5] is a quantile of x alone."""
    counts, epsilon = (2, 5, 2 * 10**7, 8 * 10**7), 1.0
    least = max(0.8 / np.e, 1 - np.e / 5)
    expected = float(special.betaincc(2.5, 5.5, least))
    assert posterior(_as_fixed, counts, epsilon, 0.0) == pytest.approx(expected, abs=1e-4)


def test_the_interval_is_never_without_loss_and_the_evidence_is():
    """A test that guesses at random: the posterior of two rates has no mass where they are equal."""
    counts = named((50, 50, 50, 50))
    assert interval_from_counts(**counts, delta=0.0, confidence=0.9)[0] > 0
    assert lower_bound_from_counts(**counts, delta=0.0, confidence=0.95) == 0.0


@pytest.mark.parametrize("counts", [(90, 10, 10, 90), (40, 960, 1, 999), (30, 0, 0, 70), (5, 5, 5, 5)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.05])
def test_the_bound_inverts_the_test(counts, delta):
    found = lower_bound_from_counts(**named(counts), delta=delta, confidence=0.95)
    asked = {
        "false_negatives": counts[1],
        "included": counts[0] + counts[1],
        "false_positives": counts[2],
        "excluded": counts[2] + counts[3],
        "delta": delta,
        "confidence": 0.95,
    }
    assert found == 0 or rejects(epsilon=found - 1e-7, **asked)
    assert not rejects(epsilon=found + 1e-7, **asked)


def false_claims(size, epsilon, delta, alarm_rate):
    """Exact: one pair of rates on the boundary of what (ε, δ) allows, all pairs of counts that are not negligible."""
    miss_rate = 1 - delta - np.exp(epsilon) * alarm_rate
    missed, alarms = np.arange(size + 1), np.arange(size + 1)
    law = [stats.binom.pmf(missed, size, miss_rate), stats.binom.pmf(alarms, size, alarm_rate)]
    rows, columns = np.flatnonzero(law[0] > 1e-4), np.flatnonzero(law[1] > 1e-4)
    refuted = rejects(
        false_negatives=rows[:, None],
        included=size,
        false_positives=columns[None, :],
        excluded=size,
        epsilon=epsilon,
        delta=delta,
        confidence=0.95,
    )
    return law[0][rows] @ refuted @ law[1][columns]


@pytest.mark.parametrize(
    ("epsilon", "alarm_rate", "measured"), [(0.0, 0.05361, 0.0599), (1.0, 0.26894, 0.1120), (4.0, 0.017986, 0.1628)]
)
def test_false_claims_are_as_measured(epsilon, alarm_rate, measured):
    assert false_claims(50, epsilon, 0.0, alarm_rate) == pytest.approx(measured, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true_positives": 0, "false_negatives": 0}, "got none of one kind"),
        ({"false_positives": -1}, "false_positives must be at least 0"),
        ({"true_negatives": np.nan}, "true_negatives must be a number"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 0.0}, "confidence must lie strictly between"),
    ],
)
@pytest.mark.parametrize("asked", [interval_from_counts, lower_bound_from_counts])
def test_impossible_numbers_are_refused(asked, change, message):
    with pytest.raises(InvalidParameter, match=f"joint_beta: .*{message}"):
        asked(**(named((9, 1, 1, 9)) | {"delta": 0.0, "confidence": 0.95} | change))


def test_evidence_of_the_joint_posterior_is_credible_only():
    assert JointBeta.guarantee == "credible"
