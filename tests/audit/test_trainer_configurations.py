"""What DPSGD can run and canaries isolate: half of the noise shows in every one of them, all of it in none."""

import dataclasses
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import GuessExtremes, audit, dpsgd_trainer, signed_coordinates  # noqa: E402
from audit.attack import TrainerTask  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.core.expected_sums import expected_clipped_sum, mean_participation  # noqa: E402
from audit.directions import directions_across_layers, orthogonal_directions  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from dpsgd import DPSGD, Dataset, count_parameters, mlp, steps  # noqa: E402
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer  # noqa: E402
from dpsgd.models import layer_sizes  # noqa: E402
from dpsgd.optimizers import DPAdam  # noqa: E402
from mechanisms import (  # noqa: E402
    Adjacency,
    BallsInBins,
    FixedSize,
    InvalidParameter,
    KeyedSource,
    Poisson,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
KNOWN, CANARIES, BOUND = 20, 150, 0.3
UNITS = KNOWN + CANARIES
SHARES = {"0": 0.3, "2": 0.7}
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=9.0)


@pytest.fixture(autouse=True)
def verdicts_alone(monkeypatch):
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, **__: Pictures())
    monkeypatch.setattr("audit.harness.looked_at", lambda *_: ())


def trained():
    torch.manual_seed(0)
    data = Dataset(features=torch.rand(KNOWN, 10), targets=torch.arange(KNOWN) % 5)
    return mlp(10, (32,), 5), data


def config_of(**changes):
    given = {
        "noise_multiplier": 1.0,
        "max_grad_norm": BOUND,
        "sampling": Poisson(probability=0.5),
        "expected_batch_size": UNITS / 2,
        "steps": 12,
        "learning_rate": 0.5,
    }
    return DPSGD(**given | changes)


def audited(config, *, noise=1.0, made=None, adjacency="add_remove", seed=1, **more):
    model, data = trained()
    rng = np.random.default_rng(seed)
    canaries = (
        signed_coordinates(canaries=CANARIES, dimension=count_parameters(model), rng=rng)
        if made is None
        else made(model, rng)
    )
    ran = dataclasses.replace(config, noise_multiplier=noise * config.noise_multiplier)
    return audit(
        dpsgd_trainer(model, data, ran, loss=LOSS, **more),
        claim=config.process(),
        delta=1e-5,
        canaries=canaries,
        guessing_rule=GuessExtremes(included=20, excluded=20),
        randomness=KeyedSource(seed),
        adjacency=adjacency,
        confidence=0.99,
    )


def tasked(config, adjacency=Adjacency.ADD_REMOVE):
    model, data = trained()
    canaries = signed_coordinates(canaries=3, dimension=count_parameters(model), rng=np.random.default_rng(0))
    member = np.ones(3, dtype=bool)
    task = TrainerTask(canaries=canaries, membership=member, streams=KeyedSource(0), adjacency=adjacency)
    return dpsgd_trainer(model, data, config, loss=LOSS)(task)


def across(model, rng):
    return directions_across_layers(canaries=CANARIES, layers=layer_sizes(model), shares=SHARES, rng=rng)


def orthogonal(model, rng):
    return orthogonal_directions(canaries=CANARIES, dimension=count_parameters(model), rng=rng)


POISSON = {
    "flat": ({}, {}),
    "flat, directions": ({}, {"made": orthogonal}),
    "layers": ({"clipping": PerLayer(shares=SHARES)}, {"made": across}),
    "automatic": ({"clipping": Automatic(stability=0.5)}, {}),
    "normalised": ({"clipping": Normalised()}, {}),
    "adaptive": ({"clipping": ADAPTIVE}, {}),
    "adaptive, directions": ({"clipping": ADAPTIVE}, {"made": orthogonal}),
    "DP-Adam": ({"learning_rate": 0.01}, {"optimizer": DPAdam}),
    "momentum, schedule": (
        {},
        {"optimizer": functools.partial(lambda p, c: torch.optim.SGD(p, lr=c.learning_rate, momentum=0.9)),
         "schedule": lambda step: 1 / (1 + step)},
    ),
    "zeroed out": ({}, {"adjacency": "zero_out"}),
}  # fmt: skip


