import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import epsilon_bounds
from audit.estimators.accountant_inversion import AccountantInversion, noise_multiplier_upper_bound, rejects
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import Gaussian, InvalidParameter, Poisson, RandomizedResponse, Repeat, Sampled, UnsupportedProcess

SIMULATIONS = 20_000
LEVEL = 0.01
FOUR_STANDARD_ERRORS = 4 * np.sqrt(LEVEL * (1 - LEVEL) / SIMULATIONS)

# sampling probability, steps, noise multiplier, included, excluded
LAWS = [
    (0.5, 100, 5.5, 2500, 2500),
    (0.5, 100, 1.4, 2500, 2500),
    (0.1, 200, 1.8, 500, 500),
    (0.01, 1000, 0.9, 500, 480),
    (1.0, 10, 4.0, 200, 210),
    (0.5, 20, 4.0, 25, 25),
    (0.5, 100, 1.0, 5, 4),
    (0.1, 1, 0.3, 40, 40),
    (0.02, 10, 0.5, 1, 2),
]
KINDS = ["gap", "sums", "samples", "steps"]  # what the squares are of; "gap" has none


def simulated(law, kind):
    """Draw what the estimator computes from, many times, from the law of Poisson DP-SGD's projections."""
    probability, steps, noise, included, excluded = law
    rng = np.random.default_rng(7)
    mean_of_noise = rng.normal(0, noise * np.sqrt(steps / included), SIMULATIONS)
    mean_in = rng.binomial(included * steps, probability, SIMULATIONS) / included + mean_of_noise
    mean_out = rng.normal(0, noise * np.sqrt(steps / excluded), SIMULATIONS)
    variance = noise**2 * steps * rng.chisquare(excluded - 1, SIMULATIONS) / (excluded - 1)
    numbers = {"gap": mean_in - mean_out, "deviation": np.sqrt(variance)}
    squares, degrees = ((excluded - 1) * variance + excluded * mean_out**2) / steps, excluded
    if kind == "samples":
        squares += included * mean_of_noise**2 / steps
        squares += noise**2 * (rng.chisquare(included - 1, SIMULATIONS) if included > 1 else 0.0)
        degrees += included
    if kind == "steps" and steps > 1:
        squares += noise**2 * rng.chisquare(excluded * (steps - 1), SIMULATIONS)
        degrees *= steps
    return numbers if kind == "gap" else numbers | {"squares": squares, "degrees": degrees}


def share_refuted(law, kind, tested_noise, level=LEVEL):
    probability, steps, _, included, excluded = law
    return rejects(
        **simulated(law, kind),
        included=included,
        excluded=excluded,
        probability=probability,
        steps=steps,
        noise_multiplier=tested_noise,
        confidence=1 - level,
    ).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", LAWS)
def test_the_true_noise_is_refuted_no_more_often_than_announced(law, kind):
    assert share_refuted(law, kind, law[2]) <= LEVEL + FOUR_STANDARD_ERRORS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", LAWS[:3])
def test_little_of_the_error_is_wasted(law, kind):
    assert share_refuted(law, kind, law[2]) >= 0.9 * LEVEL - FOUR_STANDARD_ERRORS


@pytest.mark.thinned(4)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", KINDS)
def test_less_noise_than_there_is_is_refuted_less_often(law, kind):
    assert share_refuted(law, kind, 0.8 * law[2]) <= LEVEL + FOUR_STANDARD_ERRORS


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.002, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", LAWS)
def test_other_levels_are_kept_too(law, kind, level):
    allowed = 4 * np.sqrt(level * (1 - level) / SIMULATIONS)
    assert share_refuted(law, kind, law[2], level) <= level + allowed


@pytest.mark.thinned(3)
@pytest.mark.parametrize("squares", [{}, {"squares": 28.0 * 1100 * 100, "degrees": 110_000}])
@pytest.mark.parametrize("gap", [49.0, 3.0])
def test_the_bound_inverts_the_test(gap, squares):
    asked = {"gap": gap, "deviation": 56.0, "included": 900, "excluded": 1100, "probability": 0.5, "steps": 100}
    asked |= squares | {"confidence": 0.99}
    found = noise_multiplier_upper_bound(**asked)
    refuted = rejects(**asked, noise_multiplier=[found * (1 + 1e-9), np.inf, found * (1 - 1e-9), 0.0])
    assert list(refuted) == ([True, True, False, False] if found < np.inf else [False] * 4)


