"""The process tree: immutable values, one canonical list of leaves, and refusals that say what to do instead."""

import dataclasses
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mechanisms
from mechanisms import (
    Adjacency,
    Allocated,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    Group,
    InvalidParameter,
    Poisson,
    RandomizedResponse,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
    available,
    leaves,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.sampling import Allocation
from mechanisms.gaussian import GaussianPair
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT, any_processes, any_runs

G = Gaussian(noise_multiplier=1.0)
H = Gaussian(noise_multiplier=2.0)
HALF = Poisson(probability=0.5)
small_counts = st.integers(0, 5)


# Values


@given(any_runs())
def test_equal_processes_have_equal_hashes(process):
    copy = pickle.loads(pickle.dumps(process))
    assert copy == process and hash(copy) == hash(process) and copy is not process


@given(any_runs())
def test_the_representation_of_a_process_is_code_for_it(process):
    assert eval(repr(process), {name: getattr(mechanisms, name) for name in mechanisms.__all__}) == process


@given(any_runs())
def test_processes_can_not_be_changed(process):
    name = dataclasses.fields(process)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(process, name, None)


def test_processes_hold_no_more_than_their_fields():
    with pytest.raises((AttributeError, TypeError)):
        G.extra = 1


def test_a_list_of_parts_becomes_a_tuple():
    assert Compose([G, H]) == Compose((G, H))


def test_numbers_are_stored_as_plain_floats_and_ints():
    import numpy as np

    process = Repeat(
        Sampled(Gaussian(noise_multiplier=np.float32(0.5)), Poisson(probability=np.array(0.5))), np.int64(3)
    )
    assert repr(process) == repr(Repeat(Sampled(Gaussian(noise_multiplier=0.5), HALF), 3))


def test_minus_zero_is_zero():
    assert math.copysign(1.0, Gaussian(noise_multiplier=-0.0).noise_multiplier) == 1.0


def test_both_known_mechanisms_are_discovered():
    assert available()["gaussian"] is Gaussian and available()["randomized_response"] is RandomizedResponse


# Leaves


@given(any_processes(), small_counts)
def test_repeating_has_the_leaves_of_composing_with_itself(process, times):
    assert leaves(Repeat(process, times)) == leaves(Compose((process,) * times))


@given(st.permutations([G, H, Sampled(G, HALF), Repeat(H, 3), RandomizedResponse(epsilon=1.0)]))
def test_order_makes_no_difference_to_leaves(parts):
    assert leaves(Compose(tuple(parts))) == leaves(Compose(tuple(sorted(parts, key=repr))))


@given(any_processes(), any_processes(), any_processes())
def test_nesting_makes_no_difference_to_leaves(a, b, c):
    flat = leaves(Compose((a, b, c)))
    assert leaves(Compose((a, Compose((b, c))))) == flat
    assert leaves(Compose((Compose((a,)), Compose((Compose(()), b)), c))) == flat


@given(any_processes(), small_counts, small_counts)
def test_repetitions_of_repetitions_multiply(process, inner, outer):
    assert leaves(Repeat(Repeat(process, inner), outer)) == leaves(Repeat(process, inner * outer))


@given(any_processes())
def test_once_is_the_process_itself_and_never_is_nothing(process):
    assert leaves(Repeat(process, 1)) == leaves(process)
    assert leaves(Repeat(process, 0)) == leaves(Compose(())) == ()


@given(any_runs())
def test_leaves_of_the_leaves_are_the_leaves(process):
    found = leaves(process)
    assert leaves(Compose(tuple(Repeat(leaf, times) for leaf, times in found))) == found


@given(any_runs())
def test_leaves_are_distinct_and_run_at_least_once(process):
    found = leaves(process)
    assert len({leaf for leaf, _ in found}) == len(found)
    assert all(times >= 1 for _, times in found)


@given(any_processes())
def test_sampling_with_probability_one_is_no_sampling_and_with_zero_no_process(process):
    assert leaves(Sampled(process, Poisson(probability=1.0))) == leaves(process)
    assert leaves(Sampled(process, Poisson(probability=0.0))) == ()


def test_a_poisson_sample_of_a_poisson_sample_is_no_empty_process_when_the_product_underflows():
    tiny = Poisson(probability=1e-200)
    assert leaves(Sampled(Sampled(G, tiny), tiny)) != ()


def test_nesting_in_a_composition_makes_no_difference_to_nested_sampling():
    inner = Sampled(G, HALF)
    assert leaves(Sampled(Compose((inner,)), HALF)) == leaves(Sampled(inner, HALF))


def test_one_draw_is_not_spread_over_what_it_samples():
    assert leaves(Sampled(Compose((G, H)), HALF)) == ((Sampled(Compose((G, H)), HALF), 1),)


def test_enormous_repetitions_are_counted_exactly():
    assert leaves(Repeat(Repeat(G, 2**63 + 1), 3)) == ((G, 3 * (2**63 + 1)),)


# Pairs of compositions inside a sample


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=4))
def test_gaussians_inside_one_draw_are_one_gaussian(noises):
    inside = Compose(tuple(Gaussian(noise_multiplier=noise) for noise in noises))
    for pair in inside.pairs(ADD_REMOVE).values():
        assert isinstance(pair, GaussianPair)
        assert pair.shift.contains(math.sqrt(math.fsum(noise**-2 for noise in noises)))
        assert pair.shift.width < 1e-14