DAILY = ("layers", "adaptive")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DAILY else pytest.mark.slow) for name in POISSON]
)
def test_half_of_the_noise_is_refuted_and_all_of_it_is_not(name):
    changes, more = POISSON[name]
    faithful, broken = (audited(config_of(**changes), noise=noise, **more) for noise in (1.0, 0.5))
    assert (faithful.faults, broken.faults) == ((), ())
    assert faithful.verdict == "consistent" and faithful.noise_ratio == pytest.approx(1, abs=0.35)
    assert broken.verdict == "description refuted" and broken.noise_ratio == pytest.approx(0.25, abs=0.09)


def test_where_a_count_costs_much_the_noise_of_the_sum_is_seen_as_what_it_is_to_be(monkeypatch):
    tight = dataclasses.replace(ADAPTIVE, count_noise_multiplier=1.5)
    faithful = audited(config_of(clipping=tight))
    assert faithful.verdict == "consistent" and faithful.noise_ratio == pytest.approx(1, abs=0.2)

    def free_of_charge(model, dataset, config, **given):
        free = dataclasses.replace(ADAPTIVE, count_noise_multiplier=1e6)
        return steps(model, dataset, dataclasses.replace(config, clipping=free), **given)

    monkeypatch.setattr("audit.trainers.steps", free_of_charge)
    broken = audited(config_of(clipping=tight))
    # Its verdict is that of chance: the canaries stand so far below the sum's noise that squares may be ignored.
    assert broken.noise_ratio == pytest.approx(1 - 1 / 1.5**2, abs=0.2)


