"""Audits of trainers that are not ours: other designs, other threat models, and trainers that misbehave."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import AuditReport, Observations, Threshold, audit, signed_coordinates  # noqa: E402
from audit.attack import Attack, FinalModel  # noqa: E402
from audit.canaries import Canaries, InputCanaries  # noqa: E402
from audit.core.faults import TrainerFailure, TrainerRefusal, refusing  # noqa: E402
from audit.core.rows import facts, meaning  # noqa: E402
from audit.scores import GuessExtremes, IndependentRuns, Scores  # noqa: E402
from mechanisms import (  # noqa: E402
    Adjacency,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    MatrixMechanism,
    NumericalFailure,
    Repeat,
    UnsupportedProcess,
)


@pytest.fixture(autouse=True)
def only_the_claim(monkeypatch):
    """Leave out what every accountant says, which takes most of the time and is tested elsewhere."""
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())


SECRET = "record 17 is 3.14159"


@dataclasses.dataclass(frozen=True, slots=True)
class FirstOutput(Attack):
    """Scores a canary by the model's first output on it."""

    threat_model = "black box"
    sees = "final model"
    takes = Canaries

    def start(self, canaries, public):
        return (canaries, public)

    def observe(self, state, release):
        return (*state, release.outputs(state[0].features)[:, 0])

    def finish(self, state):
        _, public, values = state
        return Scores(values=values, design=public.design, guessing_rule=public.guessing_rule)


def records(count):
    return InputCanaries(features=np.arange(float(count))[:, None], targets=np.zeros(count))


def mean_release(noise, *, outputs=None):
    """A mechanism whose only release is a table: one number a canary, 1 if it is in, plus noise from the streams."""

    def trainer(task):
        noises = task.streams.words("noise", 0, len(task.canaries)).astype(np.float64) / 2**32 - 0.5
        table = task.membership + noise * noises
        answer = outputs or (lambda features: table[features[:, 0].astype(int), None])
        return Observations(released=[FinalModel(outputs=answer, losses=lambda features, targets: table)])

    return trainer


def audit_model(trainer, **more):
    asked = {
        "claim": Gaussian(noise_multiplier=1.0),
        "delta": 1e-5,
        "canaries": records(400),
        "guessing_rule": GuessExtremes(included=100, excluded=100),
        "randomness": KeyedSource(0),
        "attack": FirstOutput(),
    }
    return audit(trainer, **(asked | more))


def test_a_final_model_is_audited_by_an_attack_that_sees_nothing_else():
    report = audit_model(mean_release(0.0), claim=Gaussian(noise_multiplier=5.0))
    assert (report.verdict, report.refutation, report.noise_ratio) == ("violated", None, None)
    assert audit_model(mean_release(10.0)).verdict == "consistent"
    assert AuditReport.from_json(report.to_json()) == report


def test_independent_runs_are_audited_by_the_strongest_count(simulated):
    def fresh(task):
        return simulated(noise=5.0, seed=int(task.streams.words("seed", 0, 1)[0]))(task)

    asked = {
        "canaries": signed_coordinates(canaries=1, dimension=1, rng=np.random.default_rng(0)),
        "guessing_rule": Threshold(value=25.0),
        "runs": 60,
        "attack": "gradient",
    }
    claim = simulated_claim(steps=100)
    report = audit_model(fresh, claim=claim, **asked, exploratory=["clopper_pearson", "maximal"])
    assert report.evidence.design == IndependentRuns(runs=60) and report.evidence.method == "calibrated"
    assert [bound.method for bound in report.exploratory] == ["clopper_pearson", "maximal"]
    assert report.refutation is None and report.guesses == 60
    assert report.verdict == "consistent" and report.evidence.epsilon > 0.5


def simulated_claim(steps):
    from mechanisms import Poisson, Repeat, Sampled

    return Repeat(Sampled(Gaussian(noise_multiplier=5.0), Poisson(probability=0.5)), steps)


def test_claim_and_evidence_are_about_the_neighbours_that_a_coin_makes():
    replaced = InputCanaries(features=np.zeros((400, 1)), targets=np.zeros(400))
    canaries = dataclasses.replace(records(400), replaced=replaced)
    report = audit_model(mean_release(10.0), canaries=canaries, adjacency="replace_one")
    assert report.claim.adjacency == report.evidence.adjacency == Adjacency.REPLACE_ONE
    assert report.claim.upper > 1.5 * audit_model(mean_release(10.0)).claim.upper
    with pytest.raises(InvalidParameter, match="adjacency must be 'replace_one' with these InputCanaries"):
        audit_model(mean_release(10.0), canaries=canaries)


