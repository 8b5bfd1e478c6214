"""What a key draws is what it drew when `DRAWS` was last raised: else raise it, and write down here what it draws now.

Noise is held to 1e-5, as other machines round its last digits in other ways; rows and seeds are whole numbers.
"""

import dataclasses

import pytest
import torch

from dpsgd import DPSGD, IndependentGaussian, MatrixGaussian, RoundedGaussian, TreeGaussian
from dpsgd.core.batches import drawn_rows
from dpsgd.core.noising import noising
from dpsgd.core.parts import LayerDraws
from dpsgd.core.ranks import Ranks
from dpsgd.core.runs import DRAWS, RUN
from dpsgd.core.users import holdings_of
from dpsgd.cyclic import Cyclic
from mechanisms import BallsInBins, FixedSize, KeyedSource, Poisson, Shuffled, WithReplacement

SOURCE = KeyedSource("what a key draws")
THEN = (
    3,
    {
        "IndependentGaussian": [-0.272093, -0.059441, 0.380048],
        "RoundedGaussian": [-0.063513, -0.385094, -0.526005],
        "MatrixGaussian": [-0.483135, 0.141837, 0.463085],
        "TreeGaussian": [-0.688717, -0.106359, -1.211234],
        "float64": [-0.459543, -0.754033, -1.107629],
        "Poisson": [0, 1, 4, 5, 7, 8, 11],
        "FixedSize": [5, 8, 11],
        "WithReplacement": [3, 5, 9],
        "Shuffled": [8, 10, 11],
        "BallsInBins": [1, 5, 8, 10],
        "layers": [1783759582, 2724934303],
        "users": [3, 1, 0, 2],
    },
)
"""The number of draws, and what they were, of three coordinates or twelve records in step 5 of run 1."""
PLAIN = DPSGD(
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    sampling=Poisson(probability=0.25),
    expected_batch_size=3,
    steps=8,
    learning_rate=0.1,
)


def _noise(law, dtype):
    turns = {"sampling": Cyclic(), "steps_per_epoch": 4} if isinstance(law, (MatrixGaussian, TreeGaussian)) else {}
    config = dataclasses.replace(PLAIN, noise=law, **turns)
    total = torch.zeros(3, dtype=torch.int64 if isinstance(law, RoundedGaussian) else dtype)
    add = noising(config, source=SOURCE, run=RUN, like=torch.zeros(3, dtype=dtype))
    return add(total, step=5, scale=1.0).tolist()


def _rows(sampling):
    per_epoch = 4 if isinstance(sampling, (Shuffled, BallsInBins)) else None
    config = dataclasses.replace(PLAIN, sampling=sampling, steps_per_epoch=per_epoch)
    return drawn_rows(SOURCE, config, run=RUN, records=12)(5).tolist()


def _drawn():
    ranks = Ranks(rank=0, count=1, device=torch.device("cpu"))
    layers = LayerDraws(source=SOURCE, run=RUN, ranks=ranks, pass_of_zeros=lambda: None)
    laws = (IndependentGaussian(), RoundedGaussian(), MatrixGaussian(coefficients=(1.0, 0.5)), TreeGaussian())
    samplings = (
        Poisson(probability=0.25),
        FixedSize(batch_size=3, records=12),
        WithReplacement(batch_size=3, records=12),
        Shuffled(),
        BallsInBins(),
    )
    found = {type(law).__name__: _noise(law, torch.float32) for law in laws}
    found["float64"] = _noise(IndependentGaussian(), torch.float64)
    found |= {type(sampling).__name__: _rows(sampling) for sampling in samplings}
    found["layers"] = [*map(int, layers._words_of(5)[:2])]
    found["users"] = holdings_of(torch.tensor([9, 2, 9, -5]), examples_per_user=2).rows.tolist()
    return found


def test_draws_are_those_of_their_number():
    number, then = THEN
    drawn = _drawn()
    assert number == DRAWS and drawn.keys() == then.keys()
    for name, values in drawn.items():
        assert values == pytest.approx(then[name], abs=1e-5), name