SAMPLED = {
    "balls in bins": ({"sampling": BallsInBins(), "steps_per_epoch": 3}, "add_remove"),
    "balls in bins, zeroed out": ({"sampling": BallsInBins(), "steps_per_epoch": 3}, "zero_out"),
    "shuffled": (
        {"sampling": Shuffled(), "expected_batch_size": UNITS // 3, "steps_per_epoch": 3}, "zero_out"
    ),
    "fixed size": (
        {"sampling": FixedSize(batch_size=UNITS // 2, records=UNITS), "expected_batch_size": UNITS // 2}, "zero_out"
    ),
    "truncated": (
        {"sampling": TruncatedPoisson(probability=0.5, largest_batch=UNITS * 3 // 5, records=UNITS)}, "zero_out"
    ),
    "truncated, undeclared": (
        {"sampling": TruncatedPoisson(probability=0.5, largest_batch=UNITS * 3 // 5)}, "zero_out"
    ),
    "with replacement": (
        {"sampling": WithReplacement(batch_size=UNITS, records=UNITS), "expected_batch_size": UNITS},
        "zero_out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "fixed size" else pytest.mark.slow) for name in SAMPLED]
)
def test_half_of_the_noise_is_refuted_on_every_kind_of_sample_and_all_of_it_is_not(name):
    """For some ε is known within limits alone, and no bound of the noise's passes the upper one."""
    changes, adjacency = SAMPLED[name]
    config = config_of(**{"steps": 3 if "steps_per_epoch" in changes else 1, "noise_multiplier": 2.0} | changes)
    faithful, broken = (audited(config, noise=noise, adjacency=adjacency) for noise in (1.0, 0.5))
    assert (faithful.faults, broken.faults) == ((), ())
    assert faithful.verdict in ("consistent", "none") and faithful.noise_ratio == pytest.approx(1, abs=0.35)
    assert broken.verdict == "description refuted" and broken.noise_ratio == pytest.approx(0.25, abs=0.09)
    assert broken.refutation.description_refuted and broken.refutation.adjacency.value == adjacency


@pytest.mark.parametrize("name", SAMPLED)
def test_the_sum_subtracted_is_the_average_over_what_the_scheme_draws(name):
    model, data = trained()
    still = config_of(noise_multiplier=0.0, learning_rate=1e-30, **SAMPLED[name][0] | {"steps": 300})
    canaries = signed_coordinates(
        canaries=CANARIES, dimension=count_parameters(model), rng=np.random.default_rng(0)
    ).prescribed(np.zeros(CANARIES, dtype=np.bool_), max_grad_norm=BOUND)
    found = list(steps(model, data, still, loss=LOSS, randomness=KeyedSource(2), prescribed=canaries))
    sums = torch.stack([release.noisy_sum for release in found]).double()
    expected = expected_clipped_sum(model, data, still, loss=LOSS, canaries=CANARIES)(found[0].weights_before)
    errors = sums.std(dim=0) / np.sqrt(len(found)) + 1e-6
    off = ((sums.mean(dim=0) - expected) / errors).abs()
    assert float((off**2).mean()) < 3 and float(expected.norm()) > 2 * float((expected - sums.mean(dim=0)).norm())


def test_a_cut_sample_takes_each_record_less_often_than_its_coin_says():
    cut = config_of(sampling=TruncatedPoisson(probability=0.5, largest_batch=3), expected_batch_size=2)
    counts = {size: mass for size, mass in enumerate((1, 5, 10, 10, 5, 1))}  # of 5 records, in 32 parts
    assert mean_participation(cut, 5) == pytest.approx(sum(min(k, 3) * m for k, m in counts.items()) / 32 / 5)


def test_a_scheme_in_which_one_that_is_out_holds_its_place_is_refused_for_records_more_or_less():
    config = config_of(sampling=FixedSize(batch_size=UNITS // 2, records=UNITS), expected_batch_size=UNITS // 2)
    with pytest.raises(InvalidParameter, match="adjacency must be 'zero_out' for gradient canaries with FixedSize"):
        tasked(config)


def test_canaries_reach_the_bound_in_every_layer_and_share_no_coordinate():
    made = directions_across_layers(
        canaries=3, layers={"a": 4, "b": 3}, shares={"a": 0.36, "b": 0.64}, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(np.linalg.norm(made.vectors[:, :4], axis=1), 0.6, rtol=1e-6)
    np.testing.assert_allclose(made.vectors @ made.vectors.T, np.eye(3), atol=1e-6)
    assert (np.count_nonzero(made.vectors, axis=0) <= 1).all()
    for changes, text in (
        ({"canaries": 4}, "at most the 3 parameters of the smallest layer, got 4"),
        ({"shares": {"a": 1.0}}, "shares must name just the layers"),
    ):
        with pytest.raises(InvalidParameter, match=text):
            directions_across_layers(
                **{"canaries": 2, "layers": {"a": 4, "b": 3}, "rng": np.random.default_rng(0)} | changes
            )


@pytest.mark.parametrize("clipping", [Automatic(stability=1e25), Normalised()])
def test_a_bound_so_large_that_no_gradient_is_long_enough_is_refused(clipping):
    config = config_of(clipping=clipping, max_grad_norm=1.0 if isinstance(clipping, Automatic) else 1e25)
    with pytest.raises(InvalidParameter, match="max_grad_norm and stability must be at most"):
        tasked(config)


@pytest.mark.slow
def test_half_of_the_noise_in_balls_in_bins_violates_the_claim_without_any_assumption():
    torch.manual_seed(0)
    model, data = mlp(20, (330,), 10), Dataset(features=torch.rand(100, 20), targets=torch.arange(100) % 10)
    config = config_of(sampling=BallsInBins(), steps=2, steps_per_epoch=2, noise_multiplier=1.4)
    verdicts = []
    for noise in (1.4, 0.7):
        ran = dataclasses.replace(config, noise_multiplier=noise)
        report = audit(
            dpsgd_trainer(model, data, ran, loss=LOSS),
            claim=config.process(),
            delta=1e-5,
            canaries=signed_coordinates(
                canaries=10_000, dimension=count_parameters(model), rng=np.random.default_rng(0)
            ),
            guessing_rule=GuessExtremes(included=60, excluded=60),
            randomness=KeyedSource(0),
        )
        verdicts.append(report.verdict)
    assert verdicts == ["consistent", "violated"]


def test_where_canaries_are_records_other_clippings_give_no_white_box_scores():
    model, data = trained()
    records = InputCanaries(features=np.ones((3, 10), dtype=np.float32), targets=np.zeros(3, dtype=np.int64))
    task = TrainerTask(canaries=records, membership=np.ones(3, dtype=bool), streams=KeyedSource(0))
    for clipping, told in ((Flat(), True), (Normalised(), False), (ADAPTIVE, False)):
        observations = dpsgd_trainer(model, data, config_of(clipping=clipping), loss=LOSS)(task)
        assert (observations.expected_sum is not None, observations.max_grad_norm is not None) == (told, told)