def test_an_attack_is_refused_canaries_and_knowledge_that_it_cannot_do_without(auditing):
    with pytest.raises(InvalidParameter, match="attack 'gradient' must have GradientCanaries, got InputCanaries"):
        audit_model(mean_release(1.0), attack="gradient")
    blind = lambda task: Observations(released=[])  # noqa: E731
    with pytest.raises(InvalidParameter, match="must be given max_grad_norm and expected_sum, and is given none"):
        auditing(blind)


def step(dimension=2_000, **changes):
    blank = {"step": 0, "weights_before": torch.zeros(dimension), "noisy_sum": torch.zeros(dimension)}
    return SimpleNamespace(**blank | changes)


def numbered(*released):
    """The releases, each a copy that has its place for its number."""
    return [
        one if isinstance(one, FinalModel) else SimpleNamespace(**vars(one) | {"step": number})
        for number, one in enumerate(released)
    ]


def releasing(*released):
    def trainer(task):
        return Observations(released=numbered(*released), max_grad_norm=1.0, expected_sum=torch.zeros_like)

    return trainer


def raising(task):
    raise ValueError(SECRET)


def raising_in_training(task):
    def released():
        yield step()
        raise ValueError(SECRET)

    return dataclasses.replace(releasing()(task), released=released())


def swallowing(task):
    """A loop that goes on whatever happens inside it."""

    def run(observe):
        for number in range(200):
            try:
                observe(step(step=number))
            except Exception:
                continue

    return dataclasses.replace(releasing()(task), released=run)


def unknowing(task):
    def expected_sum(weights):
        raise KeyError(SECRET)

    return dataclasses.replace(releasing(step())(task), expected_sum=expected_sum)


def miscounting(task):
    every = [step()] * 100
    return dataclasses.replace(releasing(*every)(task), participations=lambda: np.ones(2_000, dtype=np.int64))


@pytest.mark.parametrize(("steps", "check"), [(8, True), (9, False)])
def test_more_steps_than_rounds_are_explained_where_the_claim_may_be_of_rounds(steps, check):
    mechanism = MatrixMechanism(noise_multiplier=5.0, coefficients=(1.0, 0.5), steps=steps)
    asked = {"canaries": signed_coordinates(canaries=40, dimension=60, rng=np.random.default_rng(0)), "check": check}
    asked |= {"guessing_rule": GuessExtremes(included=5, excluded=5), "attack": "gradient"}
    trainer = releasing(*[step(60)] * steps)
    report = audit_model(trainer, claim=mechanism.amplified(probability=0.25), **asked)
    rounds = (steps + 1) // 2
    assert report.verdict == "none" and f"released more than the {rounds} steps claimed; if " in report.faults[0]
    assert "as by CyclicPoisson, the claim is of rounds" in report.faults[0]
    report = audit_model(trainer, claim=Repeat(Gaussian(noise_multiplier=5.0), steps - 1), **asked)
    assert report.faults == (f"the trainer released more than the {steps - 1} steps claimed",)


@pytest.mark.parametrize(
    ("trainer", "fault"),
    [
        (raising, "the trainer raised ValueError in setting up"),
        (raising_in_training, "the trainer raised ValueError in training"),
        (unknowing, "the trainer raised KeyError in its expected_sum"),
        (miscounting, "the trainer revealed participations that do not fit the coins"),
        (lambda task: None, "the trainer handed back NoneType, no Observations"),
        (releasing(), "the trainer released no step"),
        (releasing(*[step()] * 99), "the trainer released 99 of the 100 steps claimed"),
        (releasing(*[step()] * 101), "the trainer released more than the 100 steps claimed"),
        (swallowing, "the trainer released more than the 100 steps claimed"),
        (releasing(step(noisy_sum=torch.zeros(7))), r"noisy_sum of shape \(7,\), where \(2000,\) is due"),
        (releasing(step(noisy_sum=torch.zeros(40, 50))), r"noisy_sum of shape \(40, 50\)"),
        (releasing(step(noisy_sum=torch.full((2_000,), np.nan))), "noisy_sum with numbers that are not finite"),
        (
            releasing(step(weights_before=torch.full((2_000,), np.inf))),
            "weights_before with numbers that are not finite",
        ),
        (releasing(step(noisy_sum=[0.0])), "a step whose noisy_sum is list, no tensor"),
        (releasing(FinalModel(outputs=len, losses=len), step()), "released something after its final model"),
        (
            releasing(step(noisy_sum=torch.full((2_000,), 1e308, dtype=torch.float64)), *[step()] * 99),
            "scores that are not finite",
        ),
    ],
)
def test_what_a_trainer_does_wrong_is_named_and_there_is_no_verdict(trainer, fault, auditing):
    report = auditing(trainer)
    assert (report.verdict, report.evidence.epsilon, report.refutation.epsilon) == ("none", 0.0, 0.0)
    assert len(report.faults) == 1 and re.search(fault, report.faults[0])
    assert SECRET not in report.to_json()
    assert facts(report)[0] == ("fault", report.faults[0])
    assert "the trainer did not do what every trainer must" in meaning(report)
    assert AuditReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        (lambda features: np.full((len(features), 2), np.nan), "final model gave answers that are not finite"),
        (lambda features: np.zeros((3, 1)), "final model gave more or fewer answers than there were records"),
        (lambda features: 1 / 0, "raised ZeroDivisionError in its final model"),
    ],
)
def test_a_model_that_answers_no_numbers_is_named(outputs, fault):
    report = audit_model(mean_release(1.0, outputs=outputs))
    assert report.verdict == "none" and fault in report.faults[0]


