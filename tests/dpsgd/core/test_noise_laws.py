import dataclasses
import json
import math
import subprocess
import sys
from itertools import pairwise

import pytest

from dpsgd import DPSGD
from dpsgd.core.noise_laws import (
    BufferedGaussian,
    IndependentGaussian,
    LatticeGaussian,
    MatrixGaussian,
    RoundedGaussian,
    TreeGaussian,
)
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import (
    BallsInBins,
    Compose,
    DiscreteGaussian,
    FixedSize,
    Gaussian,
    InvalidParameter,
    MatrixMechanism,
    Poisson,
    Repeat,
    Sampled,
    Shuffled,
    Tree,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)
from tests.dpsgd.schemes import config_of, evaluated

BANDS = MatrixGaussian(coefficients=(1.0, 0.5, 0.25))
BUFFERS = BufferedGaussian(weights=(0.5, 0.5), decays=(0.9, 0.25))
GROUPS = CyclicPoisson(probability=0.1, groups=3)
FIXED, FULL = FixedSize(batch_size=2, records=8), Poisson(probability=1.0)
REDRAWN = [
    Poisson(probability=0.3),
    FULL,
    TruncatedPoisson(probability=0.3, largest_batch=4),
    FIXED,
    WithReplacement(batch_size=2, records=8),
    Shuffled(),
    BallsInBins(),
]
EVERY_LAW = {
    "IndependentGaussian": config_of(Cyclic(), steps_per_epoch=3),
    "RoundedGaussian": config_of(Poisson(probability=0.3), noise=RoundedGaussian(divisions=1000)),
    "RoundedGaussian, Cyclic": config_of(Cyclic(), steps_per_epoch=3, noise=RoundedGaussian()),
    "LatticeGaussian": config_of(FULL, noise=LatticeGaussian(dimension=7, divisions=50)),
    "LatticeGaussian, Poisson": config_of(Poisson(probability=0.3), noise=LatticeGaussian(dimension=7)),
    "LatticeGaussian, FixedSize": config_of(FIXED, noise=LatticeGaussian(dimension=7)),
    "MatrixGaussian": config_of(Cyclic(), steps_per_epoch=3, noise=BANDS),
    "MatrixGaussian, CyclicPoisson": config_of(GROUPS, noise=BANDS),
    "BufferedGaussian": config_of(Cyclic(), steps_per_epoch=3, noise=BUFFERS),
    "TreeGaussian": config_of(Cyclic(), steps_per_epoch=3, noise=TreeGaussian()),
}


@pytest.mark.parametrize("config", EVERY_LAW.values(), ids=EVERY_LAW)
def test_every_law_comes_back_from_json_and_from_its_repr(config):
    assert DPSGD.from_json(config.to_json()) == config
    assert evaluated(repr(config)) == config
    assert hash(config) == hash(evaluated(repr(config)))


def test_files_from_before_the_noise_had_a_law_load(config):
    document = json.loads(config.to_json())
    del document["config"]["noise"]
    assert DPSGD.from_json(json.dumps(document)) == config
    assert config.noise == IndependentGaussian()


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        ({"type": "Laplace"}, "noise type must be one of IndependentGaussian, RoundedGaussian, .* got 'Laplace'"),
        ("TreeGaussian", "noise type must be one of .* got 'TreeGaussian'"),
        ({"type": "MatrixGaussian"}, r"noise must have the fields \['coefficients', 'type'\], got \['type'\]"),
        ({"type": "MatrixGaussian", "coefficients": [0.0]}, "coefficients must start with one of size"),
    ],
)
def test_json_of_another_noise_is_refused_by_name(config, noise, text):
    document = json.loads(config.to_json())
    document["config"]["noise"] = noise
    with pytest.raises(InvalidParameter, match=text):
        DPSGD.from_json(json.dumps(document))


class _Quiet(IndependentGaussian):
    """A law that only says it is independent noise."""


