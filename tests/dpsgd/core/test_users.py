"""Users as units: what one user moves, whatever the user owns."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from accountant import compute_epsilon
from dpsgd import DPSGD, Dataset, PrescribedGradients, mlp, steps, train
from dpsgd.core.parameters import trainable
from dpsgd.core.users import holdings_of
from mechanisms import FixedSize, InvalidParameter, KeyedSource, Poisson, Shuffled
from mechanisms.core.per_user import PerUser
from tests.dpsgd.schemes import CYCLIC, EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
TINY_RATE = 1e-30  # leaves float32 weights where they are, so that every step is taken at the same ones
MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}
OWNERS = [7, -3, 7, 7, 10**15, -3, 7, 0, 7, 0, 7, 7]  # users of 7, 2, 1 and 2 rows
LAST = 10**16  # whose number follows all others


def _data(owners, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = len(owners)
    return Dataset(
        features=3 * torch.randn(n, 5, generator=generator),
        targets=torch.randint(3, (n,), generator=generator),
        owners=torch.tensor(owners, dtype=torch.int64),
    )


def _only(data, chosen):
    parts = {field.name: getattr(data, field.name)[chosen] for field in dataclasses.fields(data)}
    return Dataset(**parts)


def _records(data):
    return Dataset(features=data.features, targets=data.targets)


@pytest.fixture
def per_user(config):
    return dataclasses.replace(config, steps=8, unit="user", examples_per_user=4)


def _run(data, config, make=MODELS["book-keeping"], key="users", **others):
    torch.manual_seed(0)
    return list(steps(make(), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(key), **others))


def _moves(without, with_):
    return torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(without, with_, strict=True)]).norm(dim=1)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("most", [1, 4, 50])
def test_all_that_a_user_owns_moves_every_sum_by_at_most_the_bound(per_user, make, most):
    still = dataclasses.replace(per_user, learning_rate=TINY_RATE, max_grad_norm=0.7, examples_per_user=most)
    data = _data([*OWNERS, *[LAST] * 20])
    runs = (_run(part, still, make) for part in (_only(data, data.owners != LAST), data))
    moves = _moves(*runs)
    assert moves.max() <= 0.7 * (1 + 1e-5)
    assert {bool(move > 0.1) for move in moves} == {True, False}
    assert all(move < 1e-6 or move > 0.1 for move in moves)


def test_the_same_rows_move_more_than_the_bound_where_records_are_the_unit(config):
    still = dataclasses.replace(config, steps=2, learning_rate=TINY_RATE, max_grad_norm=0.7)
    data = _data([*OWNERS, *[LAST] * 20])
    moves = _moves(*(_run(_records(part), still) for part in (_only(data, data.owners != LAST), data)))
    assert moves.max() > 2 * 0.7


@pytest.mark.thinned(3)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_users_of_one_example_are_records_bit_for_bit(name, make):
    config = EVERY_SCHEME[name]
    per_user = dataclasses.replace(config, unit="user", examples_per_user=3)
    data = _data([-2, 0, 1, 4, 8, 9, 10**12])
    users, records = _run(data, per_user, make), _run(_records(data), config, make)
    for a, b in zip(users, records, strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum) and torch.equal(a.weights_before, b.weights_before)


def _by_hand(model, data, most, max_grad_norm):
    """The clipped sum over all users in float64, by one backward pass a user."""
    parameters = list(trainable(model).values())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters)).double()
    for owner in data.owners.unique():
        rows = (data.owners == owner).nonzero()[:most, 0]
        loss = CROSS_ENTROPY(model(data.features[rows]), data.targets[rows]).mean()
        gradient = torch.cat([piece.flatten() for piece in torch.autograd.grad(loss, parameters)]).double()
        total += gradient * min(1.0, max_grad_norm / float(gradient.norm()))
    return total


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("most", "largest"), [(1, None), (3, None), (3, 3), (50, None), (50, 50)])
def test_a_users_gradient_is_that_of_the_mean_loss_of_its_first_examples(per_user, make, most, largest):
    data = _data(OWNERS)
    exact = dataclasses.replace(
        per_user, noise_multiplier=0, sampling=Poisson(probability=1), steps=1, examples_per_user=most
    )
    [release] = _run(data, exact, make, largest_physical_batch=largest)
    torch.manual_seed(0)
    expected = _by_hand(make(), data, most, 1.0)
    assert (release.noisy_sum.double() - expected).norm() <= 1e-5 * expected.norm()


def test_the_order_of_a_users_rows_makes_no_difference(per_user):
    data, most = _data(OWNERS), dataclasses.replace(per_user, examples_per_user=50)
    order = torch.tensor([8, 1, 2, 11, 4, 5, 0, 7, 3, 9, 6, 10])  # of user 7's rows alone
    for a, b in zip(_run(data, most), _run(_only(data, order), most), strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum, rtol=0, atol=1e-5)


def test_ids_serve_for_nothing_but_their_order(per_user):
    data = _data(OWNERS)
    renamed = dataclasses.replace(data, owners=torch.tensor([5 * owner + 3 for owner in OWNERS]))
    for a, b in zip(_run(data, per_user), _run(renamed, per_user), strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum)


@pytest.mark.parametrize("name", [*EVERY_SCHEME, *CYCLIC])
def test_where_rows_stand_and_how_many_a_user_owns_moves_no_other_user(name):
    """Of seven users the first gives away rows until its own come last: its gradient alone may change a step."""
    config = dataclasses.replace(
        {**EVERY_SCHEME, **CYCLIC}[name], learning_rate=TINY_RATE, unit="user", examples_per_user=2
    )
    data = _data([0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6])
    order = torch.tensor([8, 1, 13, 6, 10, 2, 9, 3, 12, 5, 11, 4, 7])  # all of user 0 but its last row are gone
    most = 2 * max(1, getattr(config.sampling, "batch_size", 1) if name == "WithReplacement" else 1)
    moves = _moves(_run(data, config), _run(_only(data, order), config))
    assert moves.max() <= most * (1 + 1e-5)
    twice = _only(data, torch.cat([order[:-1], torch.tensor([0, 7])]))  # and here nobody's rows are: they only stand
    torch.testing.assert_close(  # elsewhere
        torch.stack([release.noisy_sum for release in _run(twice, config)]),
        torch.stack([release.noisy_sum for release in _run(data, config)]),
        rtol=0,
        atol=1e-5,
    )


def test_rows_beyond_the_bound_make_no_difference(per_user):
    data = _data(OWNERS)
    kept = _only(data, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 9]))  # user 7's fifth row and the later ones left out
    for a, b in zip(_run(data, per_user), _run(kept, per_user), strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum, rtol=0, atol=1e-5)


@pytest.mark.parametrize("owners", [[], [3], [3] * 9])
def test_no_user_and_one_user_train_on(per_user, owners):
    releases = _run(_data(owners), per_user)
    assert len(releases) == 8
    assert all(torch.isfinite(release.noisy_sum).all() for release in releases)


def test_a_row_that_is_not_finite_takes_its_user_out_and_stops_nothing(per_user):
    data = _data([*OWNERS, LAST, LAST])
    data.features[12] = float("nan")
    for a, b in zip(_run(_only(data, data.owners != LAST), per_user), _run(data, per_user), strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum)


def test_a_prescribed_user_changes_its_coordinate_alone(per_user):
    still = dataclasses.replace(per_user, learning_rate=TINY_RATE)
    runs = (
        _run(
            _data(OWNERS),
            still,
            prescribed=PrescribedGradients(
                coordinates=torch.tensor([2]), values=torch.tensor([-2.0]), included=torch.tensor([included])
            ),
        )
        for included in (False, True)
    )
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(*runs, strict=True)])
    assert not moves[:, torch.arange(moves.shape[1]) != 2].any()
    assert set(moves[:, 2].round().tolist()) == {0.0, -1.0}


def test_the_unit_is_in_the_process_and_the_result(per_user, config):
    result = train(
        mlp(5, (), 3), _data(OWNERS), per_user, loss=CROSS_ENTROPY, randomness=KeyedSource(0), initialisation_seed=0
    )
    assert result.process == per_user.process() == PerUser(config.process_after(8))
    assert result.unit == "user"
    assert result.epsilon(delta=1e-5) == compute_epsilon(config.process_after(8), delta=1e-5)


@pytest.mark.parametrize(
    ("unit", "owners", "text"),
    [
        ("user", None, r"dataset must have owners where config.unit is 'user', and has none(.|\n)*owners="),
        ("record", OWNERS, r"config.unit must be 'user' for a dataset with owners, got 'record'(.|\n)*without owners"),
    ],
)
def test_a_dataset_about_another_unit_is_refused(config, unit, owners, text):
    chosen = dataclasses.replace(config, unit=unit, examples_per_user=3 if unit == "user" else None)
    data = _data(OWNERS) if owners else _records(_data(OWNERS))
    with pytest.raises(InvalidParameter, match=text):
        _run(data, chosen)


@pytest.mark.parametrize("sampling", [FixedSize(batch_size=3, records=12), Shuffled()])
def test_the_number_that_schemes_are_about_is_of_users(sampling):
    of_12_rows = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=sampling,
        expected_batch_size=3,
        steps=4,
        learning_rate=0.1,
        steps_per_epoch=4 if isinstance(sampling, Shuffled) else None,
        unit="user",
        examples_per_user=5,
    )
    with pytest.raises(InvalidParameter, match=r"steps: dataset must hold (as many|at least 12) users"):
        _run(_data(OWNERS), of_12_rows)
    assert len(_run(_data(list(range(12))), of_12_rows)) == 4


def test_a_user_must_fit_the_physical_batch(per_user):
    with pytest.raises(InvalidParameter, match="largest_physical_batch must be at least 4, the rows of one unit"):
        _run(_data(OWNERS), per_user, largest_physical_batch=3)


@pytest.mark.parametrize(
    ("owners", "text"),
    [
        (torch.zeros(3), r"owners must be an int64 tensor .*, got torch.float32 of 1 dim"),
        (torch.zeros(3, 1, dtype=torch.int64), "owners must be an int64 tensor .*, got torch.int64 of 2 dim"),
        ([0, 1, 2], "owners must be an int64 tensor .*, got list"),
        (torch.zeros(2, dtype=torch.int64), "owners must have one entry for each record, and has more or fewer"),
    ],
)
def test_owners_are_one_number_a_record(owners, text):
    with pytest.raises(InvalidParameter, match=f"Dataset: {text}"):
        Dataset(features=torch.zeros(3, 5), targets=torch.zeros(3), owners=owners)


@given(st.lists(st.integers(-3, 3), max_size=20), st.integers(1, 5), st.data())
def test_a_rectangle_holds_the_first_rows_of_each_user_and_weighs_them_alike(owners, most, data):
    holdings = holdings_of(torch.tensor(owners, dtype=torch.int64), examples_per_user=most)
    in_order = sorted(set(owners))
    assert len(holdings) == len(in_order)
    if not owners:
        return
    users = np.array(data.draw(st.lists(st.integers(0, len(in_order) - 1), min_size=1)))
    rows, shares = holdings.rectangle(users)
    for user, its_rows, its_shares in zip(users, rows, shares.numpy(), strict=True):
        expected = [row for row, owner in enumerate(owners) if owner == in_order[user]][:most]
        assert its_rows[its_shares > 0].tolist() == expected
        assert np.allclose(its_shares[its_shares > 0], 1 / len(expected))
        assert set(its_rows) == set(expected)