def test_a_trainer_without_a_final_model_is_named():
    assert "released no final model" in audit_model(releasing(step())).faults[0]


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (InvalidParameter, TrainerRefusal),
        (UnsupportedProcess, TrainerRefusal),
        (TrainerRefusal, TrainerRefusal),
        (NumericalFailure, TrainerFailure),
        (TrainerFailure, TrainerFailure),
    ],
)
def test_refusals_and_failures_of_an_adapter_are_passed_on(auditing, inside, outside):
    def adapter(task):
        with refusing():
            raise inside("trainer: it cannot do this.")

    with pytest.raises(outside, match="it cannot do this") as caught:
        auditing(adapter)
    assert issubclass(outside, NumericalFailure) == issubclass(inside, NumericalFailure)
    assert type(caught.value) is outside


@pytest.mark.parametrize("kind", [InvalidParameter, UnsupportedProcess, NumericalFailure])
def test_errors_of_the_library_that_a_trainer_raises_by_itself_may_hold_data_and_are_faults(auditing, kind):
    def telling(task):
        raise kind(f"trainer: record 17 is 3.5, and the coins are {task.membership.tolist()}")

    report = auditing(telling)
    assert report.faults == (f"the trainer raised {kind.__name__} in setting up",) and report.verdict == "none"


def test_a_bug_of_an_attack_is_not_blamed_on_the_trainer():
    class Broken(FirstOutput):
        def observe(self, state, release):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        audit_model(mean_release(1.0), attack=Broken())


def test_the_check_finds_trainers_that_ignore_coins_or_streams():
    rng = np.random.default_rng(0)

    def careless(task):
        task = dataclasses.replace(task, membership=np.ones(400, dtype=bool))
        return mean_release(10.0)(task)

    def unseeded(task):
        table = rng.normal(size=(400, 1))
        return Observations(released=[FinalModel(outputs=lambda features: table, losses=lambda *_: table[:, 0])])

    assert "it ignores the coins" in audit_model(careless, check=True).faults[0]
    assert "changed its answer between two runs" in audit_model(unseeded, check=True).faults[0]
    assert audit_model(mean_release(10.0), check=True).faults == ()


def test_the_check_knows_honest_and_coinless_training(simulated, auditing):
    assert auditing(simulated(), check=True).verdict == "consistent"
    assert "it ignores the coins" in auditing(simulated(included=0.0), check=True).faults[0]


def test_a_fault_and_a_verdict_exclude_each_other(honest_report):
    with pytest.raises(InvalidParameter, match="verdict must be 'none' where the trainer is at fault"):
        dataclasses.replace(honest_report, faults=("the trainer raised ValueError",))


def test_every_run_has_streams_of_its_own(simulated):
    seen = []

    def trainer(task):
        seen.append(task.streams.fingerprint())
        return simulated(noise=5.0)(task)

    audit_model(
        trainer,
        claim=simulated_claim(100),
        canaries=signed_coordinates(canaries=1, dimension=1, rng=np.random.default_rng(0)),
        guessing_rule=Threshold(value=25.0),
        runs=12,
        attack="gradient",
    )
    assert len(set(seen)) == len(seen) == 12