@given(
    contrast=st.floats(0.0, 3.0),
    noise=st.floats(0.5, 50.0),
    excluded=st.integers(2, 2000),
    included=st.integers(1, 2000),
    probability=st.floats(0.01, 1.0),
    steps=st.integers(1, 300),
    confidence=st.floats(0.5, 0.999),
)
def test_bound_and_test_agree_anywhere(contrast, noise, excluded, included, probability, steps, confidence):
    asked = {"gap": contrast, "deviation": 1.0, "included": included, "excluded": excluded}
    asked |= {"probability": probability, "steps": steps, "confidence": confidence}
    found = noise_multiplier_upper_bound(**asked)
    if abs(found / noise - 1) > 1e-6:
        assert bool(rejects(**asked, noise_multiplier=noise)) == (noise > found)


SEEN = {"gap": 50.0, "deviation": 55.0, "included": 500, "excluded": 500, "probability": 0.5, "steps": 100}


def test_noise_without_a_signal_shows_nothing_however_small_it_is():
    quiet = {"squares": 1.0, "degrees": 50_000, "confidence": 0.99}
    assert noise_multiplier_upper_bound(**SEEN, **quiet) < 0.01
    for gap in (0.0, -50.0, 8.0):
        assert noise_multiplier_upper_bound(**(SEEN | {"gap": gap}), **quiet) == np.inf


def test_a_gap_that_chance_explains_is_no_signal_though_few_canaries_leave_it_compatible():
    few = {"gap": 2.0, "deviation": 9.4, "included": 20, "excluded": 20, "probability": 0.1, "steps": 100}
    quiet = few | {"squares": 1.0, "degrees": 2000, "confidence": 0.95}
    assert noise_multiplier_upper_bound(**quiet) == np.inf
    assert not rejects(**quiet, noise_multiplier=np.inf)
    assert rejects(**(quiet | {"gap": 12.0}), noise_multiplier=1.0)


def test_squares_are_ignored_where_the_gap_falls_short_of_what_is_described():
    quiet = {"squares": 1.0, "degrees": 50_000, "confidence": 0.99}
    small = SEEN | {"gap": 35.0}
    assert noise_multiplier_upper_bound(**small, **quiet) > noise_multiplier_upper_bound(**small, confidence=0.99) > 5.5


def test_the_unit_of_the_scores_does_not_matter():
    asked = {"included": 500, "excluded": 500, "probability": 0.5, "steps": 100, "confidence": 0.99}
    plain = noise_multiplier_upper_bound(gap=50.0, deviation=55.0, **asked)
    assert noise_multiplier_upper_bound(gap=5e5, deviation=5.5e5, **asked) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(
    ("gap", "deviation", "expected"), [(-1.0, 50.0, np.inf), (0.0, 0.0, np.inf), (1.0, 0.0, 0.0), (0.1, 50.0, np.inf)]
)
def test_no_gap_refutes_no_noise_and_no_spread_refutes_every_noise(gap, deviation, expected):
    found = noise_multiplier_upper_bound(
        gap=gap, deviation=deviation, included=500, excluded=500, probability=0.5, steps=100, confidence=0.99
    )
    assert found == expected


def test_five_thousand_canaries_show_nine_tenths_of_epsilon_four(described):
    """At the expected gap and deviation, so without luck."""
    noise = noise_multiplier_upper_bound(
        gap=50.0,
        deviation=10 * 5.511170774929619,
        included=2500,
        excluded=2500,
        probability=0.5,
        steps=100,
        confidence=0.99,
    )
    assert epsilon_bounds(described(noise=noise), delta=1e-5).lower >= 0.9 * 4.0


