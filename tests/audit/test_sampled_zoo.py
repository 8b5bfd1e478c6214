"""The planted faults under every sampling scheme are caught at a family-wise 1e-4, and the unbroken twins are not."""

import itertools
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from audit.__main__ import app
from audit.core import sampled_zoo
from audit.core.sampled_zoo import DETECTORS, STATISTICAL, faults, level
from audit.core.specimens import specimens
from audit.core.toy_samples import SCHEMES, log_likelier
from audit.core.toy_training import Place, Plan, dp_sgd
from audit.core.zoo_run import ALPHA
from mechanisms import KeyedSource
from tests.audit.zoo_seeds import SAMPLED

CASES = [(scheme, name) for scheme in SCHEMES for name in faults(scheme)]
EPOCHS = ("shuffled", "balls_in_bins")


def caught(scheme, train, seed=0, detectors=tuple(DETECTORS)):
    found = (DETECTORS[detector](scheme, train, level(), seed) for detector in detectors)
    return {one.detector for one in found if one.caught}


def drawn(scheme, *, records, probability, steps, seed):
    """Return how often each record takes part in each step, (T, n)."""
    plan = Plan(noise_multiplier=0.0, probability=probability, steps=steps, expected_batch_size=1.0)
    places = [Place(plan=plan, source=KeyedSource(seed), begin=0, step=step) for step in range(steps)]
    each = np.eye(records, dtype=int)
    return np.array([each[SCHEMES[scheme].sample(records, place)].sum(axis=0) for place in places])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_scheme_in_its_place_is_caught_by_the_records_seen_and_it_itself_is_not(scheme):
    others = {name: train for name, (train, _) in faults(scheme).items() if name.endswith(" run")}
    assert len(others) == len(SCHEMES) - 1
    assert all(caught(scheme, train, detectors=("sampling",)) for train in others.values())
    assert caught(scheme, dp_sgd, detectors=STATISTICAL) == set()


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("scheme", "name"), [case for case in CASES if case[1] in specimens()])
def test_a_planted_fault_is_caught_by_the_detectors_named_for_it(scheme, name):
    train, by = faults(scheme)[name]
    assert caught(scheme, train, detectors=by) == set(by)


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if not scheme.varies])
def test_a_divisor_that_is_public_is_no_fault(scheme):
    assert caught(scheme, specimens()["divided_by_batch"].broken, detectors=("replay",)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_twin_is_caught_and_every_fault_is_at_other_seeds(scheme, seed):
    assert caught(scheme, dp_sgd, seed) == set()
    for train, by in faults(scheme).values():
        assert caught(scheme, train, seed, by) == set(by)


def test_the_committed_runs_over_100_seeds_caught_every_fault_and_no_twin():
    results = json.loads(SAMPLED.read_text())
    expected = {f"{scheme}: {name}": list(faults(scheme)[name][1]) for scheme, name in CASES}
    assert {name: one["expected"] for name, one in results.items()} == expected
    for one in results.values():
        assert one["seeds"] == 100 and one["alarms"] == {}
        assert {detector: one["caught"].get(detector) for detector in one["expected"]} == dict.fromkeys(
            one["expected"], 100
        )


def test_the_error_is_shared_by_all_tests_on_faults_and_twins():
    assert set(DETECTORS) == {*STATISTICAL, "replay"}
    assert level() * len(STATISTICAL) * (len(CASES) + len(SCHEMES)) == pytest.approx(ALPHA)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_probabilities_of_all_counts_sum_to_one(scheme):
    steps, most = (2, 1) if scheme in EPOCHS else (1, 2)
    every = (np.reshape(cells, (steps, 4)) for cells in itertools.product(range(most + 1), repeat=4 * steps))
    total = math.fsum(np.exp(SCHEMES[scheme].log_probability(counts, 0.5)) for counts in every)
    assert total == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_counts_come_as_often_as_their_probability_says(scheme):
    length, blocks = 2 if scheme in EPOCHS else 1, 600
    counts = drawn(scheme, records=4, probability=0.5, steps=length * blocks, seed=1).reshape(blocks, length, 4)
    law, seen = SCHEMES[scheme].log_probability, Counter(one.tobytes() for one in counts)
    expected = {key: np.exp(law(np.frombuffer(key, dtype=int).reshape(length, 4), 0.5)) for key in seen}
    assert all(stats.binomtest(times, blocks, expected[key]).pvalue > 1e-6 for key, times in seen.items())
    assert math.fsum(expected.values()) == pytest.approx(1, rel=1e-12)  # all that can come has come


def test_several_epochs_are_as_likely_as_each_by_itself():
    counts = {scheme: drawn(scheme, records=8, probability=0.25, steps=12, seed=2) for scheme in SCHEMES}
    for scheme, other in itertools.product(SCHEMES, SCHEMES):
        law = SCHEMES[scheme].log_probability
        each = sum(law(epoch, 0.25) for epoch in counts[other].reshape(3, 4, 8))
        assert law(counts[other], 0.25) == pytest.approx(each, rel=1e-12) or other != scheme


def test_what_the_trainer_draws_is_its_own_scheme_and_no_other():
    pytest.importorskip("torch")
    from dpsgd import DPSGD
    from dpsgd.core.batches import drawn_rows
    from mechanisms import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson, WithReplacement

    records, batch, steps = 32, 8, 64
    samplings = {
        "poisson": Poisson(probability=0.25),
        "fixed_size": FixedSize(batch_size=batch, records=records),
        "with_replacement": WithReplacement(batch_size=batch, records=records),
        "truncated": TruncatedPoisson(probability=0.25, largest_batch=batch, records=records),
        "shuffled": Shuffled(),
        "balls_in_bins": BallsInBins(),
    }
    for name, sampling in samplings.items():
        epoch = {"steps_per_epoch": 4} if name in EPOCHS else {}
        config = DPSGD(
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            sampling=sampling,
            expected_batch_size=batch,
            steps=steps,
            learning_rate=0.1,
            **epoch,
        )
        rows = drawn_rows(KeyedSource(3), config, run=0, records=records)
        counts = np.array([np.bincount(rows(step), minlength=records) for step in range(steps)])
        refuted = {scheme for scheme in SCHEMES if log_likelier(scheme, counts, 0.25) >= -np.log(level())}
        assert refuted == set(SCHEMES) - {name}


@pytest.mark.parametrize(("by", "code", "text"), [
    ("noise", 0, "noise, inversion 1 .* passes squares are small with p"),
    ("sampling", 3, "missed: sampling should have caught it"),
])  # fmt: skip
def test_the_command_prints_what_was_seen_and_ends_in_3_where_a_fault_is_missed(monkeypatch, by, code, text):
    halved = specimens()["noise_halved"].broken
    monkeypatch.setattr(sampled_zoo, "faults", lambda scheme: {"noise_halved": (halved, (by,))})
    monkeypatch.setattr(sampled_zoo, "SCHEMES", {"shuffled": SCHEMES["shuffled"]})
    result = CliRunner().invoke(app, ["zoo", "--samples"], env={"COLUMNS": "160"})
    assert result.exit_code == code and re.search(text, " ".join(result.output.split()))


def test_names_beside_samples_are_refused():
    result = CliRunner().invoke(app, ["zoo", "noise_halved", "--samples"])
    assert "--samples must stand alone, got 'noise_halved'" in str(result.exception)