def test_repeated_gaussians_inside_one_draw_are_one_gaussian():
    assert Repeat(H, 9).pairs(ADD_REMOVE)["remove"].shift.contains(1.5)


def test_several_steps_of_another_kind_inside_one_draw_are_refused():
    response = RandomizedResponse(epsilon=1.0)
    with pytest.raises(UnsupportedProcess, match="several steps inside one sample have no closed pair"):
        Repeat(response, 2).pairs(REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match=r"GaussianPair|DiscretePair"):
        Compose((response, G)).pairs(REPLACE_ONE)


def test_an_empty_composition_has_no_pair():
    with pytest.raises(UnsupportedProcess, match="an empty composition has no pair"):
        Compose(()).pairs(ADD_REMOVE)


# Adjacency


def test_directions_are_fixed_by_the_adjacency():
    assert ADD_REMOVE.directions == ZERO_OUT.directions == ("remove", "add")
    assert REPLACE_ONE.directions == ("replace",)


@pytest.mark.parametrize("adjacency", Adjacency)
def test_an_adjacency_is_found_by_its_name(adjacency):
    assert Adjacency.parse(adjacency.value) is adjacency is Adjacency.parse(adjacency)


@pytest.mark.parametrize("name", ["add-remove", "", None, 1, "ADD_REMOVE"])
def test_an_unknown_adjacency_is_refused_with_those_there_are(name):
    with pytest.raises(
        InvalidParameter, match=r"Adjacency: name must be one of 'add_remove', 'replace_one', 'zero_out'"
    ):
        Adjacency.parse(name)


@pytest.mark.parametrize("adjacency", Adjacency)
def test_pairs_have_the_directions_of_the_adjacency(adjacency):
    assert set(G.pairs(adjacency)) == set(adjacency.directions)


def test_replacing_a_record_moves_a_query_twice_as_far_as_removing_it():
    assert H.pairs(ADD_REMOVE)["remove"].shift.contains(0.5)
    assert H.pairs(ZERO_OUT)["add"].shift.contains(0.5)
    assert H.pairs(REPLACE_ONE)["replace"].shift.contains(1.0)


# Refusals

INVALID = [
    (lambda: Compose(G), "Compose: parts must be a sequence of processes, got a single one"),
    (lambda: Compose((G, 1)), r"Compose: every part must be a process such as Gaussian\(\.\.\.\), got 1"),
    (lambda: Compose("ab"), "Compose: every part must be a process"),
    (lambda: Repeat("x", 2), "Repeat: every part must be a process"),
    (lambda: Repeat(G, -1), "Repeat: times must be at least 0, got -1"),
    (lambda: Repeat(G, 2.5), "Repeat: times must be a whole number, got 2.5"),
    (lambda: Repeat(G, math.nan), "Repeat: times must be a number, got nan"),
    (lambda: Repeat(G, True), "Repeat: times must be a whole number, got True"),
    (lambda: Sampled(G, 0.5), "Sampled: sampling must be a sampling scheme, got 0.5"),
    (lambda: Sampled(1, HALF), "Sampled: every part must be a process"),
    (lambda: Sampled(G, Shuffled()), r"Sampled: Shuffled\(\) spans the steps of a run\.\nWrap the repetition instead"),
    (lambda: Sampled(G, BallsInBins()), r"Sampled: BallsInBins\(\) spans the steps of a run"),
    (lambda: Allocated(G, BallsInBins()), "Allocated: part must be a Repeat, got Gaussian"),
    (lambda: Allocated(Repeat(G, 2), HALF), "Allocated: sampling must span the steps of a run"),
    (lambda: Gaussian(noise_multiplier=-1), "Gaussian: noise_multiplier must be at least 0, got -1.0"),
    (lambda: Gaussian(noise_multiplier=math.inf), "Gaussian: noise_multiplier must be finite, got inf"),
    (lambda: RandomizedResponse(epsilon=-1), "RandomizedResponse: epsilon must be at least 0"),
    (lambda: RandomizedResponse(epsilon=1, categories=1), "RandomizedResponse: categories must be at least 2, got 1"),
]


@pytest.mark.parametrize(("build", "message"), INVALID)
def test_what_is_no_process_is_refused_with_the_rule(build, message):
    with pytest.raises(InvalidParameter, match=message):
        build()


