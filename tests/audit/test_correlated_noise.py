"""Whole reports on our trainer with correlated noise: half of it, and what only looks like it, is refuted."""

import dataclasses
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from audit import AuditReport, GuessExtremes, audit, signed_coordinates  # noqa: E402
from audit.core.claims import claimed_bounds  # noqa: E402
from audit.core.correlated import CorrelatedRun  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from audit.trainers import dpsgd_trainer  # noqa: E402
from dpsgd import DPSGD, Dataset  # noqa: E402
from dpsgd.core.noise_laws import BufferedGaussian, IndependentGaussian, MatrixGaussian, TreeGaussian  # noqa: E402
from dpsgd.cyclic import Cyclic  # noqa: E402
from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace, Repeat, UnsupportedProcess  # noqa: E402
from mechanisms.matrix import square_root  # noqa: E402

NOISES = {
    "tree": TreeGaussian(),
    "matrix": MatrixGaussian(coefficients=square_root(8)),
    "buffered": BufferedGaussian(weights=(0.6, 0.4), decays=(0.9, 0.2)),
    "independent": IndependentGaussian(),
}
CLAIMED = functools.lru_cache(claimed_bounds)
EVERY = pytest.mark.parametrize("name", NOISES)


@pytest.fixture(autouse=True)
def verdicts_alone(monkeypatch):
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, **__: Pictures())
    monkeypatch.setattr("audit.harness.claimed_bounds", CLAIMED)


def cross_entropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def config(name):
    return DPSGD(
        noise_multiplier=2.0,
        max_grad_norm=0.5,
        sampling=Cyclic(),
        expected_batch_size=27,
        steps=24,
        learning_rate=0.2,
        steps_per_epoch=8,
        noise=NOISES[name],
    )


