import dataclasses

import numpy as np
import pytest

from accountant import epsilon_bounds
from audit import AuditReport, signed_coordinates
from audit.core.claims import accountant_answers
from audit.core.rows import facts, summary
from audit.evidence import estimators
from audit.pictures import Pictures
from audit.report import verdict
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import (
    Adjacency,
    Bounds,
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    SystemSource,
    UnsupportedProcess,
)

ONE = signed_coordinates(canaries=1, dimension=1, rng=np.random.default_rng(0))


def never(task):
    raise AssertionError("the trainer was called")


def test_an_honest_trainer_is_consistent_and_both_estimators_show_something(honest_report):
    assert honest_report.verdict == "consistent"
    assert 0 < honest_report.evidence.epsilon < honest_report.refutation.epsilon < honest_report.claim.upper
    assert honest_report.noise_ratio == pytest.approx(1.0, abs=0.15)


def test_primary_and_refuter_share_the_error(honest_report):
    assert honest_report.evidence.confidence == pytest.approx(0.96)
    assert honest_report.refutation.confidence == pytest.approx(0.99)
    assert honest_report.multiplicity == "error 0.05 = 0.04 (one_run) + 0.01 (accountant_inversion), by the union bound"


def test_a_quarter_of_the_noise_is_violated_and_refuted(simulated, auditing):
    report = auditing(simulated(noise=5.511 / 4), guesses=250)
    assert report.verdict == "violated"
    assert report.evidence.epsilon > report.claim.upper
    assert report.refutation.epsilon > report.claim.upper


@pytest.mark.parametrize(
    "bug",
    [{"noise": 0.6 * 5.511}, {"probability": 1.0}, {"included": 1.7}],
    ids=["three fifths of the noise", "every record in every step", "contributions above the clip norm"],
)
def test_what_the_primary_cannot_see_yet_refutes_the_description(simulated, auditing, bug):
    report = auditing(simulated(**bug))
    assert report.verdict == "description refuted"
    assert report.evidence.epsilon < report.claim.upper < report.refutation.epsilon


def test_a_trainer_without_noise_is_violated(simulated, auditing):
    report = auditing(simulated(noise=0.0), guesses=250)
    assert (report.verdict, report.refutation.epsilon, report.noise_ratio) == ("violated", np.inf, 0.0)


def test_a_trainer_that_ignores_the_canaries_teaches_nothing(simulated, auditing):
    report = auditing(simulated(included=0.0))
    assert report.verdict == "none"
    assert report.evidence.epsilon == report.refutation.epsilon == 0.0


def test_without_a_refuter_the_primary_has_all_of_the_error(simulated, auditing):
    report = auditing(simulated(), refuter=None)
    assert report.refutation is None
    assert report.evidence.confidence == 0.95


def test_the_primarys_ceiling_is_reported(simulated, auditing):
    assert auditing(simulated(), guesses=20).ceiling < 4.0 < auditing(simulated(), guesses=250).ceiling


def test_every_accountant_is_listed_with_its_bounds_or_its_refusal(honest_report):
    by_name = {answer.name: answer for answer in honest_report.accountants}
    assert {"basic", "rdp", "pld", "gdp"} <= set(by_name)
    assert by_name["gdp"].claim is None and "gdp" in by_name["gdp"].refusal
    assert all(answer.claim.upper >= honest_report.claim.lower for answer in by_name.values() if answer.claim)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"primary": "accountant_inversion"}, "primary must be a frequentist estimator for OneRun"),
        ({"primary": "clopper_pearson"}, "primary must be a frequentist estimator for OneRun"),
        ({"refuter": "one_run"}, "refuter must be a parametric estimator for OneRun"),
        ({"refuter": "gaussian_pair"}, "refuter must be about the claimed family, got 'gaussian_pair'"),
        ({"primary": "one_rum"}, "primary must be one of 'accountant_inversion', .*'one_run'"),
        ({"attack": "lira"}, r"attack 'lira' must be given itself, as it takes references: attack=Likelihood"),
        ({"attack": "lozz"}, "attack must be one of .*'gradient'.*, got 'lozz'"),
        ({"exploratory": ["maximal"]}, "exploratory must be an estimator for OneRun, got 'maximal'"),
        ({"adjacency": "replace_one"}, "adjacency must be 'add_remove' or 'zero_out' with these SignedCoordinates"),
        ({"runs": 50, "canaries": ONE}, "guessing_rule must be a Threshold for independent runs"),
        ({"runs": 50}, "canaries must be exactly one for independent runs, which all have it, got 2000"),
        ({"runs": 3, "canaries": ONE}, "runs must be at least 4, got 3"),
        ({"runs": 10**11, "canaries": ONE, "guessing_rule": Threshold(value=0.0)}, "runs must be at most 10000000"),
        ({"canaries": 19}, "canaries must be 20 or more for one run, got 19"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 1.5}, "confidence must lie strictly between 0 and 1"),
        ({"claim": Gaussian(noise_multiplier=0.0)}, "the claimed process must have noise"),
    ],
)
def test_bad_input_is_refused_before_the_run(auditing, change, message):
    with pytest.raises(InvalidParameter, match=message):
        auditing(never, **change)


