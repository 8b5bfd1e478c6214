import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import TrainerTask, dpsgd_trainer, signed_coordinates  # noqa: E402
from audit.attack import FinalModel  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.core import expected_sums  # noqa: E402
from audit.core.expected_sums import expected_clipped_sum  # noqa: E402
from audit.core.faults import TrainerRefusal  # noqa: E402
from audit.trainers import with_records  # noqa: E402
from dpsgd import DPSGD, Dataset, count_parameters, mlp, steps  # noqa: E402
from dpsgd.core.noise_laws import MatrixGaussian, RoundedGaussian, TreeGaussian  # noqa: E402
from dpsgd.cyclic import Cyclic, CyclicPoisson  # noqa: E402
from mechanisms import Adjacency, InvalidParameter, KeyedSource, Poisson  # noqa: E402

LOSS = torch.nn.CrossEntropyLoss(reduction="none")


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = mlp(5, (4,), 3)
    data = Dataset(features=torch.rand(30, 5), targets=torch.arange(30) % 3)
    config = DPSGD(
        noise_multiplier=0.5,
        max_grad_norm=0.1,
        sampling=Poisson(probability=0.5),
        expected_batch_size=15,
        steps=4,
        learning_rate=0.5,
    )
    return model, data, config


def weights_of(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def steps_of(observations):
    return [release for release in observations.released if not isinstance(release, FinalModel)]


def releases(trainer, dimension, *, included, key=0):
    canaries = signed_coordinates(canaries=6, dimension=dimension, rng=np.random.default_rng(0))
    task = TrainerTask(canaries=canaries, membership=np.full(6, included), streams=KeyedSource(key))
    return canaries, steps_of(trainer(task))


def test_the_expectation_is_the_clipped_sum_of_every_record_times_the_probability(small):
    model, data, config = small
    expected = expected_clipped_sum(model, data, config, loss=LOSS)(weights_of(model))
    total = torch.zeros_like(expected)
    for features, target in zip(data.features, data.targets, strict=True):
        loss = LOSS(model(features[None]), target[None]).sum()
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])
        total += gradient * min(1.0, config.max_grad_norm / float(gradient.norm()))
    torch.testing.assert_close(expected, 0.5 * total, rtol=1e-4, atol=1e-6)


def test_the_expectation_does_not_depend_on_how_many_rows_fit_at_once(small, monkeypatch):
    model, data, config = small
    whole = expected_clipped_sum(model, data, config, loss=LOSS)(weights_of(model))
    monkeypatch.setattr(expected_sums, "ROWS_AT_ONCE", 7)
    torch.testing.assert_close(expected_clipped_sum(model, data, config, loss=LOSS)(weights_of(model)), whole)


def test_where_users_are_the_unit_the_expectation_is_of_users(small):
    model, data, config = small
    per_user = dataclasses.replace(config, unit="user", examples_per_user=3)
    owned = dataclasses.replace(data, owners=torch.arange(len(data)) % 7)
    expected = expected_clipped_sum(model, owned, per_user, loss=LOSS)(weights_of(model))
    total = torch.zeros_like(expected)
    for user in range(7):
        rows = torch.arange(user, len(data), 7)[:3]
        loss = LOSS(model(data.features[rows]), data.targets[rows]).mean()
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])
        total += gradient * min(1.0, config.max_grad_norm / float(gradient.norm()))
    torch.testing.assert_close(expected, 0.5 * total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("noise", "changes"),
    [
        (RoundedGaussian(), {}),
        (MatrixGaussian(coefficients=(1.0, 0.5)), {"sampling": CyclicPoisson(probability=0.1, groups=2)}),
        (TreeGaussian(), {"sampling": Cyclic(), "steps_per_epoch": 2}),
    ],
)
def test_noise_that_is_not_drawn_anew_as_floats_is_refused_for_white_box_scores(small, noise, changes):
    model, data, config = small
    other = dataclasses.replace(config, noise=noise, **changes)
    with pytest.raises(InvalidParameter, match=r"audit: noise must be IndependentGaussian\(\), got") as refusal:
        expected_clipped_sum(model, data, other, loss=LOSS)
    assert repr(noise) in str(refusal.value)
    if isinstance(other.sampling, Cyclic):  # whose turns are public, so that noise can be whitened
        return
    with pytest.raises(TrainerRefusal, match=r"dpsgd_trainer: noise must be IndependentGaussian\(\), got"):
        releases(dpsgd_trainer(model, data, other, loss=LOSS), count_parameters(model), included=True)


