"""Trainers that hand back what is ill-formed, or lay hands on what they were given: named, and never judged."""

import dataclasses
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import GuessExtremes, InputCanaries, Observations, Threshold, audit, signed_coordinates  # noqa: E402
from audit.attack import FinalModel  # noqa: E402
from audit.attacks.final_weights import WeightProjection  # noqa: E402
from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.attacks.loss import LossThreshold  # noqa: E402
from audit.core.rows import facts  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from mechanisms import Gaussian, KeyedSource, MatrixMechanism, Poisson, Repeat, Sampled  # noqa: E402
from mechanisms.core.randomness import normals  # noqa: E402

DIMENSION, STEPS, SIGMA = 60, 3, 2.0
CLAIM = Repeat(Sampled(Gaussian(noise_multiplier=SIGMA), Poisson(probability=1.0)), STEPS)


@pytest.fixture(autouse=True)
def only_the_claim(monkeypatch):
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, **__: Pictures())
    monkeypatch.setattr("audit.harness.looked_at", lambda *_: ())


def report_on(trainer, **more):
    asked = {
        "claim": CLAIM,
        "delta": 1e-5,
        "canaries": signed_coordinates(canaries=DIMENSION, dimension=DIMENSION, rng=np.random.default_rng(0)),
        "guessing_rule": GuessExtremes(included=20, excluded=20),
        "randomness": KeyedSource(0),
    }
    return audit(trainer, **(asked | more))


def released(task, **changes):
    """Yield the steps of a faithful run, each with something else instead."""
    for number in range(STEPS):
        noise = normals(task.streams, "noise", DIMENSION * number, DIMENSION)
        noisy = torch.tensor(task.canaries.total(task.membership) + SIGMA * noise)
        made = {"step": number, "weights_before": torch.zeros(DIMENSION), "noisy_sum": noisy}
        yield SimpleNamespace(**made | {name: make(made) for name, make in changes.items()})


def trainer_with(known=None, **changes):
    def trainer(task):
        given = {"max_grad_norm": 1.0, "expected_sum": torch.zeros_like} | (known or {})
        return Observations(released=released(task, **changes), **given)

    return trainer


@pytest.mark.parametrize("check", [False, True])
def test_a_faithful_trainer_is_at_no_fault(check):
    assert report_on(trainer_with(), check=check).faults == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"noisy_sum": lambda made: made["noisy_sum"].to(torch.complex64)}, "noisy_sum of torch.complex64, no dense"),
        ({"noisy_sum": lambda made: made["noisy_sum"] > 0}, "noisy_sum of torch.bool, no dense tensor of real numbers"),
        ({"noisy_sum": lambda made: made["noisy_sum"].to_sparse()}, "no dense tensor"),
        ({"noisy_sum": lambda made: made["noisy_sum"].numpy()}, "noisy_sum is ndarray, no tensor"),
        ({"noisy_sum": lambda made: np.array(["a"] * DIMENSION)}, "noisy_sum is ndarray, no tensor"),
        ({"weights_before": lambda made: torch.zeros(DIMENSION + 1)}, r"weights_before of shape \(61,\)"),
        ({"step": lambda made: 0}, "a step of another number where step 1 is due"),
        ({"step": lambda made: STEPS - 1 - made["step"]}, "a step of another number where step 0 is due"),
        ({"step": lambda made: None}, "a step of another number where step 0 is due"),
        ({"step": lambda made: np.arange(3)}, "raised ValueError in showing a step"),
    ],
)
def test_a_step_that_is_none_is_named(changes, fault):
    report = report_on(trainer_with(**changes))
    assert report.verdict == "none" and re.search(fault, report.faults[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"noisy_sum": lambda made: made["noisy_sum"].clone().requires_grad_()},
        {"weights_before": lambda made: made["weights_before"].clone().requires_grad_()},
        {"noisy_sum": lambda made: made["noisy_sum"].to(torch.bfloat16)},
        {"noisy_sum": lambda made: made["noisy_sum"].round().to(torch.int64)},
        {"step": lambda made: np.int64(made["step"])},
    ],
    ids=["gradients of sums", "gradients of weights", "half precision", "whole numbers", "numpy number"],
)
def test_a_step_in_another_form_is_a_step(changes):
    assert report_on(trainer_with(**changes), check=True).faults == ()


@pytest.mark.parametrize("bound", [np.nan, np.inf, 0.0, -1.0, "1", True, np.ones(3)])
def test_a_bound_that_is_none_is_named(bound):
    report = report_on(trainer_with({"max_grad_norm": bound}))
    assert report.faults == ("the trainer's max_grad_norm is no finite number above 0",)


