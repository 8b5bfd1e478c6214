import sys
from fractions import Fraction

import numpy as np
import pytest

from audit import AuditReport
from audit.black_box import audit_mechanism, mechanism_lower_bound, output_estimators
from audit.core.rows import ceiling_note
from audit.scores import IndependentRuns
from mechanisms import Adjacency, InvalidParameter, KeyedSource, Laplace

LEVEL = {"runs": 200, "adjacency": "replace_one", "delta": 0.0, "confidence": 0.95}


def noisy_sum(noise_multiplier):
    laplace, source = Laplace(noise_multiplier=noise_multiplier), KeyedSource(3)
    return lambda records: laplace.release(float(np.sum(records)), sensitivity=1.0, randomness=source)


@pytest.mark.parametrize("tester", output_estimators())
def test_a_mechanism_shows_no_more_than_it_loses(tester):
    found = mechanism_lower_bound(noisy_sum(0.5), [1.0, 1.0], [1.0, 0.0], tester=tester, **LEVEL)
    assert (tester != "renyi") * 0.3 <= found.epsilon <= 2.0
    assert (found.method, found.design, found.adjacency) == (tester, IndependentRuns(runs=400), Adjacency.REPLACE_ONE)


def test_too_little_noise_is_seen():
    """Claimed: noise for a sensitivity of 1, so ε = 1. The records move the sum by four."""
    found = mechanism_lower_bound(noisy_sum(1.0), [4.0], [0.0], **LEVEL)
    assert found.epsilon > 1.5


def test_answers_of_any_shape_are_laid_out_in_a_row():
    rng = np.random.default_rng(0)

    def release(value):
        return rng.normal(size=(2, 2)) + value

    assert mechanism_lower_bound(release, 3.0, 0.0, **LEVEL).epsilon > 1.5


def test_inputs_are_called_in_turn():
    called = []

    def release(value):
        called.append(value)
        return 0.0

    assert mechanism_lower_bound(release, "a", "b", **(LEVEL | {"runs": 4})).epsilon == 0.0
    assert called == ["a", "b"] * 4


@pytest.mark.parametrize(
    ("release", "change", "message"),
    [
        (lambda value: 0.0, {"runs": 3}, "runs must be at least 4, got 3"),
        (lambda value: 0.0, {"tester": "clopper_pearson"}, "tester must be one of"),
        (lambda value: 0.0, {"adjacency": "next_door"}, "name must be one of"),
        (lambda value: 0.0, {"delta": 1.0}, "delta must be below 1"),
        (lambda value: np.zeros(value), {}, "answers must always have the same shape"),
        (lambda value: np.nan, {}, "answers must be finite numbers"),
        (lambda value: "many", {}, "answers must be numbers or arrays of them, got str"),
        (lambda value: np.zeros(0), {}, "answers must be finite numbers"),
    ],
)
def test_what_cannot_be_tested_is_refused(release, change, message):
    with pytest.raises(InvalidParameter, match=message):
        mechanism_lower_bound(release, 1, 2, **(LEVEL | {"runs": 8} | change))


def laplace_sum(*, noise=0.5, source=None):
    laplace = Laplace(noise_multiplier=noise)
    return lambda records, streams: laplace.release(
        float(np.sum(records)), sensitivity=1.0, randomness=source or streams
    )


def audited(mechanism, **more):
    asked = LEVEL | {"adjacency": "zero_out", "claim": Laplace(noise_multiplier=0.5), "randomness": KeyedSource(0)}
    return audit_mechanism(mechanism, [1.0, 1.0], [1.0, 0.0], **(asked | more))


def test_a_mechanism_is_audited_from_claim_to_verdict():
    report = audited(laplace_sum(), check=True)
    assert (report.verdict, report.faults, report.claim.adjacency) == ("consistent", (), Adjacency.ZERO_OUT)
    assert report.evidence.epsilon > 0.3 and report.claim.upper == pytest.approx(2.0)
    assert audited(laplace_sum(noise=0.1)).verdict == "violated"
    assert AuditReport.from_json(report.to_json()) == report


def test_every_call_has_fresh_streams_whatever_a_mechanism_does_with_them():
    seen = []
    audited(lambda records, streams: seen.append(streams.fingerprint()) or 0.0, runs=20)
    assert len(set(seen)) == 40


@pytest.mark.parametrize(
    ("mechanism", "fault"),
    [
        (lambda records, streams: {}["record 17"], "the mechanism raised KeyError in a call"),
        (lambda records, streams: np.nan, "answers must be finite numbers"),
        (lambda records, streams: "many", "answers must be numbers or arrays of them, got str"),
        (lambda records, streams: np.zeros(int(sum(records))), "answers must always have the same shape"),
        (lambda records, streams: np.array([1j]), "answers must be numbers or arrays of them, got ndarray"),
        (lambda records, streams: 10**400, "answers must be numbers or arrays of them, got int"),
        (lambda records, streams: [[1], [1, 2]], "answers must be numbers or arrays of them, got list"),
        (lambda records, streams: sys.exit(3), "the mechanism raised SystemExit in a call"),
        (laplace_sum(source=KeyedSource(1)), "changed its answer between two calls with the same streams"),
    ],
)
def test_what_a_mechanism_does_wrong_is_named_and_there_is_no_verdict(mechanism, fault):
    report = audited(mechanism, check=True)
    assert (report.verdict, report.evidence.epsilon) == ("none", 0.0)
    assert fault in report.faults[0] and "record 17" not in report.to_json()


def test_a_tensor_that_carries_gradients_is_named():
    torch = pytest.importorskip("torch")
    report = audited(lambda records, streams: torch.ones(2, requires_grad=True))
    assert report.faults[0].startswith("black_box: answers must be numbers or arrays of them, got Tensor")


def test_exact_fractions_are_numbers():
    assert audited(lambda records, streams: Fraction(1, 3), runs=20).faults == ()


def test_a_mechanism_that_writes_on_its_records_is_judged_by_single_calls():
    """Every call is private; were the records the same ones each time, sums would wander apart."""

    def wandering(records, streams):
        noisy = Laplace(noise_multiplier=0.5).release(float(records.sum()), sensitivity=1.0, randomness=streams)
        records += noisy
        return noisy

    first, second = np.array([1.0, 1.0]), np.array([1.0, 0.0])
    asked = LEVEL | {"adjacency": "zero_out", "claim": Laplace(noise_multiplier=0.5), "randomness": KeyedSource(0)}
    assert audit_mechanism(wandering, first, second, **asked).verdict == "consistent"
    assert first.tolist() == [1.0, 1.0] and second.tolist() == [1.0, 0.0]


def test_too_few_runs_to_show_a_violation_are_told_of():
    few = audited(laplace_sum(), runs=20)
    assert 0 < few.ceiling < few.claim.upper
    assert "No violation can be shown with so few runs" in ceiling_note(few)
    assert ceiling_note(audited(laplace_sum(), runs=400)) == ""


def test_randomness_that_is_no_source_is_refused():
    with pytest.raises(InvalidParameter, match="audit_mechanism: randomness must be a Source, got int"):
        audited(laplace_sum(), randomness=0)