def test_parts_that_are_public_are_refused_for_white_box_scores_and_seen_at_the_end(small):
    model, data, config = small
    cyclic = dataclasses.replace(config, sampling=Cyclic(), steps_per_epoch=2)
    with pytest.raises(InvalidParameter, match=r"audit: sampling must be drawn, got Cyclic\(\): who takes part"):
        expected_clipped_sum(model, data, cyclic, loss=LOSS)
    others = InputCanaries(features=np.zeros((2, 5), dtype=np.float32), targets=np.zeros(2, dtype=np.int64))
    task = input_task([False, True], input_canaries(2, replaced=others), Adjacency.REPLACE_ONE)
    observations = dpsgd_trainer(model, data, cyclic, loss=LOSS)(task)
    assert observations.expected_sum is None and isinstance(list(observations.released)[-1], FinalModel)


def test_asking_for_the_expectation_leaves_the_model_alone(small):
    model, data, config = small
    before = weights_of(model)
    expected_clipped_sum(model, data, config, loss=LOSS)(torch.ones_like(before))
    assert torch.equal(weights_of(model), before)


def test_every_task_starts_from_the_weights_that_the_model_had(small):
    model, data, config = small
    trainer = dpsgd_trainer(model, data, config, loss=LOSS)
    _, first = releases(trainer, count_parameters(model), included=True)
    _, second = releases(trainer, count_parameters(model), included=True)
    assert torch.equal(first[0].weights_before, second[0].weights_before)
    assert torch.equal(first[-1].noisy_sum, second[-1].noisy_sum)
    assert not torch.equal(weights_of(model), first[0].weights_before)


def test_an_included_canary_adds_the_clip_norm_at_its_coordinate_and_nothing_elsewhere(small):
    model, data, config = small
    trainer = dpsgd_trainer(model, data, config, loss=LOSS)
    canaries, without = releases(trainer, count_parameters(model), included=False)
    _, within = releases(trainer, count_parameters(model), included=True)
    difference = (within[0].noisy_sum - without[0].noisy_sum).double().numpy()
    at_canaries = difference[canaries.coordinates] * canaries.signs
    assert set(np.round(at_canaries, 5)) == {0.0, 0.1}
    elsewhere = np.delete(difference, canaries.coordinates)
    np.testing.assert_array_equal(elsewhere, 0.0)


def test_participations_are_what_the_canaries_added_to_a_run_without_noise(small):
    model, data, config = small
    still = dataclasses.replace(config, noise_multiplier=0.0, steps=9, learning_rate=1e-9)
    canaries = signed_coordinates(canaries=6, dimension=count_parameters(model), rng=np.random.default_rng(0))

    def seen(membership):
        streams = KeyedSource(0)
        streams.reserve("runs", 3)  # so that the run does not begin where streams do
        task = TrainerTask(canaries=canaries, membership=membership, streams=streams)
        observations = dpsgd_trainer(model, data, still, loss=LOSS)(task)
        total = sum(release.noisy_sum.double().numpy() for release in steps_of(observations))
        return total[canaries.coordinates] * canaries.signs / config.max_grad_norm, observations.participations()

    some = np.arange(6) < 4
    (within, counts), (without, none) = seen(some), seen(np.zeros(6, dtype=bool))
    np.testing.assert_allclose(within - without, counts, atol=1e-3)
    assert counts[:4].min() > 0 and counts.max() < 9 and not counts[4:].any() and not none.any()


def test_participations_are_refused_before_the_run(small):
    model, data, config = small
    canaries = signed_coordinates(canaries=6, dimension=count_parameters(model), rng=np.random.default_rng(0))
    task = TrainerTask(canaries=canaries, membership=np.ones(6, dtype=bool), streams=KeyedSource(0))
    with pytest.raises(InvalidParameter, match="must be asked for after the run"):
        dpsgd_trainer(model, data, config, loss=LOSS)(task).participations()


