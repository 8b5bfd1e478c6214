import numpy as np
import pytest
from scipy import special

from audit.core.curves import ApproximateFamily, GaussianFamily, ProcessFamily, family_of
from audit.core.described import SampledGaussianRun
from mechanisms import Gaussian, InvalidParameter, Laplace, Poisson, Repeat, Sampled, UnsupportedProcess

ONE_STEP = ProcessFamily(described=SampledGaussianRun(noise_multiplier=0.7, probability=0.5, steps=1))


def masses(threshold):
    """Return for one step, by hand, P[above | in], P[above | out]: half of the records that are in take part."""
    out = special.ndtr(-threshold / 0.7)
    return 0.5 * special.ndtr((1 - threshold) / 0.7) + 0.5 * out, out


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_guesses_of_in_are_held_against_the_removal_of_a_record(threshold):
    given_in, given_out = masses(threshold)
    least = ONE_STEP.curve(0, "in")(0.5 * given_in)
    assert 0.95 * 0.5 * given_out <= least <= 0.5 * given_out


@pytest.mark.parametrize("threshold", [-1.5, -1.0, -0.5, 0.0, 0.5])
def test_guesses_of_out_are_held_against_its_addition(threshold):
    given_in, given_out = (1 - mass for mass in masses(threshold))
    least = ONE_STEP.curve(0, "out")(0.5 * given_out)
    assert 0.95 * 0.5 * given_in <= least <= 0.5 * given_in


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.5), (0.0, 1.0), (0.5, 0.5)])
def test_guesses_of_both_kinds_make_no_fewer_errors_than_the_curve_says(low, high):
    (in_above, out_above), (in_above_low, out_above_low) = masses(high), masses(low)
    right, wrong = 0.5 * (in_above + 1 - out_above_low), 0.5 * (out_above + 1 - in_above_low)
    assert 0.5 * wrong <= ONE_STEP.curve(0, "either")(right) <= wrong


def test_more_noise_leaves_more_errors_and_less_loss():
    for side in ("in", "out", "either"):
        errors = [ONE_STEP.curve(index, side)(0.3) for index in (-512, 0, 512)]
        assert errors == sorted(errors) and errors[0] < errors[-1]
    losses = [ONE_STEP.epsilon(index, 1e-5) for index in (-512, 0, 512)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("right", [1e-9, 1e-4, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_the_approximate_curve_is_the_two_lines(right, delta):
    index, growth = -(2**24) * 2, np.exp(2.0)
    either = max(0.0, (right - delta) / growth, 1 - delta - growth * (1 - right))
    assert ApproximateFamily(delta=delta).curve(index, "either")(right) == pytest.approx(either, rel=1e-9)
    for side in ("in", "out"):
        one = max(0.0, (right - delta / 2) / growth, 0.5 - delta / 2 - growth * (0.5 - right))
        assert ApproximateFamily(delta=delta).curve(index, side)(right) == pytest.approx(one, rel=1e-9, abs=1e-12)


def test_normal_steps_of_all_records_are_one_normal_step():
    assert family_of(Repeat(Gaussian(noise_multiplier=2.0), 9)) == GaussianFamily()
    sampled = Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.5)), 9)
    assert isinstance(family_of(sampled), ProcessFamily)


def test_what_gives_no_curve_is_refused():
    with pytest.raises(InvalidParameter, match="described must have noise, got noise_multiplier 0"):
        family_of(Gaussian(noise_multiplier=0.0))
    with pytest.raises(InvalidParameter, match=r"ApproximateFamily: delta must lie in \[0, 1\]"):
        ApproximateFamily(delta=1.5)
    with pytest.raises(UnsupportedProcess, match="must be one Gaussian step on Poisson samples"):
        family_of(Repeat(Laplace(noise_multiplier=1.0), 2))
