"""Every kind of finding is planted and found, and nothing is found in what is as described."""

import itertools
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from audit.attack import Observations
from audit.canaries import signed_coordinates
from audit.core.findings import KINDS
from audit.replay import (
    Additive,
    Neighbours,
    Steps,
    array_neighbours,
    flipped_canaries,
    replay_mechanism,
    replay_training,
)
from mechanisms import Gaussian, Histogram, InvalidParameter, Laplace, Mean, Quantile, Sum, VectorSum
from mechanisms.core.randomness import normals
from tests.contracts.neighbours import NEIGHBOURS

RECORDS = np.random.default_rng(0).normal(size=(5, 3))
TELLING = Gaussian(noise_multiplier=0.5)
ADDITIVE = {
    "count", "covariance", "discrete_gaussian", "discrete_laplace", "gaussian", "histogram", "laplace", "local_noise",
    "matrix", "mean", "staircase", "sum", "tree", "truncated_laplace", "vector_mean", "vector_sum",
}  # fmt: skip


def noise(source, n, stream="noise"):
    return normals(source, stream, source.reserve(stream, 2 * (n + n % 2)) // 2, n)


def clipped(rows):
    """Rows within the unit ball, those that are not finite as zero."""
    finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    largest = np.abs(finite).max(axis=1, keepdims=True, initial=1.0)  # so that squares stay within the floats
    small = finite / largest
    return small / np.maximum(1.0 / largest, np.linalg.norm(small, axis=1, keepdims=True))


def honest(rows, source):
    return clipped(rows).sum(axis=0) + noise(source, 3)


COUNTER = itertools.count()
PLANTED = {
    "elsewhere": lambda rows, source: honest(rows, source) + random.random(),
    "error": lambda rows, source: honest(rows, source) if np.isfinite(rows).all() else [][0],
    "form": lambda rows, source: {str(key): 0.0 for key in sorted(set(np.sign(clipped(rows)[:, 0])))},
    "draws": lambda rows, source: [honest(rows, source), noise(source, len(rows)).sum() * 0.0][0],
    "not finite": lambda rows, source: (
        (rows / np.maximum(1.0, np.linalg.norm(rows, axis=1))[:, None]).sum(axis=0) + noise(source, 3)
    ),
    "sensitivity": lambda rows, source: (
        np.nan_to_num(rows, posinf=9.0, neginf=-9.0).clip(-9, 9).sum(axis=0) + noise(source, 3)
    ),
    "noise": lambda rows, source: (clipped(rows).sum(axis=0) + noise(source, 3)) / (1 + len(rows)),
}


def mechanism_report(computation, adjacency="add_remove", **changed):
    description = Additive(**({"sensitivity": 1.0} | changed))
    return replay_mechanism(computation, array_neighbours(RECORDS, adjacency=adjacency), description=description)


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_in_a_mechanism_is_found(kind):
    assert kind in mechanism_report(PLANTED[kind]).kinds


@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out"])
def test_nothing_is_found_in_an_honest_mechanism(adjacency):
    report = mechanism_report(honest, adjacency)
    assert not report.found and report.compared == 2 * report.neighbours > 20


def test_replaced_records_move_a_sum_by_twice_the_bound_and_one_has_just_that():
    assert not mechanism_report(honest, "replace_one", sensitivity=2.0).found
    assert mechanism_report(honest, "replace_one", sensitivity=1.99).kinds == ("sensitivity",)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_the_sensitivity_is_measured_in_the_norm_that_is_claimed(norm):
    vector = np.array([1.0, -2.0, 2.0])
    pair = (Neighbours(name="a vector, or none", one=vector, other=np.zeros(3)),)
    size = {1: 5.0, 2: 3.0, math.inf: 2.0}[norm]

    def release(value, source):
        return value + noise(source, 3)

    assert not replay_mechanism(release, pair, description=Additive(sensitivity=size, norm=norm)).found
    (found,) = replay_mechanism(release, pair, description=Additive(sensitivity=0.999 * size, norm=norm)).findings
    assert found.kind == "sensitivity" and found.seen == pytest.approx(size) and found.claimed == 0.999 * size


def test_texts_of_errors_that_tell_a_record_are_found_and_not_repeated():
    def release(rows, source):
        raise ValueError(f"cannot use {rows[-1, 0]}")

    (first, *_) = mechanism_report(release).findings
    assert first.kind == "error" and first.message == "the text of ValueError depends on a record"


def test_refusing_every_dataset_in_the_same_words_tells_nothing():
    def release(rows, source):
        raise ValueError("no")

    assert not mechanism_report(release).found


@pytest.mark.thinned(4)
@pytest.mark.parametrize("key", NEIGHBOURS)
def test_nothing_is_found_in_the_mechanisms_of_this_library(key):
    known = NEIGHBOURS[key]
    given = {} if known.sensitivity is None else {"sensitivity": known.sensitivity}
    additive = key.split(",")[0].split(" of ")[0] in ADDITIVE
    report = replay_mechanism(
        lambda value, source: known.mechanism.release(value, randomness=source, **given),
        (Neighbours(name=key, one=known.one, other=known.other),),
        description=Additive(sensitivity=None) if additive else None,
    )
    assert report.findings == ()


QUERIES = {
    "sum": (Sum(lower=-1.0, upper=3.0, noise=TELLING), RECORDS[:, 0], 3.0, 2),
    "sum, Laplace": (Sum(lower=-1.0, upper=3.0, noise=Laplace(noise_multiplier=1.0)), RECORDS[:, 0], 3.0, 1),
    "mean": (Mean(lower=-1.0, upper=3.0, noise=TELLING, records=5), RECORDS[:, 0], 0.4, 2),
    "vector_sum": (VectorSum(max_norm=3.0, dimensions=3, noise=TELLING), RECORDS, 3.0, 2),
    "histogram": (Histogram(edges=(-1.0, 0.0, 2.0), noise=TELLING), RECORDS[:, 0], 1.0, 2),
    "quantile": (Quantile(quantile=0.5, lower=-1.0, upper=1.0, epsilon=1.0), RECORDS[:, 0], None, 2),
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize(("adjacency", "times"), [("add_remove", 1), ("replace_one", 2)])
def test_extreme_records_move_no_query_of_this_library_by_more_than_its_sensitivity(name, adjacency, times):
    query, records, sensitivity, norm = QUERIES[name]
    report = replay_mechanism(
        lambda rows, source: query.release(rows, randomness=source),
        array_neighbours(records, adjacency=adjacency),
        description=None if sensitivity is None else Additive(sensitivity=times * sensitivity, norm=norm),
    )
    assert report.findings == ()


# Training: a loss that is linear in the weights but for a pull to zero, so that gradients depend on them


def training(total=lambda rows: clipped(rows).sum(axis=0), *, steps=3, force=True, start=lambda rows: 0.0):
    def run(rows, source):
        weights = np.full(3, start(rows))

        def releases():
            for step in range(steps if isinstance(steps, int) else steps(rows)):
                noisy_sum = total(rows - 0.1 * weights) + normals(source, "noise", 4 * step, 3)
                before = weights.copy()
                weights[:] -= 0.5 * noisy_sum
                yield SimpleNamespace(step=step, weights_before=before, noisy_sum=noisy_sum)

        return Steps(
            releases=releases(), force=(lambda given: weights.__setitem__(slice(None), given)) if force else None
        )

    return run


def training_report(run, adjacency="add_remove", **more):
    pairs = array_neighbours(RECORDS, adjacency=adjacency)
    return replay_training(run, pairs, description=Additive(sensitivity=1.0), **more)


def test_every_step_of_training_is_compared_where_weights_can_be_forced():
    report = training_report(training())
    assert (report.findings, report.apart, report.compared) == ((), 0, report.neighbours * 2 * 3)


def test_steps_are_compared_up_to_the_first_in_which_runs_differ_where_they_cannot():
    report = training_report(training(force=False))
    assert report.findings == () and report.apart > 0
    assert report.compared + report.apart == report.neighbours * 2 * 3 and report.compared >= 2 * report.neighbours


def test_what_first_shows_at_a_later_step_is_found():
    """The first step is honest: who compares it alone, or sums at weights that differ, does not find this."""
    calls = {"n": 0}

    def total(rows):
        calls["n"] += 1
        return clipped(rows).sum(axis=0) * (1.0 if calls["n"] % 3 == 1 else 1.5)

    found = training_report(training(total)).findings
    assert {one.kind for one in found} == {"sensitivity"} and all("step 0" not in one.where for one in found)


TRAINED_BADLY = {
    "sensitivity": training(lambda rows: clipped(rows.mean(axis=0, keepdims=True))[0] * len(rows)),
    "not finite": training(lambda rows: rows.clip(-0.1, 0.1).sum(axis=0)),
    "steps": training(steps=lambda rows: 3 if len(rows) % 2 else 2),
    "start": training(start=lambda rows: float(len(rows))),
    "error": training(lambda rows: clipped(rows)[:5].sum(axis=0) if len(rows) else clipped(rows)[0]),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", TRAINED_BADLY)
def test_what_is_planted_in_training_is_found(kind):
    assert kind in training_report(TRAINED_BADLY[kind]).kinds


def test_every_kind_of_finding_is_planted_somewhere():
    assert set(KINDS) == set(PLANTED) | set(TRAINED_BADLY)


def canary_trainer(members_of, *, handed_out=False):
    """A trainer that can be audited: noisy sums of canaries at the clip norm, and something that is no step."""

    def trainer(task):
        def released():
            for step in range(3):
                noisy_sum = normals(task.streams, "noise", 2 * step * 4, 4)
                noisy_sum[task.canaries.coordinates] += task.canaries.signs * members_of(task.membership)
                yield SimpleNamespace(step=step, weights_before=np.zeros(4), noisy_sum=noisy_sum)
            yield SimpleNamespace(weights=np.zeros(4))

        def hand_out(observe):
            for one in released():
                observe(one)

        return Observations(
            released=hand_out if handed_out else released(), max_grad_norm=1.0, expected_sum=np.zeros_like
        )

    return trainer


@pytest.mark.parametrize("handed_out", [False, True])
@pytest.mark.parametrize(("members_of", "kinds"), [
    (lambda coins: coins, ()),
    (lambda coins: 1.5 * coins, ("sensitivity",)),
])  # fmt: skip
def test_any_trainer_that_can_be_audited_can_be_replayed_by_the_coins_of_its_canaries(members_of, kinds, handed_out):
    canaries = signed_coordinates(canaries=3, dimension=4, rng=np.random.default_rng(0))
    run, pairs = flipped_canaries(canary_trainer(members_of, handed_out=handed_out), canaries)
    report = replay_training(run, pairs, description=Additive(sensitivity=1.0))
    assert report.kinds == kinds and report.moved == report.compared == 2 * 2 * 3


@pytest.mark.parametrize(("call", "message"), [
    (lambda: replay_mechanism(honest, (), description=None, keys=1), "keys must be at least 2, got 1"),
    (lambda: replay_training(training(), (), description=Additive(sensitivity=1.0), keys=0), "keys must be at least 1"),
    (lambda: Additive(sensitivity=0.0), "sensitivity must be above 0, got 0"),
    (lambda: Additive(sensitivity=1.0, norm=3), "norm must be 1, 2 or inf, got 3"),
    (lambda: Additive(sensitivity=1.0, per_record="coins"), "per_record must be a sequence"),
    (lambda: array_neighbours(np.zeros(0), adjacency="add_remove"), "n >= 1"),
    (lambda: array_neighbours([1, 2], adjacency="add_remove"), "like must be an array of floats, got int64"),
])  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidParameter, match=message):
        call()


def test_a_computation_that_writes_on_its_records_is_replayed_on_what_was_given():
    def halving(rows, source):
        rows[:] = 0.5 * clipped(rows)
        return rows.sum(axis=0) + noise(source, 3)

    def training(rows, source):
        return Steps(releases=[SimpleNamespace(weights_before=np.zeros(3), noisy_sum=halving(rows, source))])

    pairs = array_neighbours(RECORDS, adjacency="add_remove")
    assert not replay_mechanism(halving, pairs, description=Additive(sensitivity=0.5)).found
    assert not replay_training(training, pairs, description=Additive(sensitivity=0.5)).found