def labelled(values, membership, *, squares=None, participations=None):
    design, rule = OneRun(canaries=len(values)), Threshold(value=0.0)
    scores = Scores(values=values, design=design, guessing_rule=rule, squares=squares)
    return LabelledScores(scores=scores, membership=membership, participations=participations)


def test_scores_that_share_noise_and_measure_none_of_it_show_nothing(described):
    membership = np.arange(40) < 20
    data = labelled(np.where(membership, 50.0, 0.0), membership, participations=np.where(membership, 50, 0))
    nothing = dataclasses.replace(data, scores=dataclasses.replace(data.scores, measuring=np.zeros(40, dtype=bool)))
    none_out = dataclasses.replace(nothing, scores=dataclasses.replace(nothing.scores, squares=np.ones(40)))
    assert epsilon_of(data, described()) == np.inf
    for other in (nothing, none_out):
        assert epsilon_of(other, described()) == 0.0
        assert not AccountantInversion().refutes_description(other, process=described(), confidence=0.9)


def epsilon_of(data, process):
    return AccountantInversion().epsilon(data, process=process, delta=1e-5, confidence=0.99)


def test_scores_without_any_noise_show_an_infinite_loss(described):
    membership = np.arange(40) < 20
    assert epsilon_of(labelled(np.where(membership, 50.0, 0.0), membership), described()) == np.inf


def test_noise_far_below_what_accountants_know_is_refuted_still():
    membership, nearly_none = np.arange(40) < 20, 1e-9 * np.cos(np.arange(40))
    found = epsilon_of(labelled(membership + nearly_none, membership), Gaussian(noise_multiplier=1.0))
    assert found == epsilon_bounds(Gaussian(noise_multiplier=0.1), delta=1e-5).lower > 50


@pytest.mark.parametrize("included", [0, 39, 40])
def test_one_class_empty_or_nearly_so_is_refused(described, included):
    data = labelled(np.arange(40.0), np.arange(40) < included)
    with pytest.raises(InvalidParameter, match=r"accountant_inversion: (included must be|excluded must be)"):
        epsilon_of(data, described())


def test_only_repeated_sampled_gaussians_can_be_inverted():
    data = labelled(np.arange(40.0), np.arange(40) >= 20)
    with pytest.raises(UnsupportedProcess, match="must be Gaussian steps of one noise multiplier"):
        epsilon_of(data, RandomizedResponse(epsilon=1.0))


def test_a_run_without_sampling_is_inverted_through_the_exact_accountant():
    rng = np.random.default_rng(3)
    membership = np.arange(2000) < 1000
    data = labelled(rng.normal(10.0 * membership, 10.0), membership)
    found = epsilon_of(data, Repeat(Gaussian(noise_multiplier=np.sqrt(10.0)), 10))
    assert 0.75 < found / epsilon_bounds(Gaussian(noise_multiplier=1.0), delta=1e-5).lower < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": np.nan}, "gap must be a number"),
        ({"deviation": -1.0}, "deviation must be at least 0"),
        ({"deviation": np.inf}, "deviation must be finite"),
        ({"included": 0}, "included must be at least 1 and excluded at least 2, got fewer of one"),
        ({"excluded": 1}, "included must be at least 1 and excluded at least 2, got fewer of one"),
        ({"probability": 256}, r"probability must lie in \[0, 1\]"),
        ({"probability": 0}, "probability must be above 0"),
        ({"squares": -1.0, "degrees": 5}, "squares must be at least 0"),
        ({"squares": 1.0}, "degrees must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"confidence": 1.0}, "confidence must lie strictly between"),
    ],
)
def test_impossible_numbers_are_refused(change, message):
    asked = {"gap": 50.0, "deviation": 55.0, "included": 50, "excluded": 50, "probability": 0.5, "steps": 100}
    with pytest.raises(InvalidParameter, match=f"accountant_inversion: {message}"):
        noise_multiplier_upper_bound(**(asked | {"confidence": 0.99} | change))


def test_another_norm_is_refused():
    with pytest.raises(InvalidParameter, match="AccountantInversion: norm must be one of 'described', 'measured'"):
        AccountantInversion(norm="known")