@pytest.mark.parametrize(
    ("known", "fault"),
    [
        ({"expected_sum": lambda weights: weights.to(torch.complex64)}, "the trainer's expected_sum is complex"),
        ({"expected_sum": lambda weights: weights.numpy()}, "raised AttributeError in its expected_sum"),
        ({"participations": lambda: [[1], [1, 2]]}, "raised ValueError in its participations"),
        ({"participations": lambda: None}, "revealed participations that do not fit the coins"),
    ],
)
def test_knowledge_that_is_none_is_named(known, fault):
    report = report_on(trainer_with(known))
    assert report.verdict == "none" and fault in report.faults[0]


def test_an_expected_sum_with_gradients_is_one():
    known = {"expected_sum": lambda weights: torch.zeros(DIMENSION, requires_grad=True)}
    assert report_on(trainer_with(known)).faults == ()


def test_a_trainer_that_ends_the_process_ends_its_run_alone():
    def leaving(task):
        raise SystemExit(3)

    def leaving_later(task):
        return dataclasses.replace(trainer_with()(task), released=lambda observe: leaving(task))

    assert report_on(leaving).faults == ("the trainer raised SystemExit in setting up",)
    assert report_on(leaving_later).faults == ("the trainer raised SystemExit in training",)


@pytest.mark.parametrize(
    "told",
    [
        lambda total, members: {"expected_sum": lambda weights: total},
        lambda total, members: {"max_grad_norm": 1.0 + members},
        lambda total, members: {"known": SimpleNamespace(features=total, targets=total)},
    ],
    ids=["expected sum", "bound", "known records"],
)
def test_the_check_names_knowledge_that_is_made_of_the_coins(told):
    """Such as an expected sum of all that is trained on, canaries that are in among them: it hides any loss."""

    def telling(task):
        members = int(task.membership.sum())
        return trainer_with(told(torch.tensor(task.canaries.total(task.membership)), members))(task)

    report = report_on(telling, check=True)
    assert report.faults == ("the trainer's max_grad_norm, expected_sum, turns or known records depend on the coins",)


def test_the_check_asks_what_is_known_of_every_step_where_turns_are_public():
    """A sum that is of the coins from the second step on hides any loss, or refutes what is honest."""
    claim = MatrixMechanism(
        noise_multiplier=SIGMA, coefficients=(1.0,), steps=STEPS, participations=STEPS, separation=1
    )

    def telling(task):
        members = torch.tensor(task.canaries.total(task.membership))
        known = {
            "turns": lambda step: np.ones(DIMENSION, dtype=np.bool_),
            "expected_sum": lambda weights, *, step: members if coined and step == STEPS - 1 else 0 * weights.double(),
        }
        return trainer_with(known)(task)

    asked = {"claim": claim, "attack": "whitened", "adjacency": "zero_out", "check": True}
    for coined in (False, True):
        report = report_on(telling, **asked)
        told = ("the trainer's max_grad_norm, expected_sum, turns or known records depend on the coins",)
        assert report.faults == (told if coined else ())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("lazily", [False, True])
def test_a_process_that_the_trainer_forks_makes_no_second_report(lazily):
    first, ended = os.getpid(), []

    def fork():
        child = os.fork()
        if child:
            ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def forking(task):
        lazily or fork()
        return trainer_with(noisy_sum=lambda made: (lazily and fork(), made["noisy_sum"])[1])(task)

    try:
        report = report_on(forking)
    finally:
        if os.getpid() != first:
            os._exit(7)
    assert ended == [1] * (STEPS if lazily else 1) and report.faults == ()


def test_an_interrupt_is_the_users():
    def interrupted(task):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report_on(interrupted)


def test_a_trainer_cannot_change_the_coins_that_judge_it():
    """It ignores the coins, says of every second canary that it was in, and shows these without noise."""

    def writing(task):
        task.membership[:] = np.arange(DIMENSION) % 2 == 0
        return trainer_with(noisy_sum=lambda made: torch.tensor(task.canaries.total(task.membership)))(task)

    def writing_underneath(task):
        torch.from_numpy(np.asarray(task.membership)).copy_(torch.arange(DIMENSION) % 2 == 0)
        return trainer_with(noisy_sum=lambda made: torch.tensor(task.canaries.total(task.membership)))(task)

    assert report_on(writing).faults == ("the trainer raised ValueError in setting up",)
    with pytest.warns(UserWarning, match="not writable"):
        report = report_on(writing_underneath)
    assert report.verdict in ("none", "consistent") and report.evidence.epsilon < 1


