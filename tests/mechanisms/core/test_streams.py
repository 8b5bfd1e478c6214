"""Values and streams: shapes, bad input, and randomness that is never used twice."""

import copy
import math
import pickle
import threading
import time

import numpy as np
import pytest

from mechanisms import (
    InvalidParameter,
    KeyedSource,
    NumericalFailure,
    SystemSource,
)
from mechanisms.tree import Tree
from tests.reference.streams import mechanism


def banded(*, noise_multiplier, steps):
    return mechanism((1.0, 0.5)[:steps], steps=steps, noise=noise_multiplier)


both = pytest.mark.parametrize("build", [Tree, banded], ids=["Tree", "MatrixMechanism"])
OWNER = "(Tree|MatrixMechanism)"


@both
def test_streams_of_one_source_never_share_a_word(build):
    class Recording(KeyedSource):
        def words(self, stream, counter, n):
            self.used.extend((stream, counter + k) for k in range(n))
            return super().words(stream, counter, n)

    source = Recording(0)
    source.used = []
    for size in (3, 1, 4):
        sums = build(noise_multiplier=1.0, steps=6).stream((size,), sensitivity=1.0, randomness=source)
        for _ in range(6):
            sums.add(np.zeros(size))
    assert len(set(source.used)) == len(source.used)


@both
@pytest.mark.parametrize("shape", [(1,), (5,), (5, 0), (5, 2), (5, 2, 3)])
def test_sums_come_in_the_shape_of_the_values_and_without_noise_are_exact(build, shape):
    value = np.arange(math.prod(shape), dtype=float).reshape(shape)
    tree = build(noise_multiplier=0.0, steps=shape[0])
    found = tree.release(value, sensitivity=1.0, randomness=SystemSource())
    assert found.shape == shape and found == pytest.approx(np.cumsum(value, axis=0))
    sums = tree.stream(shape[1:], sensitivity=1.0, randomness=SystemSource())
    assert np.array([sums.add(row) for row in value]) == pytest.approx(found)


@both
def test_what_was_shown_or_given_is_not_changed_later(build):
    value = np.ones((4, 2))
    tree = build(noise_multiplier=1.0, steps=4)
    tree.release(value, sensitivity=1.0, randomness=KeyedSource(0))
    sums = tree.stream((2,), sensitivity=1.0, randomness=KeyedSource(0))
    first = sums.add(value[0])
    kept = first.copy()
    first += 100.0
    second = sums.add(value[1])
    assert (value == 1.0).all() and abs(second - kept).max() < 50.0


