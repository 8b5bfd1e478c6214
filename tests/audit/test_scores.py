import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.core.whitened_scores import Whitened
from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, OneRun, Scores, Threshold
from mechanisms import InvalidParameter

ANY_RULE = Threshold(value=0.0)


def one_run(values):
    return Scores(values=values, design=OneRun(canaries=len(values)), guessing_rule=ANY_RULE)


@given(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=40), st.integers(0, 4), st.integers(0, 4))
def test_extremes_make_the_announced_number_of_guesses_whatever_the_scores(values, included, excluded):
    guesses = GuessExtremes(included=included, excluded=excluded).guess(np.array(values))
    assert np.count_nonzero(guesses == 1) == included
    assert np.count_nonzero(guesses == -1) == excluded


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=40))
def test_no_score_guessed_in_lies_below_one_not_guessed_in(values):
    values = np.array(values)
    guesses = GuessExtremes(included=3, excluded=3).guess(values)
    assert values[guesses == 1].min() >= values[guesses != 1].max()
    assert values[guesses == -1].max() <= values[guesses != -1].min()


def test_guessing_all_leaves_no_score_out():
    assert np.count_nonzero(GuessExtremes(included=2, excluded=2).guess(np.arange(4.0))) == 4


def test_more_guesses_than_scores_are_refused():
    with pytest.raises(InvalidParameter, match="guesses must be at most the 3 canaries, got 2 included and 2 excluded"):
        GuessExtremes(included=2, excluded=2).guess(np.zeros(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e300])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(InvalidParameter, match="Scores: values must be finite, and some are not"):
        one_run(np.array([0.0, bad]))


def test_scores_must_be_as_many_as_coins():
    with pytest.raises(InvalidParameter, match=r"values must have shape \(3,\), got \(2,\)"):
        Scores(values=np.zeros(2), design=OneRun(canaries=3), guessing_rule=ANY_RULE)


@pytest.mark.parametrize("design", [lambda n: OneRun(canaries=n), lambda n: IndependentRuns(runs=n)])
@pytest.mark.parametrize("bad", [0, -1, 2.5, np.nan, "3"])
def test_designs_need_a_positive_whole_number(design, bad):
    with pytest.raises(InvalidParameter):
        design(bad)


def test_scores_are_copied_and_read_only():
    values = np.zeros(2)
    scores = one_run(values)
    values[0] = 7.0
    assert scores.values[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        scores.values[0] = 1.0


def test_scores_hold_no_membership():
    held = {"values", "design", "guessing_rule", "squares", "sums", "measuring", "whitened"}
    assert {field for field in Scores.__slots__} == held
    assert {field for field in Whitened.__slots__} == {"steps", "energies", "matched", "halfway", "lagged"}


@pytest.mark.parametrize("membership", [[1, 0], [True], [0.5, 0.5]])
def test_membership_must_be_one_bool_a_score(membership):
    with pytest.raises(InvalidParameter, match=r"membership must be bool of shape \(2,\)"):
        LabelledScores(scores=one_run([1.0, -1.0]), membership=membership)


@pytest.mark.parametrize(
    ("squares", "message"),
    [([1.0], "squares must have shape"), ([1.0, np.nan], "squares must be finite"), ([1.0, -1.0], "at least 0")],
)
def test_squares_must_be_one_number_a_score_and_none_negative(squares, message):
    with pytest.raises(InvalidParameter, match=f"Scores: .*{message}"):
        Scores(values=np.zeros(2), design=OneRun(canaries=2), guessing_rule=ANY_RULE, squares=squares)


@pytest.mark.parametrize("measuring", [[1, 0], [True], True])
def test_what_measures_the_noise_must_be_one_bool_a_score(measuring):
    with pytest.raises(InvalidParameter, match=r"Scores: measuring must be bool of shape \(2,\)"):
        Scores(values=np.zeros(2), design=OneRun(canaries=2), guessing_rule=ANY_RULE, measuring=measuring)


@pytest.mark.parametrize("participations", [[1], [0.5, 0.0], [-1, 0], [3, 1]])
def test_participations_are_counts_and_none_where_a_canary_was_out(participations):
    with pytest.raises(InvalidParameter, match="LabelledScores: participations must be"):
        LabelledScores(scores=one_run([1.0, -1.0]), membership=[True, False], participations=participations)


def test_a_guess_is_right_when_it_meets_its_coin_and_passing_is_never_right():
    scores = Scores(
        values=np.arange(5.0), design=OneRun(canaries=5), guessing_rule=GuessExtremes(included=2, excluded=1)
    )
    data = LabelledScores(scores=scores, membership=[True, False, False, False, True])
    assert (data.guessed, data.correct) == (3, 1)
