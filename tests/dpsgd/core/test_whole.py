import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from dpsgd import Dataset, PrescribedGradients, count_parameters, gradient_sum, mlp, steps
from dpsgd.core.noise_laws import IndependentGaussian, LatticeGaussian, RoundedGaussian
from dpsgd.core.noising import noising
from dpsgd.core.places import Place
from dpsgd.core.whole import WholeSum
from mechanisms import FixedSize, InvalidParameter, KeyedSource, Poisson, SystemSource
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
TINY_RATE = 1e-30
MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}
FULL = Poisson(probability=1.0)
floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


def _fresh(make=MODELS["book-keeping"]):
    torch.manual_seed(0)
    return make()


def _data(records):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _sum_of(make, *, bound=0.7, divisions=2**24):
    clipped = gradient_sum(_fresh(make), example_dimensions=1, loss=CROSS_ENTROPY, max_grad_norm=bound)
    return clipped, WholeSum(clipped_sum=clipped, max_grad_norm=bound, divisions=divisions)


def _norm_is_at_most(whole, divisions):
    return sum(int(k) ** 2 for k in whole) <= divisions**2  # in Python's integers


@settings(deadline=None)
@example(rows=[[3.0, 0.0, 0.0]], bound=1.0, divisions=2**30)  # as close to the bound as whole numbers come
@given(
    rows=st.lists(st.lists(floats, min_size=3, max_size=3), max_size=4),
    bound=st.floats(1e-30, 1e30),
    divisions=st.integers(1, 2**30),
)
def test_whatever_arithmetic_gives_no_record_moves_the_sum_by_more_than_the_divisions(rows, bound, divisions):
    """Of a sum of gradients that were never clipped, or are not finite."""
    whole = WholeSum(clipped_sum=lambda features, _: features.sum(0), max_grad_norm=bound, divisions=divisions)
    features = torch.tensor(rows, dtype=torch.float32).view(-1, 3)
    targets = torch.zeros(len(features))
    alone = [whole(features[i : i + 1], targets[i : i + 1]) for i in range(len(features))]
    assert all(_norm_is_at_most(one, divisions) for one in alone)
    total = whole(features, targets)
    assert total.dtype == torch.int64 and torch.equal(total, sum(alone, torch.zeros(3, dtype=torch.int64)))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_one_record_more_adds_its_own_whole_numbers_and_moves_no_others(make):
    _, whole = _sum_of(make)
    data, longest = _data(9), 0
    for record in range(9):
        others = torch.arange(9) != record
        with_, without = whole(data.features, data.targets), whole(data.features[others], data.targets[others])
        alone = whole(data.features[record : record + 1], data.targets[record : record + 1])
        assert torch.equal(with_ - without, alone) and _norm_is_at_most(alone, 2**24)
        longest = max(longest, int((alone * alone).sum()))
    assert longest > (1 - 2.0**-20) * 2**48  # what is clipped keeps nearly all that is allowed


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("divisions", [2**10, 10**6, 2**24])
def test_rounding_moves_a_sum_by_one_whole_number_a_record_at_most(make, divisions):
    clipped, whole = _sum_of(make, divisions=divisions)
    data = _data(9)
    exact = clipped(data.features, data.targets).double() / 0.7 * divisions
    error = (whole(data.features, data.targets) - exact).abs().max()
    assert error <= 9 + 9 * divisions * 2.0**-21  # float32 sums err by the last term


def test_rounding_goes_towards_zero():
    whole = WholeSum(clipped_sum=lambda features, _: features.sum(0), max_grad_norm=1.0, divisions=10)
    assert whole(torch.tensor([[0.19, -0.19, 0.95]]), torch.zeros(1)).tolist() == [1, -1, 9]


def _noise_of(law, *, size, copies=1, multiplier=1.5, key="tests of whole", run=0):
    config = config_of(FULL, noise=law, max_grad_norm=2.0, noise_multiplier=multiplier)
    noisy = noising(config, source=KeyedSource(key), run=run, like=torch.zeros(size, dtype=torch.float64))
    none = torch.zeros(size, dtype=torch.int64)
    return torch.stack([noisy(none, step=step, scale=2.0 * multiplier) for step in range(copies)]).numpy()


def test_rounded_noise_is_gaussian_of_the_deviation_asked_for():
    z = _noise_of(RoundedGaussian(), size=2000, copies=5).ravel() / 3.0
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert abs(z.var() - 1) / np.sqrt(2 / z.size) < 4
    assert abs((z[2000:] * z[:-2000]).mean()) * np.sqrt(8000) < 4


def test_lattice_noise_follows_the_discrete_gaussian_law():
    k = _noise_of(LatticeGaussian(dimension=2000, divisions=2), size=2000, copies=5).ravel()  # multiples of 1, σ = 3
    assert np.array_equal(k, k.round())
    values = np.arange(-9, 10)
    masses = np.exp(-(values**2) / 18.0)
    inside = np.clip(k, -9, 9)
    far = np.exp(-(np.arange(10, 200) ** 2) / 18.0).sum()
    masses[[0, -1]] += far
    counts = np.array([(inside == value).sum() for value in values])
    assert stats.chisquare(counts, masses / masses.sum() * len(k)).pvalue > 1e-4


