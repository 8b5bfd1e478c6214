"""Runs of every kind that the engine takes, combined, for tests: some in which every two choices meet, or random ones.

A case names one choice of each of `CHOICES`. Which schemes, laws of noise and clippings go together is what `DPSGD`
takes; all else goes with everything, but that a record can be added only where its number is not declared.
"""

import itertools
import random
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from dpsgd import (
    DPSGD,
    AdaptiveQuantile,
    Augmentation,
    Automatic,
    BufferedGaussian,
    Cyclic,
    CyclicPoisson,
    Dataset,
    Flat,
    IndependentGaussian,
    LatticeGaussian,
    MatrixGaussian,
    Normalised,
    PerLayer,
    RoundedGaussian,
    TreeGaussian,
    count_parameters,
)
from mechanisms import BallsInBins, FixedSize, InvalidParameter, Poisson, Shuffled, TruncatedPoisson, WithReplacement

UNITS, WIDTH, CLASSES, MOST = 12, 5, 3, 3
FAR = 99  # the owner of what is added


class Own(nn.Module):
    """Layers in a forward pass of the user's."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)) + 0.1)


class Tied(nn.Module):
    """A layer used twice, and a parameter of no layer."""

    def __init__(self):
        super().__init__()
        self.twice, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.scale = nn.Parameter(torch.ones(CLASSES))

    def forward(self, x):
        return self.last(self.twice(torch.tanh(self.twice(x)))) * self.scale


SCHEMES = {  # with the expected size of a batch and the steps of an epoch
    "Poisson": (Poisson(probability=0.5), 6, None),
    "full batch": (Poisson(probability=1.0), 12, None),
    "TruncatedPoisson": (TruncatedPoisson(probability=0.5, largest_batch=5), 4, None),
    "TruncatedPoisson, records": (TruncatedPoisson(probability=0.5, largest_batch=5, records=UNITS), 4, None),
    "FixedSize": (FixedSize(batch_size=4, records=UNITS), 4, None),
    "WithReplacement": (WithReplacement(batch_size=4, records=UNITS), 4, None),
    "Shuffled": (Shuffled(), 4, 3),
    "BallsInBins": (BallsInBins(), 4, 3),
    "Cyclic": (Cyclic(), 4, 3),
    "CyclicPoisson": (CyclicPoisson(probability=0.3, groups=2), 4, None),
}
CHOICES = {
    "scheme": SCHEMES,
    "noise": {
        "independent": lambda dimension: IndependentGaussian(),
        "rounded": lambda dimension: RoundedGaussian(divisions=1000),
        "lattice": lambda dimension: LatticeGaussian(dimension=dimension),
        "matrix": lambda dimension: MatrixGaussian(coefficients=(1.0, 0.5)),
        "buffered": lambda dimension: BufferedGaussian(weights=(0.6, 0.4), decays=(0.9, 0.2)),
        "tree": lambda dimension: TreeGaussian(),
    },
    "clipping": {
        "flat": Flat(),
        "per layer": PerLayer(),
        "automatic": Automatic(),
        "normalised": Normalised(),
        "adaptive": AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=50.0),
    },
    "change": ("added", "replaced"),
    "unit": ("record", "user"),
    "model": {
        "chain": lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
        "normalising chain": lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.LayerNorm(4), nn.Linear(4, CLASSES)),
        "own": Own,
        "tied": Tied,
    },
    "copies": {"none": None, "three": Augmentation(make=lambda x, u: x * (1 + u[0]), copies=3, draws=1)},
    "largest_physical_batch": (None, 9, 16),
    "optimizer": {"none": None, "Adam": lambda parameters, config: torch.optim.Adam(parameters, config.learning_rate)},
    "dtype": (torch.float32, torch.float64),
    "odd": (None, float("nan"), float("inf"), 1e30),
    "max_grad_norm": (0.05, 1.0),
    "scale": (1.0, 100.0),
}
TIED = ("scheme", "noise", "clipping", "change")
FREE = tuple(name for name in CHOICES if name not in TIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One choice of each, and the seed of what is random in it."""

    chosen: tuple
    seed: int

    def __getitem__(self, name):
        choice = self.chosen[list(CHOICES).index(name)]
        return CHOICES[name][choice] if isinstance(CHOICES[name], dict) else choice

    def model(self):
        """Return the model, the same every time."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self["model"]().to(self["dtype"])

    def config(self, **changes):
        """Return the configuration, without noise and all but without a learning rate."""
        sampling, expected, per_epoch = self["scheme"]
        fields = {
            "noise_multiplier": 0.0,
            "max_grad_norm": self["max_grad_norm"],
            "sampling": sampling,
            "expected_batch_size": expected,
            "steps": 3,
            "learning_rate": 1e-30,
            "steps_per_epoch": per_epoch,
            "noise": self["noise"](count_parameters(self.model())),
            "clipping": self["clipping"],
            "unit": self["unit"],
            "examples_per_user": MOST if self["unit"] == "user" else None,
        }
        return DPSGD(**{**fields, **changes})

    def options(self):
        """Return the keywords of a run."""
        return {
            "augmentation": self["copies"],
            "largest_physical_batch": self["largest_physical_batch"],
            "optimizer": self["optimizer"],
        }

    def neighbours(self):
        """Return a dataset, and one in which a unit is added or replaced."""
        numbers = random.Random(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        held = [numbers.randint(1, 5) if self["unit"] == "user" else 1 for _ in range(UNITS)]
        owners = torch.tensor([unit for unit in range(UNITS) for _ in range(held[unit])])
        rows = len(owners)
        features = self["scale"] * torch.randn(rows, WIDTH, generator=generator)
        targets = torch.randint(CLASSES, (rows,), generator=generator)
        changed = numbers.randrange(UNITS)
        new = numbers.randint(1, 6) if self["unit"] == "user" else 1
        kept = owners != changed if self["change"] == "replaced" else torch.ones(rows, dtype=torch.bool)
        others = int(kept.sum()) if self["change"] == "added" else int((owners < changed).sum())
        odd = numbers.choice((0.01, 1.0, 1e4)) * torch.randn(new, WIDTH, generator=generator)
        if self["odd"] is not None:
            odd[0, 0] = self["odd"]
        name = changed if self["change"] == "replaced" else FAR

        def joined(values, more):
            left = values[kept]
            return torch.cat([left[:others], more, left[others:]])

        def dataset(features, targets, owners):
            of = owners if self["unit"] == "user" else None
            return Dataset(features=features.to(self["dtype"]), targets=targets, owners=of)

        return dataset(features, targets, owners), dataset(
            joined(features, odd),
            joined(targets, torch.randint(CLASSES, (new,), generator=generator)),
            joined(owners, torch.full((new,), name)),
        )


@cache
def tied():
    """Return all that goes together of what does not go with everything."""
    found = []
    for chosen in itertools.product(*(CHOICES[name] for name in TIED)):
        scheme, noise, clipping, change = chosen
        sampling, expected, per_epoch = SCHEMES[scheme]
        declared = getattr(sampling, "records", None) is not None or isinstance(sampling, (Shuffled, Cyclic))
        if change == "added" and declared:
            continue
        try:
            DPSGD(
                noise_multiplier=0.0,
                max_grad_norm=1.0,
                sampling=sampling,
                expected_batch_size=expected,
                steps=3,
                learning_rate=1.0,
                steps_per_epoch=per_epoch,
                noise=CHOICES["noise"][noise](7),
                clipping=CHOICES["clipping"][clipping],
            )
        except InvalidParameter:
            continue
        found.append(chosen)
    return tuple(found)


def drawn(numbers, seed):
    """Return a case at random."""
    chosen = dict(zip(TIED, numbers.choice(tied()), strict=True))
    chosen |= {name: numbers.choice(list(CHOICES[name])) for name in FREE}
    return Case(chosen=tuple(chosen[name] for name in CHOICES), seed=seed)


def at_random(seeds):
    """Return a case for every seed."""
    return [drawn(random.Random(seed), seed) for seed in seeds]


def pairs_of(case):
    """Return the pairs of choices that meet in a case."""
    return set(itertools.combinations(zip(CHOICES, case.chosen, strict=True), 2))


def pairs_that_meet():
    """Return all pairs of choices that go together."""
    found = set()
    for chosen in tied():
        named = list(zip(TIED, chosen, strict=True))
        found |= set(itertools.combinations(named, 2))
        found |= {(one, (name, choice)) for one in named for name in FREE for choice in CHOICES[name]}
    for one, other in itertools.combinations(FREE, 2):
        found |= {((one, a), (other, b)) for a in CHOICES[one] for b in CHOICES[other]}
    return {tuple(sorted(pair, key=lambda named: list(CHOICES).index(named[0]))) for pair in found}


def covering(candidates=60):
    """Return cases in which every two choices that go together meet, the best of so many candidates one by one."""
    numbers, left, cases = random.Random(0), pairs_that_meet(), []
    while left:
        few = [drawn(numbers, len(cases)) for _ in range(candidates)]
        best = max(few, key=lambda case: len(pairs_of(case) & left))
        if gained := pairs_of(best) & left:
            left -= gained
            cases.append(best)
    return cases