@pytest.fixture
def bare(monkeypatch):
    """Reports without what takes long and is not looked at: accountants and pictures."""
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, **__: Pictures())
    monkeypatch.setattr("audit.harness.looked_at", lambda *_: ())


def failing(error):
    def fail(self, data, **_):
        if data.scores.design.size > 4:  # not where the plan asks what it will ask
            raise error
        return 0.0

    return fail


def test_an_exploratory_estimator_that_fails_late_is_listed_and_loses_nothing(simulated, auditing, monkeypatch, bare):
    few, kinds = {"canaries": 200, "guesses": 40, "refuter": None}, estimators()
    plain = auditing(simulated(), **few)
    monkeypatch.setattr(kinds["gaussian_pair"], "epsilon", failing(ValueError("record 17 is 3.5")))
    monkeypatch.setattr(kinds["one_run_recursion"], "epsilon", failing(NumericalFailure("recursion: too wide")))
    report = auditing(simulated(), **few, exploratory=["gaussian_pair", "one_run", "one_run_recursion"])
    assert report.evidence == plain.evidence and [bound.method for bound in report.exploratory] == ["one_run"]
    reasons = [f"{one.method}: {one.reason}" for one in report.failed]
    assert reasons == ["gaussian_pair: ValueError", "one_run_recursion: NumericalFailure: recursion: too wide"]
    assert [value for name, value in facts(report) if name == "exploratory that failed"] == reasons
    told = dict(summary(report))["exploratory, decides nothing"]
    assert told.endswith("(one_run); failed: gaussian_pair; failed: one_run_recursion")
    assert "record 17" not in report.to_json() and AuditReport.from_json(report.to_json()) == report
    monkeypatch.setattr(kinds["one_run"], "epsilon", failing(NumericalFailure("one_run: too wide")))
    with pytest.raises(NumericalFailure, match="one_run: too wide"):
        auditing(simulated(), **few)


@pytest.mark.parametrize("included", [0, 1, 19, 20])
def test_no_coins_are_an_error_for_they_might_show_nothing_and_then_do(included, simulated, auditing, monkeypatch):
    """Whether a call fails must not tell how the coins fell, however rarely."""
    monkeypatch.setattr("audit.runs.toss", lambda randomness, count: np.arange(count) < included)
    report = auditing(simulated(), canaries=20, guesses=5, exploratory=["gaussian_pair", "one_run_fdp"])
    assert (report.verdict, report.ceiling, report.faults, report.failed) == ("none", 0.0, (), ())
    assert {bound.epsilon for bound in (report.evidence, report.refutation, *report.exploratory)} == {0.0}
    assert AuditReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("included", [0, 20])
def test_neither_are_they_where_each_run_has_one(included, simulated, auditing, monkeypatch):
    monkeypatch.setattr("audit.runs.toss", lambda randomness, count: np.arange(count) < included)
    report = auditing(
        simulated(), canaries=ONE, runs=20, guessing_rule=Threshold(value=25.0), exploratory=["maximal", "renyi"]
    )
    assert (report.verdict, report.ceiling, report.evidence.epsilon) == ("none", 0.0, 0.0)


@pytest.fixture
def mixed(described):
    return lambda last: Compose((described(steps=99), Gaussian(noise_multiplier=last)))


def test_a_refuter_of_another_claim_is_refused_before_the_run(auditing, mixed):
    with pytest.raises(UnsupportedProcess, match="must be Gaussian steps of one noise multiplier"):
        auditing(never, claim=mixed(2.0), refuter="accountant_inversion")


def test_any_process_can_be_claimed_and_then_has_no_refuter(simulated, auditing, mixed):
    report = auditing(simulated(noise=0.0), claim=mixed(2.0), guesses=250)
    assert (report.verdict, report.refutation, report.noise_ratio) == ("violated", None, None)
    assert report.evidence.confidence == 0.95


