import math

import pytest

from dpsgd.core import calibration
from dpsgd.core.calibration import least_noise
from mechanisms import Gaussian, NumericalFailure, RandomizedResponse, Repeat


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
