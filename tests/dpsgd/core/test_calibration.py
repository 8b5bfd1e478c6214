import math

import mpmath
import pytest

from dpsgd import DPSGD, Cyclic
from dpsgd.core import calibration
from dpsgd.core.calibration import least_noise, lessened
from mechanisms import Gaussian, NumericalFailure, Poisson, RandomizedResponse, Repeat


def _gaussians(times):
    return lambda noise: Repeat(Gaussian(noise_multiplier=noise), times)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("times", [1, 10**6])
def test_the_budget_is_kept_and_nearly_used_up(epsilon, times):
    from accountant import compute_epsilon

    noise = least_noise(_gaussians(times), epsilon=epsilon, delta=1e-6, adjacency="zero_out")
    assert 0.998 * epsilon <= compute_epsilon(_gaussians(times)(noise), delta=1e-6, adjacency="zero_out") <= epsilon


def _answers(monkeypatch, answer):
    """Let the accountant answer `answer(noise)`; return the noises asked for."""
    asked = []

    def answered(process, **_):
        asked.append(process.noise_multiplier)
        return answer(process.noise_multiplier)

    monkeypatch.setattr("accountant.compute_epsilon", answered)
    return asked


def _least():
    return least_noise(lambda noise: Gaussian(noise_multiplier=noise), epsilon=1.0, delta=1e-5, adjacency="zero_out")


def test_where_epsilon_jumps_the_noise_is_the_least_beyond_the_jump(monkeypatch):
    _answers(monkeypatch, lambda noise: 0.2 if noise >= 3.7 else math.inf)
    assert 3.7 <= _least() <= 3.7 * (1 + 1e-8)


def test_an_accountants_failure_counts_as_no_bound(monkeypatch):
    def answer(noise):
        if noise < 5:
            raise NumericalFailure("too little noise")
        return 0.999 * 5 / noise

    _answers(monkeypatch, answer)
    assert 5 <= _least() < 5.01


def test_where_no_noise_is_needed_next_to_none_is_found(monkeypatch):
    asked = _answers(monkeypatch, lambda noise: 0.0)
    assert _least() < 1.1e-9 and len(asked) < 12


def test_where_no_noise_suffices_it_is_said(monkeypatch):
    asked = _answers(monkeypatch, lambda noise: 2.0)
    with pytest.raises(NumericalFailure, match="for_budget: no noise multiplier up to 1e9"):
        _least()
    assert len(asked) <= calibration.MOST_TRIALS


def test_few_answers_are_asked_for(monkeypatch):
    asked = _answers(monkeypatch, lambda noise: 40 * noise**-1.5 + 3 * noise**-4)
    assert 0.998 <= 40 * _least() ** -1.5 <= 1.0
    assert len(asked) <= 8


def test_a_process_whose_epsilon_does_not_move_is_refused():
    process = Repeat(RandomizedResponse(epsilon=2.0), 1)
    with pytest.raises(NumericalFailure, match="Raise one of them, or take fewer steps"):
        least_noise(lambda noise: process, epsilon=1.0, delta=1e-5, adjacency="replace_one")


@pytest.mark.parametrize("sampling", [Poisson(probability=1.0), Cyclic()])
@pytest.mark.parametrize("steps", [1, 10**4])
@pytest.mark.parametrize(("epsilon", "delta"), [(1e-9, 1e-5), (1e-9, 0.1), (1e-6, 0.1), (1e3, 1e-15)])
def test_the_least_and_the_largest_budgets_are_used_up_and_not_exceeded(epsilon, delta, steps, sampling):
    config = DPSGD.for_budget(
        epsilon=epsilon,
        delta=delta,
        max_grad_norm=1.0,
        sampling=sampling,
        expected_batch_size=1,
        steps=steps,
        learning_rate=1.0,
        steps_per_epoch=1 if isinstance(sampling, Cyclic) else None,
        adjacency="zero_out",
    )
    with mpmath.workdps(60):  # one Gaussian release that moves by √T ÷ noise
        mu, e = mpmath.sqrt(steps) / mpmath.mpf(config.noise_multiplier), mpmath.mpf(epsilon)
        kept = mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu)
        e = mpmath.mpf(0.998 * epsilon)
        less = mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu)
    assert kept <= delta < less


def test_noise_that_is_just_enough_is_left_as_it_is():
    asked = []

    def process(noise):
        asked.append(noise)
        return Gaussian(noise_multiplier=noise)

    budget = {"epsilon": 1.0, "delta": 1e-5, "adjacency": "zero_out"}
    least = lessened(process, 3.7315, **budget)
    assert least == 3.7315 and asked == [3.7315]
    assert 3.73063 < lessened(process, 5.0, **budget) < 3.7345 and len(asked) < 60
    assert lessened(process, 0.0, **budget) == 0.0


def test_the_last_digits_of_noise_are_asked_for_by_delta_and_confirmed_by_one_epsilon(monkeypatch):
    asked = []

    def counted(process, *of):
        asked.append(process)
        return excess(process, *of)

    excess = calibration.excess_of
    monkeypatch.setattr(calibration, "excess_of", counted)
    budget = {"epsilon": 1e-9, "delta": 0.1, "adjacency": "zero_out"}
    noise = least_noise(lambda noise: Gaussian(noise_multiplier=noise), **budget) * (1 + 1e-6)
    asked.clear()
    found = lessened(lambda noise: Gaussian(noise_multiplier=noise), noise, **budget)
    assert found < noise and asked == [Gaussian(noise_multiplier=found)]
    assert math.log(0.999) <= excess(asked[0], *budget.values()) <= 0.0
