"""What all choices have in common: options, scores, JSON, neighbours, and what they refuse."""

import math

import mpmath as mp
import numpy as np
import pytest

from accountant.pld import PLD
from mechanisms import Adjacency, InvalidParameter, KeyedSource, UnsupportedProcess, from_json, to_json
from mechanisms.core.discover import implementations
from mechanisms.core.process import Mechanism
from mechanisms.exponential import Exponential
from mechanisms.noisy_max import NoisyMax
from mechanisms.permute_and_flip import PermuteAndFlip
from mechanisms.top_k import TopK
from tests.strategies import ADD_REMOVE

KINDS = {
    "exponential": (Exponential, {}),
    "flips": (PermuteAndFlip, {}),
    "gumbel": (NoisyMax, {"noise": "gumbel"}),
    "exponential-noise": (NoisyMax, {"noise": "exponential"}),
    "laplace-noise": (NoisyMax, {"noise": "laplace"}),
    "top-1": (TopK, {"count": 1}),
    "top-2": (TopK, {"count": 2}),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def made(name, **options):
    kind, own = KINDS[name]
    return kind(**{"epsilon": 1.0, "adjacency": "add_remove", **own, **options})


def test_all_of_them_are_found():
    assert {kind for kind, _ in KINDS.values()} <= set(implementations("mechanisms", Mechanism).values())


@every_kind
@pytest.mark.parametrize("options", [{}, {"epsilon": 5e-324, "monotonic": True, "adjacency": "replace_one"}])
def test_it_comes_back_from_json_and_from_its_representation(name, options):
    mechanism = made(name, **options)
    assert from_json(to_json(mechanism)) == mechanism == eval(repr(mechanism), globals())
    assert type(made(name, epsilon=np.float32(1), monotonic=np.bool_(True)).monotonic) is bool


@every_kind
@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_pairs_of_any_epsilon_have_their_laws(name, adjacency):
    for epsilon in (5e-324, 1e-300, 0.3, 40.0, 1e4, 1e300):
        pairs = made(name, epsilon=epsilon, adjacency=adjacency).pairs(adjacency)
        assert set(adjacency.directions) <= set(pairs)
        for direction, pair in pairs.items():
            assert pair.attained == direction.startswith("witness")
            bins = pair.loss_bins(np.array([-np.inf, -1e-310, 0.1, np.inf]), np.zeros(3))
            for mass in (bins.p, bins.q):
                assert np.sum(mass.lower) <= 1 + 1e-12 and np.sum(mass.upper) >= 1 - 1e-12, epsilon


@every_kind
def test_witnesses_tell_no_more_than_the_pair(name):
    for epsilon in (1e-6, 0.4, 3.0, 30.0):
        pairs = made(name, epsilon=epsilon).pairs(ADD_REMOVE)
        asked = epsilon * np.array([0.0, 0.2, 0.7, 0.99])
        for witness in {"witness", "witness_reversed"} & set(pairs):
            for value in asked:
                bound = made_bounds(pairs["remove"], value)
                assert made_bounds(pairs[witness], value).lower <= bound.upper


def made_bounds(pair, value):
    from mechanisms.core.bounds import Bounds

    return pair.delta(Bounds.exact(float(value)))


@every_kind
def test_other_neighbours_are_refused(name):
    with pytest.raises(
        UnsupportedProcess, match="Use adjacency='add_remove', or state the ε that holds under zero_out"
    ):
        made(name).pairs(Adjacency.ZERO_OUT)


@every_kind
def test_what_is_no_positive_epsilon_is_refused(name):
    for epsilon in (0, 0.0, -0.0, -1.0, math.nan, math.inf, "1", None, True, np.array([1.0, 2.0])):
        with pytest.raises(InvalidParameter, match=r": epsilon must "):
            made(name, epsilon=epsilon)


@every_kind
def test_what_is_no_bool_is_refused(name):
    for monotonic in (1, None, "yes", np.array([True])):
        with pytest.raises(InvalidParameter, match="monotonic must be True or False"):
            made(name, monotonic=monotonic)


@every_kind
def test_what_is_no_adjacency_is_refused(name):
    with pytest.raises(InvalidParameter, match="Adjacency: name must be one of"):
        made(name, adjacency="swap")


SCORES = {
    "none": ([], "one score for each candidate"),
    "one-number": (3.0, "one score for each candidate"),
    "a-table": ([[1.0, 2.0]], "one score for each candidate"),
    "ragged": ([[1.0], [2.0, 3.0]], "one score for each candidate"),
    "nan": ([77.25, math.nan], "must be finite"),
    "infinite": ([77.25, math.inf], "must be finite"),
    "text": (["77.25", "b"], "scores that are floats"),
    "bools": ([True, False], "scores that are floats"),
    "complex": ([77.25, 1j], "scores that are floats"),
    "nothing": ([None, 77.25], "scores that are floats"),
    "long": (np.array([77.25, 1.0], dtype=np.longdouble), "scores that are floats"),
    "too-large": ([77, 2**53 + 1], "at most 2\\*\\*53"),
    "too-small": ([77, -(2**62)], "at most 2\\*\\*53"),
    "unsigned": (np.array([77, 2**64 - 1], dtype=np.uint64), "at most 2\\*\\*53"),
}


@every_kind
def test_what_are_no_scores_is_refused_without_telling_them(name):
    for case, (value, message) in SCORES.items():
        with pytest.raises(InvalidParameter, match=message) as refusal:
            made(name).release(value, sensitivity=1.0, randomness=KeyedSource(0))
        assert "77" not in str(refusal.value), case


@every_kind
def test_a_sensitivity_that_is_not_positive_is_refused(name):
    for sensitivity in (0.0, -1.0, math.nan, math.inf, "1", None):
        with pytest.raises(InvalidParameter, match="sensitivity must be"):
            made(name).release([1.0, 2.0], sensitivity=sensitivity, randomness=KeyedSource(0))


@every_kind
def test_numbers_of_every_kind_are_scores(name):
    plain = made(name).release([5.0, 7.0], sensitivity=1.0, randomness=KeyedSource(3))
    for scores in ([5, 7], np.int8([5, 7]), np.float16([5, 7]), (5.0, 7.0), np.uint64([5, 7])):
        assert made(name).release(scores, sensitivity=1, randomness=KeyedSource(3)) == plain


@every_kind
def test_a_source_is_never_asked_for_the_same_words_twice(name):
    mechanism, source = made(name), KeyedSource(0)
    seen = [mechanism.release(np.zeros(1000), sensitivity=1.0, randomness=source) for _ in range(6)]
    assert len(set(seen)) == 6


def test_masses_of_answers_hold_sixty_digits():
    with mp.workdps(60):
        for epsilon in (1e-8, 0.7, 50.0):
            pair, e = made("flips", epsilon=epsilon).pairs(ADD_REMOVE)["witness_reversed"], mp.mpf(epsilon)
            truth = mp.exp(-e / 2) / 2, 1 - mp.exp(-e / 2) / 2
            assert all(mp.mpf(m.lower) <= t <= mp.mpf(m.upper) for m, t in zip(pair.masses, truth, strict=True))
            assert abs(mp.mpf(pair.losses[1]) - mp.log(2 * mp.exp(e / 2) - 1)) <= mp.mpf(2) ** -52 * pair.losses[1]


@pytest.mark.parametrize("name", ["exponential", "flips", "laplace-noise"])
def test_any_epsilon_is_priced_without_a_warning(name):
    for epsilon in (1e-9, 1e4):
        claim = (
            PLD(relative_width=1e-2, most_points=2**12)
            .profile(made(name, epsilon=epsilon), adjacency=ADD_REMOVE)
            .delta(np.array([0.0, epsilon / 3]))
        )
        assert (claim.lower >= 0).all() and (claim.upper <= 1).all() and claim.upper[0] > 0.2 * min(epsilon, 1)