def input_canaries(count, *, replaced=None):
    rng = np.random.default_rng(1)
    return InputCanaries(
        features=rng.random((count, 5), dtype=np.float32), targets=np.arange(count) % 3, replaced=replaced
    )


def input_task(membership, canaries, adjacency=Adjacency.ADD_REMOVE):
    membership = np.array(membership)
    return TrainerTask(canaries=canaries, membership=membership, streams=KeyedSource(0), adjacency=adjacency)


def test_input_canaries_train_as_records_appended_to_the_dataset(small):
    model, data, config = small
    canaries = input_canaries(3)
    together = with_records(data, canaries, np.ones(3, dtype=bool))
    alone = list(steps(copy.deepcopy(model), together, config, loss=LOSS, randomness=KeyedSource(0)))
    released = steps_of(dpsgd_trainer(model, data, config, loss=LOSS)(input_task([True] * 3, canaries)))
    assert len(together) == 33
    assert all(torch.equal(ours.noisy_sum, theirs.noisy_sum) for ours, theirs in zip(released, alone, strict=True))


def test_an_input_canarys_coin_moves_no_other_records_part(small):
    """Without noise, at weights that do not move: the sums differ by the first canary's own clipped gradient."""
    model, data, config = small
    still = dataclasses.replace(config, noise_multiplier=0.0, learning_rate=1e-9, steps=9)
    canaries, trainer = input_canaries(3), dpsgd_trainer(model, data, still, loss=LOSS)
    worlds = [steps_of(trainer(input_task([first, False, True], canaries))) for first in (True, False)]
    differences = [(ours.noisy_sum - theirs.noisy_sum).norm() for ours, theirs in zip(*worlds, strict=True)]
    taken = [difference > 0.05 for difference in differences]
    assert 0 < sum(taken) < 9
    assert max(differences) <= config.max_grad_norm * (1 + 1e-5)
    assert all(took or difference < 1e-6 for took, difference in zip(taken, differences, strict=True))


def test_a_canary_that_is_out_leaves_the_record_that_it_replaces(small):
    model, data, config = small
    others = InputCanaries(features=np.zeros((2, 5), dtype=np.float32), targets=np.zeros(2, dtype=np.int64))
    canaries = input_canaries(2, replaced=others)
    assert canaries.adjacencies == (Adjacency.REPLACE_ONE,)
    found = with_records(data, canaries, np.array([False, True]))
    assert torch.equal(found.features[30], torch.zeros(5)) and len(found) == 32
    assert torch.equal(found.features[31], torch.tensor(canaries.features[1]))
    task = input_task([False, True], canaries, Adjacency.REPLACE_ONE)
    assert len(steps_of(dpsgd_trainer(model, data, config, loss=LOSS)(task))) == 4


def test_the_final_model_answers_as_the_trained_one_does_whatever_becomes_of_it(small):
    model, data, config = small
    *_, final = dpsgd_trainer(model, data, config, loss=LOSS)(input_task([True], input_canaries(1))).released
    expected = model(data.features).detach().numpy().copy()
    with torch.no_grad():
        next(iter(model.parameters())).zero_()
    np.testing.assert_array_equal(final.outputs(data.features.numpy()), expected)
    losses = LOSS(torch.tensor(expected), data.targets).double().numpy()
    np.testing.assert_array_equal(final.losses(data.features.numpy(), data.targets.numpy()), losses)
    assert final.weights.shape == (count_parameters(model),)


def test_input_canaries_of_another_shape_or_beside_owners_are_refused(small):
    model, data, config = small
    wide = InputCanaries(features=np.zeros((2, 6), dtype=np.float32), targets=np.zeros(2, dtype=np.int64))
    with pytest.raises(TrainerRefusal, match=r"features of input canaries must have the shape \(5,\)"):
        dpsgd_trainer(model, data, config, loss=LOSS)(input_task([True, True], wide))
    owned = dataclasses.replace(data, owners=torch.arange(30))
    by_user = dataclasses.replace(config, unit="user", examples_per_user=1)
    with pytest.raises(TrainerRefusal, match="dataset must be without owners for input canaries"):
        dpsgd_trainer(model, owned, by_user, loss=LOSS)(input_task([True], input_canaries(1)))