@both
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros(3), r"one row a step, 4 in all, got shape \(3,\)"),
        (1.0, r"one row a step, 4 in all, got shape \(\)"),
        ([], r"one row a step"),
        ([0.0, 1.0, math.nan, 2.0], "must be finite"),
        ([0.0, 1.0, math.inf, 2.0], "must be finite"),
        (["1", "2", "3", "4"], "must be an array of real numbers"),
        ([1.0, [2.0], 3.0, 4.0], "must be an array of real numbers"),
        ([1j, 0, 0, 0], "must be an array of real numbers"),
        ([None, 0, 0, 0], "must be (an array of real numbers|finite)"),
        ([10**400, 0, 0, 0], "must be an array of real numbers"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(build, value, text):
    with pytest.raises(InvalidParameter, match=f"{OWNER}: value (must have )?{text}"):
        build(noise_multiplier=1.0, steps=4).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@both
def test_sums_beyond_floats_are_refused(build):
    found = build(noise_multiplier=0.0, steps=2)
    with pytest.raises(NumericalFailure, match="sum is beyond floats"):
        found.release([1e308, 1e308], sensitivity=1e308, randomness=KeyedSource(0))


@both
def test_a_stream_refuses_other_shapes_and_further_steps(build):
    sums = build(noise_multiplier=1.0, steps=1).stream((2,), sensitivity=1.0, randomness=KeyedSource(0))
    for value in (np.zeros(3), 0.0):
        with pytest.raises(InvalidParameter, match=rf"{OWNER}: value must have the shape \(2,\)"):
            sums.add(value)
    with pytest.raises(InvalidParameter, match=f"{OWNER}: value must be finite"):
        sums.add([0.0, math.nan])
    assert sums.step == 0
    sums.add([0.0, 0.0])
    with pytest.raises(InvalidParameter, match=f"{OWNER}: all 1 steps"):
        sums.add([0.0, 0.0])


@both
@pytest.mark.parametrize("shape", [3, "3", (-1,), (1.5,), None, np.array(3)])
def test_what_is_no_shape_is_refused(build, shape):
    with pytest.raises(InvalidParameter, match=f"{OWNER}: shape must"):
        build(noise_multiplier=1.0, steps=1).stream(shape, sensitivity=1.0, randomness=KeyedSource(0))


@both
@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_sensitivity_that_is_not_positive_is_refused(build, sensitivity):
    tree = build(noise_multiplier=1.0, steps=1)
    for call in (lambda: tree.release([0.0], sensitivity=sensitivity, randomness=KeyedSource(0)),
                 lambda: tree.stream((), sensitivity=sensitivity, randomness=KeyedSource(0))):  # fmt: skip
        with pytest.raises(InvalidParameter, match=f"{OWNER}: sensitivity must"):
            call()


@pytest.mark.parametrize(("noise", "sensitivity"), [(1.0, 5e-324), (1e-200, 1e-100), (1e300, 1e300)])
def test_noise_that_would_leave_the_floats_is_refused(noise, sensitivity):
    found = mechanism(steps=2, noise=noise)
    text = r"MatrixMechanism: noise_multiplier times sensitivity must lie in \[1e-290, 1e\+290\]"
    with pytest.raises(InvalidParameter, match=text):
        found.release([0.0, 0.0], sensitivity=sensitivity, randomness=KeyedSource(0))
    with pytest.raises(InvalidParameter, match=text):
        found.stream((), sensitivity=sensitivity, randomness=KeyedSource(0))


def test_streamed_sums_beyond_floats_are_no_answer():
    sums = mechanism(steps=2).stream((), sensitivity=1.0, randomness=KeyedSource(0))
    sums.add(1.7e308)
    with pytest.raises(NumericalFailure, match="MatrixMechanism: the private sum is beyond floats"):
        sums.add(1.7e308)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_can_not_be_copied_as_two_would_share_their_noise(how):
    sums = Tree(noise_multiplier=1.0, steps=4).stream((), sensitivity=1.0, randomness=KeyedSource(0))
    with pytest.raises(InvalidParameter, match="can't be copied"):
        how(sums)


def test_threads_take_the_steps_of_a_stream_one_after_the_other():
    class Slow(KeyedSource):
        def words(self, stream, counter, n):
            time.sleep(1e-3)
            asked.append(counter)
            return super().words(stream, counter, n)

    asked = []
    noisy = mechanism((1.0,), steps=8, noise=1.0)
    sums = noisy.stream((), sensitivity=1.0, randomness=Slow(0))
    threads = [threading.Thread(target=sums.add, args=(1.0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums.step == 8 and len(set(asked)) == 8


@both
@pytest.mark.parametrize("value", [[2**53 + 1, 0], [-(2**60), 0], np.array([1, 2**64 - 1], dtype=np.uint64)])
def test_integers_that_floats_would_round_are_refused(build, value):
    with pytest.raises(InvalidParameter, match=r"at most 2\*\*53 in size") as caught:
        build(noise_multiplier=1.0, steps=2).release(value, sensitivity=1.0, randomness=KeyedSource(0))
    assert "9007199254740993" not in str(caught.value)


@both
def test_integers_that_floats_hold_are_taken(build):
    noiseless = build(noise_multiplier=0.0, steps=2)
    assert noiseless.release([2**53, 0], sensitivity=2**20, randomness=KeyedSource(0)).tolist() == [2.0**53, 2.0**53]