@pytest.mark.parametrize("noise", [_Quiet(), None, "TreeGaussian", TreeGaussian, Gaussian(noise_multiplier=1.0)])
def test_what_is_no_law_is_refused_by_name(config, noise):
    with pytest.raises(InvalidParameter, match=r"DPSGD: noise must be one of Ind(.|\n)*Use IndependentG") as refusal:
        dataclasses.replace(config, noise=noise)
    assert repr(noise) in str(refusal.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MatrixGaussian(coefficients=()), "coefficients must number from 1 to steps, got 0"),
        (lambda: MatrixGaussian(coefficients=(0.0, 1.0)), "coefficients must start with one of size at least"),
        (lambda: MatrixGaussian(coefficients=(1.0, math.nan)), "coefficients must be a number, got nan"),
        (lambda: MatrixGaussian(coefficients=1.0), "MatrixGaussian: coefficients must be a sequence, got 1.0"),
        (lambda: BufferedGaussian(weights=(), decays=()), "weights must number from 1 to 64, .* got 0 and 0"),
        (
            lambda: BufferedGaussian(weights=(1.0,), decays=(0.5, 0.2)),
            "weights must .*, and decays as many, got 1 and 2",
        ),
        (lambda: BufferedGaussian(weights=(1.0,) * 65, decays=(0.5,) * 65), "weights must number from 1 to 64"),
        (lambda: BufferedGaussian(weights=(0.0,), decays=(0.5,)), r"BufferedGaussian: weights must be above 0, got 0"),
        (lambda: BufferedGaussian(weights=(-1.0, 3.0), decays=(0.5, 0.1)), "weights must be above 0, got -1"),
        (
            lambda: BufferedGaussian(weights=(1.0,), decays=(1.5,)),
            r"BufferedGaussian: decays must lie in \[0, 1\], got",
        ),
        (lambda: BufferedGaussian(weights=(math.inf,), decays=(0.5,)), "weights must be finite, got inf"),
        (lambda: BufferedGaussian(weights=(1e-101,), decays=(0.5,)), "coefficients must start with one of size"),
        (lambda: BufferedGaussian(weights="1", decays=(0.5,)), "weights must be a sequence, got '1'"),
        (lambda: BufferedGaussian.optimised(steps=0), "BufferedGaussian: steps must be at least 1, got 0"),
        (
            lambda: BufferedGaussian.optimised(steps=10**7),
            r"steps must be at most 100000 .* to search, got 10000000 and 4(.|\n)*may run for more",
        ),
        (lambda: BufferedGaussian.optimised(steps=9, buffers=65), "buffers at most 64 to search, got 9 and 65"),
        (lambda: BufferedGaussian.optimised(steps=9, steps_per_epoch=0), "steps_per_epoch must be at least 1, got 0"),
        (lambda: RoundedGaussian(divisions=0), "RoundedGaussian: divisions must be at least 1, got 0"),
        (
            lambda: RoundedGaussian(divisions=2**31),
            r"RoundedGaussian: divisions must be at most 2\^30, got 2147483648",
        ),
        (lambda: LatticeGaussian(dimension=0), "LatticeGaussian: dimension must be at least 1, got 0"),
        (lambda: LatticeGaussian(dimension=2, divisions=0.5), "divisions must be a whole number, got 0.5"),
    ],
)
def test_a_law_of_bad_values_is_refused(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()


@pytest.mark.parametrize("sampling", REDRAWN)
@pytest.mark.parametrize("noise", [BANDS, BUFFERS, TreeGaussian()])
def test_correlated_noise_is_refused_where_a_records_steps_may_meet(noise, sampling):
    with pytest.raises(InvalidParameter, match=r"DPSGD: sampling must be Cyclic\(\)(.|\n)*how far apart") as refusal:
        config_of(sampling, noise=noise)
    assert repr(noise) in str(refusal.value) and repr(sampling) in str(refusal.value)
    assert "\nUse Cyclic() on records in an order that was drawn once" in str(refusal.value)


@pytest.mark.parametrize(
    "sampling", [*(one for one in REDRAWN if not isinstance(one, (Poisson, FixedSize))), GROUPS, Cyclic()]
)
def test_discrete_noise_is_refused_where_nothing_samples_renyi_divergences(sampling):
    changes = {"steps_per_epoch": 3} if sampling == Cyclic() else {}
    with pytest.raises(InvalidParameter, match=r"must be FixedSize\(...\) or Poisson\(...\) for Lattice") as r:
        config_of(sampling, noise=LatticeGaussian(dimension=7), **changes)
    assert "Use RoundedGaussian()" in str(r.value)


@pytest.mark.parametrize("noise", [IndependentGaussian(), RoundedGaussian(), BUFFERS, TreeGaussian()])
def test_groups_that_take_turns_are_refused_without_bands(noise):
    with pytest.raises(InvalidParameter, match=r"DPSGD: sampling must be .*, got CyclicPoisson\("):
        config_of(GROUPS, noise=noise)


@pytest.mark.parametrize(
    ("sampling", "changes", "text"),
    [
        (
            CyclicPoisson(probability=0.1, groups=2),
            {},
            "groups of .* must be the number of coefficients .*, 3(.|\n)*=3",
        ),
        (CyclicPoisson(probability=0.1, groups=4), {}, "groups of .* must be the number of coefficients .*, 3"),
        (Cyclic(), {"steps": 2, "steps_per_epoch": 1}, "steps must be at least the number of coeff.* got 2 and 3"),
    ],
)
def test_bands_that_do_not_fit_the_run_are_refused(sampling, changes, text):
    with pytest.raises(InvalidParameter, match=f"DPSGD: {text}"):
        config_of(sampling, noise=BANDS, **changes)


def test_a_run_that_its_mechanism_cannot_describe_is_refused():
    with pytest.raises(InvalidParameter, match="MatrixMechanism: steps must be at most 1000000, got 2000000"):
        config_of(Cyclic(), steps=2 * 10**6, steps_per_epoch=10, noise=BANDS)
    with pytest.raises(
        InvalidParameter, match=r"DPSGD: steps must be at most 1000000 for BufferedG.* got 1000000000000"
    ):
        config_of(Cyclic(), steps=10**12, steps_per_epoch=10, noise=BUFFERS)


@pytest.mark.parametrize(
    ("executed", "pattern"),
    [(1, (1, 1)), (2, (1, 2)), (5, (1, 5)), (6, (2, 5)), (10, (2, 5)), (12, (3, 5))],
)
def test_fixed_batches_are_described_by_their_pattern_step_by_step(executed, pattern):
    matrix, tree, plain = (
        config_of(Cyclic(), steps_per_epoch=5, noise=noise).process_after(executed)
        for noise in (BANDS, TreeGaussian(), IndependentGaussian())
    )
    fields = {"noise_multiplier": 1.0, "steps": executed, "participations": pattern[0], "separation": pattern[1]}
    assert matrix == MatrixMechanism(coefficients=BANDS.coefficients[:executed], **fields)
    assert tree == Tree(**fields)
    assert plain == MatrixMechanism(coefficients=(1.0,), **fields)


@pytest.mark.parametrize(
    "noise", [IndependentGaussian(), BANDS, MatrixGaussian(coefficients=(1.0, -2.0)), BUFFERS, TreeGaussian()]
)
def test_a_longer_run_never_costs_less(noise):
    from accountant import compute_epsilon

    config = config_of(Cyclic(), steps=17, steps_per_epoch=4, noise=noise)
    costs = [compute_epsilon(config.process_after(n), delta=1e-5, adjacency="zero_out") for n in range(18)]
    assert costs[0] == 0.0 < costs[1] and all(b >= a * (1 - 1e-9) for a, b in pairwise(costs))
    assert costs[17] > costs[1]


@pytest.mark.parametrize("config", EVERY_LAW.values(), ids=EVERY_LAW)
def test_a_run_without_steps_costs_nothing(config):
    from accountant import compute_epsilon

    assert compute_epsilon(config.process_after(0), delta=1e-5, adjacency="zero_out") == 0.0


def test_groups_are_described_as_sampled_rounds():
    config = config_of(GROUPS, noise=BANDS, steps=8)
    norm = (1 + 0.5**2 + 0.25**2) ** 0.5
    rounds, last = config.process().parts
    assert rounds.times == 2 and rounds.part.sampling == last.sampling == GROUPS.within
    assert rounds.part.part.noise_multiplier == pytest.approx(1 / norm)
    assert last.part.noise_multiplier == pytest.approx(1 / 1.25**0.5)
    assert config.process_after(6) == rounds
    assert config.process_after(1) == config.process_after(3) == Repeat(rounds.part, 1)


def test_exact_noise_is_described_as_what_it_is():
    rounded, lattice = EVERY_LAW["RoundedGaussian"], EVERY_LAW["LatticeGaussian, FixedSize"]
    assert rounded.process() == dataclasses.replace(rounded, noise=IndependentGaussian()).process()
    step = DiscreteGaussian(noise_multiplier=1.0, sensitivity=2**24, dimension=7)
    assert lattice.process() == Repeat(Sampled(step, FIXED), 12)
    assert EVERY_LAW["LatticeGaussian, Poisson"].process() == Repeat(Sampled(step, Poisson(probability=0.3)), 12)
    assert EVERY_LAW["MatrixGaussian"].process_after(0) == Compose(())


@pytest.mark.parametrize("noise", [IndependentGaussian(), RoundedGaussian(), BANDS, BUFFERS, TreeGaussian()])
def test_fixed_batches_have_no_price_for_one_record_more(noise):
    from accountant import compute_epsilon

    process = config_of(Cyclic(), steps_per_epoch=3, noise=noise).process()
    with pytest.raises(UnsupportedProcess, match="a record more or less may move all later ones"):
        compute_epsilon(process, delta=1e-5, adjacency="add_remove")


def test_independent_noise_on_fixed_batches_costs_one_gaussian_step_an_epoch():
    from accountant import epsilon_bounds

    config = config_of(Cyclic(), steps_per_epoch=3)
    found = epsilon_bounds(config.process(), delta=1e-5, adjacency="zero_out")
    expected = epsilon_bounds(Repeat(Gaussian(noise_multiplier=1.0), 4), delta=1e-5, adjacency="zero_out")
    assert found.upper == pytest.approx(expected.upper, rel=1e-9) and found.lower <= expected.upper


BUDGETS = [
    ("RoundedGaussian", "add_remove"),
    ("RoundedGaussian, Cyclic", "replace_one"),
    ("LatticeGaussian", "add_remove"),
    ("LatticeGaussian, Poisson", "add_remove"),
    ("LatticeGaussian, FixedSize", "replace_one"),
    ("MatrixGaussian", "zero_out"),
    ("BufferedGaussian", "zero_out"),
    ("TreeGaussian", "replace_one"),
    pytest.param("MatrixGaussian, CyclicPoisson", "add_remove", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "adjacency"), BUDGETS)
def test_a_budget_is_kept_and_nearly_used_up_by_every_law(name, adjacency):
    from accountant import compute_epsilon

    fields = {field.name: getattr(EVERY_LAW[name], field.name) for field in dataclasses.fields(DPSGD)}
    del fields["noise_multiplier"]
    config = DPSGD.for_budget(epsilon=2.0, delta=1e-5, adjacency=adjacency, **fields)
    assert config == dataclasses.replace(EVERY_LAW[name], noise_multiplier=config.noise_multiplier)
    assert 1.997 <= compute_epsilon(config.process(), delta=1e-5, adjacency=adjacency) <= 2.0


@pytest.mark.parametrize(
    ("name", "text"), [("LatticeGaussian, FixedSize", "for_budget: adj"), ("TreeGaussian", "Tree:")]
)
def test_no_noise_is_found_for_neighbours_without_a_theorem(name, text):
    fields = {field.name: getattr(EVERY_LAW[name], field.name) for field in dataclasses.fields(DPSGD)}
    del fields["noise_multiplier"]
    with pytest.raises((InvalidParameter, UnsupportedProcess), match=text):
        DPSGD.for_budget(epsilon=2.0, delta=1e-5, adjacency="add_remove", **fields)


def test_laws_are_had_without_torch():
    check = "import dpsgd.core.noise_laws, dpsgd.cyclic, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
