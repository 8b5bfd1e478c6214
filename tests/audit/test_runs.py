import dataclasses

import numpy as np
import pytest

from audit import signed_coordinates
from audit.attacks.gradient import GradientProjection
from audit.estimators.accountant_inversion import rejects as noise_rejects
from audit.estimators.one_run import OneRunBound
from audit.runs import Setup, observe_independent_runs, observe_one_run
from audit.scores import GuessExtremes, IndependentRuns, Threshold
from mechanisms import InvalidParameter, KeyedSource, SystemSource

RULE = GuessExtremes(included=5, excluded=5)


def canaries(count):
    return signed_coordinates(canaries=count, dimension=count, rng=np.random.default_rng(0))


def one_run(trainer, count, randomness):
    return observe_one_run(setup(trainer, count, randomness, RULE))


def setup(trainer, count, randomness, rule):
    return Setup(
        trainer=trainer,
        canaries=canaries(count),
        guessing_rule=rule,
        randomness=randomness,
        attack=GradientProjection(),
    )


def test_the_coins_are_fair_and_fresh_every_time(simulated):
    source = KeyedSource(0)
    first, second = (one_run(simulated(), 2000, source).membership for _ in range(2))
    assert abs(first.mean() - 0.5) < 0.05 and abs((first == second).mean() - 0.5) < 0.05


def test_the_coins_follow_from_the_key_alone(simulated):
    first, second = (one_run(simulated(seed=seed), 100, KeyedSource(5)).membership for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, one_run(simulated(), 100, SystemSource()).membership)


def test_scores_have_the_law_that_the_estimators_assume(simulated):
    data = one_run(simulated(noise=2.0), 4000, KeyedSource(1))
    assert np.var(data.excluded) / (100 * 2.0**2) == pytest.approx(1.0, abs=0.1)
    assert np.mean(data.included) - np.mean(data.excluded) == pytest.approx(50.0, abs=3.0)


def test_honest_runs_are_refuted_no_more_often_than_announced(simulated):
    """At level .2 and 60 runs, 22 refutations or more have probability .002, if the level is exact."""
    outcomes = []
    for seed in range(60):
        data = one_run(simulated(seed=seed + 100), 300, KeyedSource(seed))
        refuted = noise_rejects(
            gap=np.mean(data.included) - np.mean(data.excluded),
            deviation=np.std(data.excluded, ddof=1),
            included=len(data.included),
            excluded=len(data.excluded),
            probability=0.5,
            steps=100,
            noise_multiplier=5.511170774929619,
            confidence=0.8,
        )
        shown = OneRunBound().epsilon(data, process=None, delta=1e-5, confidence=0.8)
        outcomes.append((bool(refuted), shown > 4.0))
    assert 2 <= sum(refuted for refuted, _ in outcomes) <= 21
    assert sum(violated for _, violated in outcomes) == 0


def test_independent_runs_give_one_score_a_run(simulated):
    seeds = iter(range(60))

    def trainer(task):
        return simulated(noise=0.5, seed=next(seeds))(task)

    data = observe_independent_runs(setup(trainer, 1, KeyedSource(0), Threshold(value=25.0)), runs=60)
    assert data.scores.design == IndependentRuns(runs=60)
    assert data.correct == 60 and 0 < data.membership.sum() < 60


def test_independent_runs_take_exactly_one_canary(simulated):
    with pytest.raises(InvalidParameter, match=r"canaries must be exactly one for independent runs, .* got 2"):
        observe_independent_runs(setup(simulated(), 2, KeyedSource(0), Threshold(value=25.0)), runs=30)


@pytest.mark.parametrize("count", [1, 19])
def test_too_few_canaries_are_refused_before_their_coins_are_tossed(count, monkeypatch):
    def never(*_):
        raise AssertionError("the trainer was called, or coins were tossed")

    monkeypatch.setattr("audit.runs.toss", never)
    with pytest.raises(InvalidParameter, match=f"canaries must be 20 or more for one run, got {count}"):
        one_run(never, count, KeyedSource(0))


def test_what_a_trainer_reveals_of_its_samples_is_joined_after_the_run(simulated):
    def revealing(task):
        released = []

        def participations():
            assert len(released) == 100
            return np.where(task.membership, 7, 0)

        plain = simulated()(task)
        watched = (released.append(release.step) or release for release in plain.released)
        return dataclasses.replace(plain, released=watched, participations=participations)

    data = one_run(revealing, 100, KeyedSource(3))
    np.testing.assert_array_equal(data.participations, np.where(data.membership, 7, 0))
    assert one_run(simulated(), 100, KeyedSource(3)).participations is None


def test_squares_are_those_of_the_noise_where_a_canary_was_out(simulated):
    data = one_run(simulated(noise=2.0), 400, KeyedSource(1))
    assert data.scores.squares[~data.membership].mean() / (100 * 2.0**2) == pytest.approx(1.0, abs=0.04)
    assert data.scores.squares[data.membership].mean() / (100 * (2.0**2 + 0.5)) == pytest.approx(1.0, abs=0.04)