def trainer(run):
    """Return our trainer on 120 records whose gradients are large on the canaries' coordinates."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(120, 20, generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))
    return dpsgd_trainer(
        model, Dataset(features=features, targets=(features[:, 0] > 0).long()), run, loss=cross_entropy
    )


def reported(name, run, *, seed=1, **options):
    made = trainer(run) if isinstance(run, DPSGD) else run
    return audit(
        made,
        **{
            "claim": config(name).process(),
            "delta": 1e-5,
            "canaries": signed_coordinates(canaries=100, dimension=370, rng=np.random.default_rng(0)),
            "guessing_rule": GuessExtremes(included=20, excluded=20),
            "randomness": KeyedSource(seed),
            "adjacency": "zero_out",
            "attack": "whitened",
            **options,
        },
    )


def rows_of_epochs(apart):
    """Return what makes rows of noise that begins anew in every epoch of 8 steps, its draws so far apart."""

    def following(self):
        epoch, step = divmod(self._next, 8)
        rows = dataclasses.replace(self.rows, start=self.rows.start + epoch * apart)
        row, self._carried = rows.advance(step, self._carried if step else (), self.source)
        self._next += 1
        return row

    return following


@pytest.mark.thinned(2)
@EVERY
def test_honest_runs_are_consistent_and_half_the_noise_is_refuted(name):
    """At a level that no seed meets by chance, whatever the noise is drawn from."""
    halved = dataclasses.replace(config(name), noise_multiplier=1.0)
    honest, half = (reported(name, run, confidence=1 - 1e-4) for run in (config(name), halved))
    assert honest.verdict in ("consistent", "none") and not honest.refutation.description_refuted
    assert 0.8 * honest.claim.lower < honest.refutation.epsilon < honest.claim.lower
    assert half.verdict == "description refuted" and half.refutation.description_refuted
    assert half.refutation.epsilon > half.claim.upper
    assert 0.3 < honest.noise_ratio < 2.2 and half.noise_ratio == pytest.approx(honest.noise_ratio / 4, rel=1e-3)


@pytest.mark.slow
@EVERY
def test_honest_runs_are_never_accused_at_a_level_of_one_in_ten_thousand(name):
    verdicts = {reported(name, config(name), seed=seed, confidence=1 - 1e-4).verdict for seed in range(100)}
    assert verdicts <= {"consistent", "none"}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["tree", "matrix", "buffered"])
def test_noise_that_is_not_correlated_is_refuted_though_it_is_no_less(name):
    report = reported(name, dataclasses.replace(config(name), noise=IndependentGaussian()), confidence=1 - 1e-4)
    assert report.verdict == "description refuted" and report.refutation.epsilon < report.claim.upper
    text = " ".join(report.to_markdown().split())
    assert "refutes the process described, by more than ε alone shows" in text
    assert AuditReport.from_json(report.to_json()) == report


def test_a_check_of_the_trainer_finds_turns_that_depend_on_the_coins():
    short = dataclasses.replace(config("tree"), steps=8)
    made = trainer(short)

    def telling(task):
        found = made(task)
        shifted = lambda step: found.turns(step + int(task.membership[0]))  # noqa: E731
        return dataclasses.replace(found, turns=shifted)

    assert reported("tree", made, claim=short.process(), check=True).faults == ()
    (fault,) = reported("tree", telling, claim=short.process(), check=True).faults
    assert "turns or known records depend on the coins" in fault


@pytest.mark.parametrize("apart", [2**20, 0], ids=["begun anew", "used again"])
def test_a_tree_that_begins_anew_in_every_epoch_is_refuted(apart, monkeypatch):
    monkeypatch.setattr("dpsgd.core.correlated.Correlated._following", rows_of_epochs(apart))
    canaries = signed_coordinates(canaries=300, dimension=370, rng=np.random.default_rng(0))
    report = reported("tree", config("tree"), canaries=canaries, confidence=1 - 1e-4)
    assert report.refutation.description_refuted
    assert report.verdict == "description refuted"


def test_the_refuter_can_be_named_and_is_refused_for_other_claims():
    assert reported("tree", config("tree"), refuter="accountant_inversion").refutation is not None
    with pytest.raises(UnsupportedProcess, match="must be a MatrixMechanism or a Tree for noise to be whitened"):
        reported(
            "tree", config("tree"), claim=Repeat(Gaussian(noise_multiplier=1.0), 24), refuter="accountant_inversion"
        )


def test_neighbours_with_one_record_more_are_refused():
    with pytest.raises(Exception, match="zero_out"):
        reported("tree", config("tree"), adjacency="add_remove")


def test_an_unwhitened_attack_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="Use attack='whitened'"):
        reported("tree", config("tree"), attack="gradient", refuter=None)


def unread():
    raise AssertionError("a step was taken")
    yield


@pytest.mark.parametrize("check", [False, True])
def test_a_trainer_that_tells_no_turns_is_refused_before_a_step(check):
    made = trainer(config("tree"))
    with pytest.raises(InvalidParameter, match="attack 'whitened' must be given turns"):
        reported("tree", lambda task: dataclasses.replace(made(task), turns=None, released=unread()), check=check)


@pytest.mark.parametrize("check", [False, True])
def test_a_claim_that_the_attack_is_not_for_is_refused_before_a_step(check):
    made, claim = trainer(config("tree")), Repeat(Laplace(noise_multiplier=1.0), 24)

    def told(task):
        return dataclasses.replace(made(task), released=unread())

    with pytest.raises(UnsupportedProcess, match="must be a MatrixMechanism or a Tree for noise to be whitened"):
        reported("tree", told, claim=claim, refuter=None, check=check)


@pytest.mark.parametrize("steps", [1, 3, 8, 12, 23, 24])
@EVERY
def test_the_first_steps_are_described_as_a_run_that_ends_there(name, steps):
    ended = dataclasses.replace(config(name), steps=steps, noise=config(name).noise.of_first(steps))
    assert CorrelatedRun.of(config(name).process()).first(steps) == ended.process()


def test_the_jaws_along_a_run_are_claim_and_evidence_of_runs_that_ended_there():
    jaws = reported("tree", config("tree")).pictures.jaws
    assert jaws.steps == (3, 6, 9, 12, 15, 18, 21, 24) and max(jaws.evidence) > 0
    for steps, claimed, shown in zip(jaws.steps, jaws.claimed, jaws.evidence, strict=True):
        if steps in (6, 18):
            short = dataclasses.replace(config("tree"), steps=steps)
            ended = reported("tree", short, claim=short.process())
            assert (claimed, shown) == (ended.claim.upper, ended.evidence.epsilon)
