"""Configurations of every sampling scheme, for tests."""

import dpsgd
import mechanisms
from dpsgd import DPSGD, Cyclic, CyclicPoisson, MatrixGaussian
from mechanisms import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson, WithReplacement


def config_of(sampling, **changes):
    """Return a run by this scheme; batches of two where it leaves that open, epochs of two where it has them."""
    spread = isinstance(sampling, (Shuffled, BallsInBins))
    fields = {
        "noise_multiplier": 1.0,
        "max_grad_norm": 1.0,
        "sampling": sampling,
        "expected_batch_size": getattr(sampling, "batch_size", 2),
        "steps": 12,
        "learning_rate": 0.1,
        "steps_per_epoch": 2 if spread else None,
    }
    return DPSGD(**{**fields, **changes})


EVERY_SCHEME = {
    "Poisson": config_of(Poisson(probability=0.3)),
    "TruncatedPoisson": config_of(TruncatedPoisson(probability=0.6, largest_batch=3)),
    "TruncatedPoisson with records": config_of(TruncatedPoisson(probability=0.6, largest_batch=3, records=7)),
    "FixedSize": config_of(FixedSize(batch_size=3, records=7)),
    "WithReplacement": config_of(WithReplacement(batch_size=9, records=7)),
    "Shuffled": config_of(Shuffled(), steps_per_epoch=3),
    "BallsInBins": config_of(BallsInBins(), steps_per_epoch=3),
}
CYCLIC = {
    "Cyclic": config_of(Cyclic(), steps_per_epoch=3),
    "CyclicPoisson": config_of(CyclicPoisson(probability=0.3, groups=2), noise=MatrixGaussian(coefficients=(1.0, 0.5))),
}


def evaluated(code):
    """Return the value of a repr."""
    return eval(code, {name: getattr(package, name) for package in (mechanisms, dpsgd) for name in package.__all__})
