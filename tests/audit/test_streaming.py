from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from audit import AuditReport, TrainerFault, orthogonal_directions, signed_coordinates  # noqa: E402
from audit.core.e_processes import mu_of  # noqa: E402
from audit.core.gdp_ladder import log_wealth  # noqa: E402
from audit.estimators.anytime_gdp import GDPConfidenceSequence, rejects  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from audit.streaming import StreamingAudit  # noqa: E402
from dpsgd import DPSGD, Checkpoint, Dataset, train  # noqa: E402
from dpsgd.callbacks import STOP  # noqa: E402
from mechanisms import BallsInBins, KeyedSource, Poisson, SystemSource  # noqa: E402
from mechanisms.core.errors import InvalidParameter  # noqa: E402

CONFIG = DPSGD(
    noise_multiplier=1.0,
    max_grad_norm=2.0,
    sampling=Poisson(probability=0.5),
    expected_batch_size=8,
    steps=200,
    learning_rate=0.1,
)
DELTA = 1e-5


def watch(*, count=16, dimension=40, seed=0, **more):
    asked = {
        "canaries": signed_coordinates(canaries=count, dimension=dimension, rng=np.random.default_rng(seed)),
        "config": CONFIG,
        "delta": DELTA,
        "randomness": KeyedSource(seed),
    }
    return StreamingAudit(**(asked | more))


def released(watched, rng, *, noise, steps, rest=0.0, start=0):
    """Another loop than ours: yields what it answers to each release; the records add `rest` times the clip norm."""
    dimension, count, unit = watched.canaries.dimension, len(watched.canaries), CONFIG.max_grad_norm
    placed = watched.prescribed.placed(max_grad_norm=unit, like=torch.zeros(dimension, dtype=torch.float64))
    for step in range(start, start + steps):
        drawn = torch.from_numpy(rng.random(count) < 0.5)
        clipped = torch.from_numpy(rest * unit * rng.standard_t(3, dimension))
        noisy = placed.add_to(clipped, drawn) + torch.from_numpy(noise * unit * rng.normal(size=dimension))
        yield watched(SimpleNamespace(step=step, weights_before=torch.zeros(dimension), noisy_sum=noisy))


def silent(update):
    """A sequence that only listens."""
    return SimpleNamespace(update=update, looks=0, epsilon=0.0, wealth_against=lambda epsilon: None)


def looks(watched, rng, **run):
    """The scores and coins that the audit's sequence is shown."""
    seen = []
    watched._sequence = silent(lambda score, coin: seen.append((score, coin)))
    list(released(watched, rng, **run))
    return np.array(seen).T