@pytest.mark.parametrize("law", [RoundedGaussian(), LatticeGaussian(dimension=7)])
def test_a_steps_noise_is_the_same_alone_and_among_others(law):
    together = _noise_of(law, size=7, copies=6)
    config = config_of(FULL, noise=law, max_grad_norm=2.0, noise_multiplier=1.5)
    source = KeyedSource("tests of whole")
    noisy = noising(config, source=source, run=0, like=torch.zeros(7, dtype=torch.float64))
    for step in (5, 5, 0, 3):
        found = noisy(torch.zeros(7, dtype=torch.int64), step=step, scale=3.0)
        assert np.array_equal(found.numpy(), together[step])


@pytest.mark.parametrize("law", [RoundedGaussian(), LatticeGaussian(dimension=50)])
def test_another_key_run_or_step_gives_other_noise(law):
    first, second = _noise_of(law, size=50, copies=2)
    for other in (second, _noise_of(law, size=50, key="another")[0], _noise_of(law, size=50, run=2**80)[0]):
        assert not np.isclose(first, other).any()


def test_a_place_gives_words_of_its_source_and_of_no_other_stream():
    source = KeyedSource(0)
    place = Place(source, "noise", 1000)
    assert place.reserve("gaussian", 8) == 1000 and place.reserve("gaussian", 8) == 1008
    assert source.reserve("gaussian", 8) == 0 and source.reserve("noise gaussian", 8) == 0
    assert np.array_equal(place.words("gaussian", 5, 4), source.words("noise gaussian", 5, 4))
    assert not np.array_equal(place.words("gaussian", 5, 4), source.words("gaussian", 5, 4))
    assert place.reproducible and not Place(SystemSource(), "noise", 0).reproducible


def _run(data, config, *, make=MODELS["book-keeping"], prescribed=None):
    model = _fresh(make)
    found = steps(model, data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(3), prescribed=prescribed)
    return torch.stack([release.noisy_sum for release in found])


def _exact(sampling, law, **changes):
    return config_of(sampling, noise=law, learning_rate=TINY_RATE, max_grad_norm=0.7, steps=4, **changes)


LATTICE = LatticeGaussian(dimension=count_parameters(_fresh()), divisions=2**12)
EXACT = {
    "rounded": _exact(Poisson(probability=0.5), RoundedGaussian()),
    "lattice": _exact(FULL, LATTICE),
    "lattice, sampled": _exact(Poisson(probability=0.5), LATTICE),
    "lattice, fixed size": _exact(FixedSize(batch_size=3, records=9), LATTICE),
}


@pytest.mark.parametrize("name", EXACT)
def test_without_noise_it_is_plain_training_up_to_the_rounding(name):
    quiet = dataclasses.replace(EXACT[name], noise_multiplier=0.0)
    plain = dataclasses.replace(quiet, noise=IndependentGaussian())
    assert quiet.noise.divisions >= 2**12
    found, expected = _run(_data(9), quiet), _run(_data(9), plain)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 9 * 0.7 / quiet.noise.divisions + 1e-5


@pytest.mark.parametrize("name", EXACT)
def test_noise_does_not_depend_on_the_records(name):
    config, still = EXACT[name], dataclasses.replace(EXACT[name], noise_multiplier=0.0)
    loud = _run(_data(9), config).double() - _run(_data(9), still).double()
    zero = Dataset(features=torch.zeros(9, 5), targets=torch.zeros(9, dtype=torch.int64))
    other = _run(zero, config).double() - _run(zero, still).double()
    torch.testing.assert_close(loud, other, rtol=0, atol=1e-5)
    assert 0.5 * 0.7 < loud.std() < 1.5 * 0.7


def test_a_lattice_release_is_whole_in_the_unit_of_its_grid():
    shown = _run(_data(9), EXACT["lattice"]).double() / 0.7 * 2**12
    assert (shown - shown.round()).abs().max() < 2.0**-24 * shown.abs().max() * 4


@pytest.mark.parametrize("name", EXACT)
def test_prescribed_gradients_are_refused(name):
    prescribed = PrescribedGradients(
        coordinates=torch.tensor([1]), values=torch.tensor([1.0]), included=torch.tensor([True])
    )
    with pytest.raises(InvalidParameter, match=r"PrescribedGradients: noise must be IndependentGaussian\(\), got"):
        _run(_data(9), EXACT[name], prescribed=prescribed)


def test_a_model_of_another_dimension_is_refused():
    with pytest.raises(InvalidParameter, match=r"steps: dimension of Lat(.|\n)*, 39\.(.|\n)*count_parameters"):
        _run(_data(9), dataclasses.replace(EXACT["lattice"], noise=LatticeGaussian(dimension=40)))


def test_another_scale_than_the_runs_is_refused():
    noisy = noising(EXACT["rounded"], source=KeyedSource(0), run=0, like=torch.zeros(3))
    with pytest.raises(InvalidParameter, match=r"Released: scale must be that of the run(.|\n)*IndependentGaussian"):
        noisy(torch.zeros(3, dtype=torch.int64), step=0, scale=1.5)


def test_discrete_noise_costs_what_renyi_divergences_of_gaussian_noise_do():
    from accountant import compute_epsilon

    lattice = dataclasses.replace(EXACT["lattice"], noise_multiplier=3.0)
    gaussian = dataclasses.replace(lattice, noise=IndependentGaussian())
    found, rdp, exact = (
        compute_epsilon(lattice.process(), delta=1e-5),
        compute_epsilon(gaussian.process(), delta=1e-5, accountant="rdp"),
        compute_epsilon(gaussian.process(), delta=1e-5),
    )
    assert found == pytest.approx(rdp, rel=1e-9) and exact < found < 1.1 * exact