@pytest.mark.parametrize("parts", [5, None])
def test_parts_that_are_no_sequence_are_refused(parts):
    with pytest.raises(InvalidParameter, match="Compose: parts must be"):
        Compose(parts)


UNSUPPORTED = [
    (Allocated(Repeat(G, 3), Shuffled()), "Shuffled: no proved bound under add_remove.*Poisson sampling does not hold"),
    (Allocated(Repeat(RandomizedResponse(epsilon=1.0), 3), BallsInBins()), "its neighbours are replace_one"),
    (Sampled(G, FixedSize(batch_size=2, records=2)), "FixedSize: batch_size must be less than records"),
    (Sampled(G, WithReplacement(batch_size=1, records=1)), "WithReplacement: records must be at least 2"),
    (
        Sampled(G, WithReplacement(batch_size=500, records=2)),
        "WithReplacement: of 500 chances of 0.5 at most 250 may come true",
    ),
    (RandomizedResponse(epsilon=1.0), "RandomizedResponse: its neighbours are replace_one, got add_remove"),
    (Sampled(RandomizedResponse(epsilon=1.0), HALF), "RandomizedResponse: its neighbours are replace_one"),
]


@pytest.mark.parametrize(("process", "message"), UNSUPPORTED)
def test_a_process_without_a_theorem_is_refused_by_name(process, message):
    with pytest.raises(UnsupportedProcess, match=message):
        process.pairs(ADD_REMOVE)


def test_a_scheme_without_a_theorem_is_refused_with_what_to_run_instead():
    class Unknown(Allocation):
        __slots__ = ()

    process = Allocated(Repeat(G, 3), Unknown())
    for ask in (process.pairs, process.renyi):
        with pytest.raises(UnsupportedProcess, match=r"(?s)Unknown: no .*Use"):
            ask(ADD_REMOVE)


@pytest.mark.parametrize("scheme", [Shuffled(), BallsInBins()])
def test_records_spread_over_at_most_one_step_are_all_in_it(scheme):
    assert leaves(Allocated(Repeat(G, 1), scheme)) == leaves(G)
    assert leaves(Allocated(Repeat(G, 0), scheme)) == leaves(Allocated(Repeat(Compose(()), 3), scheme)) == ()
    assert leaves(Repeat(Allocated(Repeat(G, 2), scheme), 3)) == ((Allocated(Repeat(G, 2), scheme), 3),)


def test_a_scheme_that_counts_records_fits_only_a_sample_of_that_many():
    inner = Sampled(G, FixedSize(batch_size=1, records=4))
    for outer in (HALF, FixedSize(batch_size=3, records=9)):
        with pytest.raises(UnsupportedProcess, match=r"records=4\) must count the records of the sample"):
            Sampled(Repeat(inner, 1), outer).pairs(ADD_REMOVE)
    assert Sampled(Repeat(inner, 1), FixedSize(batch_size=4, records=9)).pairs(REPLACE_ONE)


def test_no_noise_gives_everything_away():
    for pair in Gaussian(noise_multiplier=0.0).pairs(ADD_REMOVE).values():
        assert pair.infinite_mass.contains(1.0) and pair.delta(Bounds.exact(5.0)).contains(1.0)


TRUNCATED = TruncatedPoisson(probability=0.5, largest_batch=2)


@pytest.mark.parametrize(
    "process",
    [
        Sampled(Allocated(Repeat(G, 20), Shuffled()), HALF),
        Sampled(Allocated(Repeat(G, 20), Shuffled()), TRUNCATED),
        Sampled(Sampled(G, TRUNCATED), HALF),
        Allocated(Repeat(Allocated(Repeat(G, 2), Shuffled()), 3), BallsInBins()),
        Allocated(Repeat(Compose((Sampled(G, TRUNCATED),)), 3), BallsInBins()),
        Group(Sampled(Allocated(Repeat(G, 20), Shuffled()), HALF), 2),
    ],
)
def test_a_zeroed_record_that_still_counts_is_not_priced_as_an_absent_one(process):
    """Poisson(.1) of 501 records around Shuffled, T = 20, σ = .4, all others −1: δ(2) = .0416(6), priced as .0224."""
    with pytest.raises(UnsupportedProcess, match=r"no proved bound under zero_out around .*Use FixedSize"):
        process.pairs(ZERO_OUT)


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE, ZERO_OUT])
@pytest.mark.parametrize(
    "scheme",
    [
        FixedSize(batch_size=1, records=4),
        WithReplacement(batch_size=1, records=4),
        TruncatedPoisson(probability=0.5, largest_batch=2, records=4),
    ],
)
def test_a_scheme_that_counts_records_does_not_fit_into_bins_of_random_size(scheme, adjacency):
    process = Allocated(Repeat(Sampled(G, scheme), 3), BallsInBins())
    for ask in (process.pairs, process.renyi):
        with pytest.raises(UnsupportedProcess, match=r"BallsInBins: .* must count the records of the sample"):
            ask(adjacency)