def test_a_run_of_any_process_is_consistent_where_it_is_what_is_claimed(simulated, auditing, mixed, bare):
    report = auditing(simulated(), claim=mixed(20.0))
    assert (report.verdict, report.refutation) == ("consistent", None)


def test_without_a_claim_the_trainers_own_is_taken(simulated, auditing, described):
    class Said:
        process = described()

        def __call__(self, task):
            return simulated()(task)

    assert auditing(Said(), claim=None).process == described()
    with pytest.raises(InvalidParameter, match="claim must be a process, or None for a trainer that has one"):
        auditing(simulated(), claim=None)


def test_a_misspelt_keyword_is_refused(auditing):
    with pytest.raises(TypeError, match="confidance"):
        auditing(never, confidance=0.9)


def test_only_a_key_that_others_may_know_makes_a_run_reproducible(simulated, auditing, honest_report):
    assert honest_report.reproducible
    assert not auditing(simulated(), randomness=SystemSource()).reproducible


def test_the_same_key_gives_the_same_report_byte_for_byte(simulated, auditing, asked_once):
    one = auditing(simulated()).to_json()
    asked_once.cache_clear()  # so that the accountants are asked again
    assert auditing(simulated()).to_json() == one
    assert auditing(simulated(), randomness=KeyedSource(1)).to_json() != one


@pytest.mark.parametrize(
    ("evidence", "refutation", "expected"),
    [
        (1.0, 3.0, "consistent"),
        (4.0, 4.0, "consistent"),
        (4.1, 3.0, "violated"),
        (4.1, 5.0, "violated"),
        (3.0, 4.1, "description refuted"),
        (0.0, 0.0, "none"),
        (0.0, None, "none"),
        (0.0, 1.0, "consistent"),
        (np.inf, None, "violated"),
    ],
)
def test_only_the_primary_violates_and_only_the_refuter_refutes(honest_report, evidence, refutation, expected):
    shown = dataclasses.replace(honest_report.evidence, epsilon=evidence, design=OneRun(canaries=9))
    refuting = None if refutation is None else dataclasses.replace(honest_report.refutation, epsilon=refutation)
    assert verdict(Bounds(lower=3.9, upper=4.0), shown, refuting) == expected


def test_accountants_that_fail_or_say_nothing_are_listed_with_their_reason():
    few = Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=1e-3)), 2)
    told = {answer.name: answer for answer in accountant_answers(few, delta=1e-9, adjacency=Adjacency.ADD_REMOVE)}
    assert "Use accountant='pld'" in told["contour"].refusal and told["contour"].claim is None
    assert told["jumps"].refusal == "jumps: it has no bound for this process." and told["jumps"].claim is None
    assert told["rdp"].claim.upper > 0 and told["rdp"].refusal == ""


def test_a_run_that_keeps_epsilon_but_not_the_claimed_curve_is_no_violation():
    """Randomised response with ε = 1 on every canary, claimed to be a Gaussian with ε(1e-5) = 1."""
    rng, claimed = np.random.default_rng(3), Gaussian(noise_multiplier=1 / 0.268051)
    coins = rng.random(2_000) < 0.5
    answers = coins ^ (rng.random(2_000) > np.exp(1) / (1 + np.exp(1)))
    scores = Scores(values=answers, design=OneRun(canaries=2_000), guessing_rule=Threshold(value=0.5))
    data, claim = LabelledScores(scores=scores, membership=coins), epsilon_bounds(claimed, delta=1e-5)
    said = {
        name: estimators()[name]().lower_bound(data, process=claimed, delta=1e-5, confidence=0.95, threat_model="any")
        for name in ("one_run", "one_run_recursion", "one_run_fdp")
    }
    assert said["one_run_fdp"].epsilon > 1.5 * claim.upper
    assert {name: verdict(claim, bound, None) for name, bound in said.items()} == {
        "one_run": "consistent",
        "one_run_recursion": "consistent",
        "one_run_fdp": "description refuted",
    }


@pytest.mark.parametrize("broken", ["audit.harness.pictured", "audit.harness.jaws_path"])
def test_a_picture_that_fails_after_the_run_loses_no_report(broken, simulated, auditing, monkeypatch):
    def fail(*_, **__):
        raise ValueError("record 17")

    monkeypatch.setattr(broken, fail)
    report = auditing(simulated())
    (missing,) = report.pictures.missing
    assert missing == f"{'scores' if 'pictured' in broken else 'jaws'}: ValueError"
    assert report.verdict == "consistent" and ("picture that failed", missing) in facts(report)
    assert AuditReport.from_json(report.to_json()) == report