@pytest.mark.parametrize("rest", [0.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_honest_steps_are_refuted_no_more_often_than_said_over_all_looks(rest):
    runs, most, confidence = 60, 240, 0.7
    seen = [
        looks(watch(seed=seed), np.random.default_rng(seed), noise=1.0, steps=40, rest=rest) for seed in range(runs)
    ]
    values, coins = (np.array([one[part][:most] for one in seen]) for part in (0, 1))
    assert values.shape == (runs, most)
    asked = {"values": values, "membership": coins.astype(bool), "delta": DELTA, "confidence": confidence}
    refuted = np.count_nonzero(rejects(**asked, epsilon=watch().claim.upper))
    assert refuted <= (1 - confidence) * runs + 3 * (confidence * (1 - confidence) * runs) ** 0.5
    assert rest or np.count_nonzero(rejects(**asked, epsilon=watch().claim.upper / 8)) > 0.8 * runs


def test_half_the_noise_is_refuted_in_a_few_steps():
    for seed in range(3):
        watched = watch(seed=seed, stop_on_violation=True)
        assert STOP in released(watched, np.random.default_rng(seed), noise=0.5, steps=60)
        assert watched.verdict == "description refuted"
        assert watched.evidence.epsilon > watched.claim.upper and watched.evidence.about == "the claimed family"


def test_noise_that_stops_halfway_is_found_for_coins_never_run_out():
    watched = watch(seed=1, stop_on_violation=True)
    rng = np.random.default_rng(1)
    assert STOP not in released(watched, rng, noise=1.0, steps=40)
    assert STOP in released(watched, rng, noise=0.1, steps=40, start=40)


def test_without_noise_scores_are_the_coins_of_the_canaries_drawn():
    scores, coins = looks(watch(), np.random.default_rng(0), noise=0.0, steps=30)
    assert np.allclose(scores, coins, atol=1e-6)  # clipped a little below C
    assert 150 < len(coins) < 330 and 0.4 < np.mean(coins) < 0.6


def test_every_step_has_coins_of_its_own():
    watched, everyone, tossed = watch(), torch.ones(16, dtype=torch.bool), set()
    for step in range(8):
        tossed.add(tuple(watched._tosses.toss(everyone).tolist()))
        watched(SimpleNamespace(step=step, weights_before=torch.zeros(40), noisy_sum=torch.zeros(40)))
    assert len(tossed) == 8


def test_what_is_expected_of_the_records_is_taken_off():
    with_records = watch(expected_sum=lambda weights: torch.full_like(weights, 3.0))
    add_to = with_records.prescribed.placed(max_grad_norm=2.0, like=torch.zeros(40)).add_to
    seen = []
    with_records._sequence = silent(lambda score, coin: seen.append((score, float(coin))))
    noisy = add_to(torch.full((40,), 3.0), torch.ones(16, dtype=torch.bool))
    with_records(SimpleNamespace(step=0, weights_before=torch.zeros(40), noisy_sum=noisy))
    assert len(seen) == 16 and np.allclose(*zip(*seen, strict=True), atol=1e-6)


def trained(
    watched,
    *,
    noise,
    progress=False,
    sampling=CONFIG.sampling,
    callbacks=(),
    before=(),
    randomness=None,
    checkpoint=None,
):
    ran = DPSGD(
        noise_multiplier=noise,
        max_grad_norm=2.0,
        sampling=sampling,
        expected_batch_size=8,
        steps=60,
        learning_rate=0.1,
        steps_per_epoch=2 if isinstance(sampling, BallsInBins) else None,
    )
    data = Dataset(features=torch.linspace(-1, 1, 64).reshape(16, 4), targets=torch.arange(16) % 8)
    return train(
        nn.Linear(4, 8),
        data,
        ran,
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=randomness or KeyedSource(7),
        initialisation_seed=0,
        prescribed=watched.prescribed,
        callbacks=[*before, watched, *callbacks],
        progress=progress,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("sampling", [CONFIG.sampling, pytest.param(BallsInBins(), marks=pytest.mark.slow)])
def test_a_run_with_half_the_noise_is_stopped_and_its_twin_is_not(sampling):
    stopped, twin = watch(stop_on_violation=True), watch(stop_on_violation=True)
    assert trained(stopped, noise=0.5, sampling=sampling).executed < 40
    assert trained(twin, noise=1.0, sampling=sampling).executed == 60
    assert stopped.verdict == "description refuted" and twin.verdict in ("consistent", "none")
    assert twin.looks > 300


def test_a_run_is_stopped_only_if_that_was_asked_for():
    watched = watch()
    assert trained(watched, noise=0.5).executed == 60
    assert watched.verdict == "description refuted"


def killed(path, *, every, step=4):
    """What the first part of a run shows that is kept every so many steps, and ends before step `step` is kept."""
    shown = []

    def end(release):
        shown.append(release)
        if release.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(
            watch(randomness=SystemSource()),
            noise=1.0,
            callbacks=[end],
            randomness=SystemSource(),
            checkpoint=Checkpoint(path=path, every=every),
        )
    return shown


def test_no_two_sums_of_the_records_at_other_weights_are_shown_under_one_noise(tmp_path):
    """Else their difference is bare: whoever sees both parts must see no step twice but at the same weights."""
    path = tmp_path / "run"
    with pytest.raises(InvalidParameter, match="checkpoint must have every=1 with prescribed gradients"):
        killed(path, every=5)
    first, second = killed(path, every=1), []
    resumed = watch(randomness=SystemSource())

    def seen(release):
        second.append(release)
        return STOP if release.step == 7 else None

    trained(
        resumed,
        noise=1.0,
        callbacks=[seen],
        randomness=SystemSource(),
        checkpoint=Checkpoint(path=path, every=1),
    )
    assert [release.step for release in second] == [4, 5, 6, 7] and resumed.looks > 8
    assert torch.equal(first[-1].weights_before, second[0].weights_before)
    difference = (first[-1].noisy_sum - second[0].noisy_sum).abs()
    elsewhere = np.setdiff1d(np.arange(40), resumed.canaries.coordinates)
    assert difference[elsewhere].max() == 0  # the canaries differ, which are public


def test_the_coins_of_a_run_that_goes_on_are_not_those_that_were_told(tmp_path):
    path = tmp_path / "run"
    killed(path, every=1)
    with pytest.raises(InvalidParameter, match="randomness must be a SystemSource where a run goes on"):
        trained(watch(), noise=1.0, randomness=SystemSource(), checkpoint=Checkpoint(path=path, every=1))


def raising_at(step, shown):
    def call(release):
        shown.append(release)
        if release.step == step:
            raise ValueError("record 17 is 3.5")

    return call


@pytest.mark.parametrize("first", [False, True])
def test_a_callback_that_raises_ends_the_run_and_leaves_what_was_seen(first, tmp_path):
    """The same whether it stands before the audit, which then never sees the last step, or behind."""
    run = {"noise": 1.0, "randomness": SystemSource(), "checkpoint": Checkpoint(path=tmp_path / "run", every=1)}
    shown, again, watched = [], [], watch(randomness=SystemSource())
    raising = {"before" if first else "callbacks": [raising_at(5, shown)]}
    with pytest.raises(ValueError, match="record 17"):
        trained(watched, **run, **raising)
    report = watched.report()
    assert report.pictures.jaws.steps == tuple(range(1, 6 if first else 7))
    assert (report.evidence.epsilon, report.verdict) == (watched.epsilon, watched.verdict)
    assert not report.faults and "record 17" not in report.to_json()
    with pytest.raises(InvalidParameter, match="every release must be shown" if first else "must be 6, which follows"):
        trained(watched, **run, callbacks=[again.append])
    assert watched.looks == report.evidence.design.looks
    other = watch(randomness=SystemSource())
    assert trained(other, **run, callbacks=[again.append]).executed == 60 and other.looks > 200
    (repeated,) = (release for release in again[-55:] if release.step == 5)
    assert torch.equal(repeated.weights_before, shown[-1].weights_before)


def test_the_bound_stands_under_the_steps(capsys):
    watched = watch()
    trained(watched, noise=1.0, progress=True)
    lines = capsys.readouterr().err.splitlines()
    steps = [number for number, line in enumerate(lines) if line.startswith("private steps")]
    assert steps and all(lines[number + 1].startswith("audit of one step: epsilon >= ") for number in steps)
    assert lines[-1] == watched.shown


def test_both_jaws_and_the_wealth_are_those_of_the_looks(monkeypatch):
    watched, seen = watch(stop_on_violation=True), []
    update = GDPConfidenceSequence.update

    def noted(self, score, coin):
        seen.append((score, coin))
        return update(self, score, coin)

    monkeypatch.setattr(GDPConfidenceSequence, "update", noted)
    bounds = []
    for _ in released(watched, np.random.default_rng(0), noise=0.6, steps=30):
        bounds.append(watched.epsilon)
    report = watched.report()
    jaws, wealth = report.pictures.jaws, report.pictures.wealth
    assert (jaws.steps, jaws.evidence) == (tuple(range(1, 31)), tuple(bounds))
    assert set(jaws.claimed) == {watched.claim.upper} and jaws.evidence[-1] == report.evidence.epsilon
    values, coins = np.array([score for score, _ in seen]), np.array([coin for _, coin in seen])
    assert wealth.epsilon >= watched.claim.upper and wealth.looks[-1] == len(values) == report.evidence.design.looks
    paid = log_wealth(values - 0.5, coins, mu=mu_of(wealth.epsilon, DELTA))
    np.testing.assert_allclose(wealth.log_wealth, paid[np.array(wealth.looks) - 1], rtol=0.05, atol=0.2)
    assert (max(bounds) > watched.claim.upper) == (report.verdict == "description refuted")
    assert AuditReport.from_json(report.to_json()) == report


def test_a_picture_that_fails_does_not_lose_the_report(monkeypatch):
    watched = watch()
    list(released(watched, np.random.default_rng(0), noise=1.0, steps=3))
    monkeypatch.setattr("audit.streaming.stream_pictures", lambda *_, **__: 1 / 0)
    assert watched.report().pictures == Pictures(missing=("stream: ZeroDivisionError",))


def test_before_the_first_look_nothing_is_said():
    watched = watch()
    assert watched.pictures == Pictures()
    assert watched.verdict == "none" and watched.epsilon == 0
    with pytest.raises(InvalidParameter, match="looks must be at least 1"):
        watched.evidence  # noqa: B018


@pytest.mark.parametrize("noisy", [torch.full((40,), float("nan")), torch.zeros(39), torch.zeros(40, 1)])
def test_a_noisy_sum_that_is_none_is_a_fault(noisy):
    watched = watch()
    watched._tosses.toss(torch.ones(16, dtype=torch.bool))
    with pytest.raises(TrainerFault, match=r"not finite, or not of shape \(40,\)"):
        watched(SimpleNamespace(step=0, weights_before=torch.zeros(40), noisy_sum=noisy))


@pytest.mark.parametrize(
    ("expected_sum", "fault"),
    [
        (lambda weights: torch.tensor(3.0), r"expected_sum has shape \(\), not the weights'"),
        (lambda weights: torch.ones(1), r"expected_sum has shape \(1,\), not the weights'"),
        (lambda weights: 1j * weights, "expected_sum is complex"),
        (lambda weights: torch.full_like(weights, torch.nan), "expected_sum has numbers that are not finite"),
        (lambda weights: 1 / 0, "raised ZeroDivisionError in its expected_sum"),
    ],
)
def test_an_expected_sum_that_is_none_is_a_fault(expected_sum, fault):
    watched = watch(expected_sum=expected_sum)
    with pytest.raises(TrainerFault, match=fault):
        list(released(watched, np.random.default_rng(0), noise=1.0, steps=1))


def test_a_run_that_has_but_half_of_the_audit_is_refused():
    watched = watch()
    with pytest.raises(InvalidParameter, match="every release must be of a sum with its canaries"):
        watched(SimpleNamespace(step=0, weights_before=torch.zeros(40), noisy_sum=torch.zeros(40)))
    watched._tosses.toss(torch.ones(16, dtype=torch.bool))
    with pytest.raises(InvalidParameter, match="every release must be shown to the audit"):
        watched._tosses.toss(torch.ones(16, dtype=torch.bool))
    with pytest.raises(InvalidParameter, match="canaries must be of dimension 12"):
        watched.prescribed.check_dimension(12)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"expected_sum": torch.zeros(40)}, "expected_sum must be a function of the weights, or None, got Tensor"),
        ({"delta": 0}, "delta must be above 0"),
        ({"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
        ({"config": replace(CONFIG, noise_multiplier=0.0)}, "config.noise_multiplier must be above 0"),
        (
            {"canaries": orthogonal_directions(canaries=2, dimension=4, rng=np.random.default_rng(0))},
            "canaries must be SignedCoordinates",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused_before_the_run(more, message):
    with pytest.raises(InvalidParameter, match=message):
        watch(**more)