EIGHT = Repeat(Sampled(Gaussian(noise_multiplier=0.936), Poisson(probability=0.1)), 100)  # ε = 8 at δ = 1e-5


def one_run(canaries, seed, *, reveal=()):
    """Draw the projections of every step and return the scores with all that may be revealed of them."""
    rng = np.random.default_rng(seed)
    membership = np.arange(canaries) % 2 == 0
    sampled = (rng.random((canaries, 100)) < 0.1) & membership[:, None]
    seen = sampled + rng.normal(0, 0.936, (canaries, 100))
    revealed = {"squares": np.sum(seen**2, axis=1), "participations": np.sum(sampled, axis=1)}
    return labelled(seen.sum(axis=1), membership, **{name: revealed[name] for name in reveal})


def bound_of(data, norm="described"):
    return AccountantInversion(norm=norm).noise_multiplier(data, process=EIGHT, confidence=0.95)


def test_more_is_shown_the_more_is_revealed():
    sums, samples, steps = (
        np.mean([bound_of(one_run(1000, seed, reveal=reveal)) for seed in range(6)])
        for reveal in ((), ("participations",), ("participations", "squares"))
    )
    assert 0.936 < steps < 0.945 < samples < sums < 1.01


def test_a_scale_that_is_not_trusted_costs_precision_and_does_not_matter():
    one = one_run(1000, 0, reveal=("squares",))
    two = labelled(7.0 * one.scores.values, one.membership, squares=one.scores.squares)
    assert bound_of(one, "measured") == pytest.approx(bound_of(two, "measured"), rel=1e-9)
    assert bound_of(one, "measured") > bound_of(one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reveal", "bars"),
    [
        ((), {1_000: 0.82, 5_000: 0.91, 10_000: 0.93}),
        (("squares",), {1_000: 0.98, 5_000: 0.99, 10_000: 0.99}),
        (("participations",), {1_000: 0.93, 5_000: 0.96, 10_000: 0.97}),
        (("participations", "squares"), {1_000: 0.98, 5_000: 0.99, 10_000: 0.99}),
    ],
)
def test_most_of_epsilon_eight_is_shown_by_one_run(reveal, bars):
    """Medians of 200 runs; the median ε is that of the median noise, since it falls as the noise grows."""
    for canaries, bar in bars.items():
        noise = np.median([bound_of(one_run(canaries, seed, reveal=reveal)) for seed in range(200)])
        shown = Repeat(Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=0.1)), 100)
        claimed = epsilon_bounds(EIGHT, delta=1e-5, adjacency="add_remove").upper
        ratio = epsilon_bounds(shown, delta=1e-5, adjacency="add_remove").lower / claimed
        print(f"{canaries} canaries, revealed {reveal}: {ratio:.4f}")
        assert ratio >= bar


@pytest.mark.parametrize(
    ("reveal", "told"), [((), False), (("participations",), True), (("participations", "squares"), False)]
)
def test_samples_that_were_revealed_and_used_are_part_of_the_threat_model(reveal, told):
    asked = {"process": EIGHT, "delta": 1e-5, "confidence": 0.95, "threat_model": "white box"}
    bound = AccountantInversion().lower_bound(one_run(200, 0, reveal=reveal), **asked)
    assert bound.threat_model.startswith("white box") and ("told afterwards" in bound.threat_model) == told


def test_scores_whose_squares_are_no_floats_are_no_run_without_noise():
    """Far below the clip norm: squares say nothing, and the gap knows no scale."""
    values = np.random.default_rng(4).normal(size=60) + 2.0 * (np.arange(60) % 2)
    level = {"process": Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5)), 4)}
    found = [
        AccountantInversion().noise_multiplier(
            LabelledScores(
                scores=Scores(values=unit * values, design=OneRun(canaries=60), guessing_rule=Threshold(value=0.0)),
                membership=np.arange(60) % 2 == 1,
            ),
            **level,
            confidence=0.95,
        )
        for unit in (1e-6, 1e-170)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-9) and found[0] > 0.1