def test_a_trainer_that_scales_members_in_place_tells_no_attack_who_they_are():
    """It learns nothing, and only writes on what it was given: numpy's read-only arrays are no matter to torch."""
    drawn = np.random.default_rng(1).normal(size=(DIMENSION, 3))

    def scaling(task):
        features = torch.from_numpy(task.canaries.features)
        for member in np.flatnonzero(task.membership):
            features[member] -= 5.0
        return Observations(released=[FinalModel(outputs=len, losses=lambda features, _: features[:, 0])])

    report = report_on(
        scaling,
        canaries=InputCanaries(features=drawn, targets=np.zeros(DIMENSION, int)),
        attack=LossThreshold(),
        refuter=None,
    )
    assert report.verdict in ("none", "consistent") and report.evidence.epsilon < 1


def rare(task, *, heeds=True):
    """A step that a canary takes part in with probability 1/10."""

    def faithful():
        (word,) = task.streams.words("sample", 0, 1)
        taking_part = task.membership & (word < 2**32 / 10) if heeds else np.zeros(1, dtype=bool)
        noise = SIGMA * normals(task.streams, "noise", 0, 2)[:1]
        noisy = torch.tensor(task.canaries.total(taking_part) + noise)
        yield SimpleNamespace(step=0, weights_before=torch.zeros(1), noisy_sum=noisy)

    return Observations(released=faithful(), max_grad_norm=1.0, expected_sum=torch.zeros_like)


@pytest.mark.parametrize("heeds", [True, False])
def test_the_check_gives_rare_canaries_the_time_to_show(heeds):
    for key in range(3):
        report = report_on(
            lambda task: rare(task, heeds=heeds),
            claim=Sampled(Gaussian(noise_multiplier=SIGMA), Poisson(probability=0.1)),
            canaries=signed_coordinates(canaries=1, dimension=1, rng=np.random.default_rng(0)),
            guessing_rule=Threshold(value=0.0),
            runs=20,
            randomness=KeyedSource(key),
            check=True,
        )
        assert (report.faults == ()) is heeds


class Fixed(GradientProjection):
    """Stays with the bound that it was given."""

    follows_bound = False


@pytest.mark.parametrize(
    ("bound", "attack", "fault"),
    [
        (2.0, GradientProjection(), ()),
        (float("nan"), GradientProjection(), ("the trainer's max_grad_norm is no finite number above 0",)),
        (-1.0, GradientProjection(), ("the trainer's max_grad_norm is no finite number above 0",)),
        (2.0, Fixed(), ("the trainer moved its max_grad_norm, and attack 'test_faults' does not go along with that",)),
    ],
)
def test_a_bound_that_moves_is_followed_or_named(bound, attack, fault):
    def expected_sum(weights, *, max_grad_norm=1.0):
        return torch.zeros_like(weights)

    given = {"expected_sum": expected_sum}
    trainer = trainer_with(known=given, max_grad_norm=lambda made: bound)
    assert report_on(trainer, attack=attack).faults == fault


def test_an_attack_is_handed_no_more_of_a_step_than_it_may_see():
    seen = []

    class Curious(GradientProjection):
        def observe(self, state, release):
            seen.append({name for name in dir(release) if not name.startswith("_")})
            return super().observe(state, release)

    def leaking(task):
        return trainer_with(members=lambda made: task.membership)(task)

    assert report_on(leaking, attack=Curious()).faults == ()
    assert seen == [{"step", "weights_before", "noisy_sum", "max_grad_norm"}] * STEPS


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        (np.zeros(3), r"weights of shape \(3,\), where \(60,\) is due"),
        (np.full(DIMENSION, np.nan), "weights that are not finite"),
        (np.zeros(DIMENSION, dtype=complex), "weights that are no real numbers"),
        (np.array(["a"] * DIMENSION), "weights that are no real numbers"),
        (torch.zeros(DIMENSION, requires_grad=True), "raised RuntimeError in its final model"),
    ],
)
def test_final_weights_that_are_none_are_named(weights, fault):
    def trainer(task):
        return Observations(released=[FinalModel(outputs=len, losses=len, weights=weights)])

    report = report_on(trainer, attack=WeightProjection(initial=np.zeros(DIMENSION)))
    assert report.verdict == "none" and re.search(fault, report.faults[0])
    assert facts(report)[0] == ("fault", report.faults[0])
