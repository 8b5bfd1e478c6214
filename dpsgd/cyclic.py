"""Sampling schemes in which a record's steps are known to lie apart, as correlated noise asks for.

    | scheme | who takes part in step t |
    |---|---|
    | Cyclic | record i where t and i leave the same rest by steps_per_epoch: at one place of every epoch |
    | CyclicPoisson | of the records of group t mod b, each with probability b · `probability` [CC23] |

They are schemes of a training run: `mechanisms` describes what they do to a record together with the noise, as a
pattern of participation (`MatrixMechanism`, `Tree`) or as sampled rounds (`MatrixMechanism.amplified`).

[CC23] C. Choquette-Choo et al. (Amplified) Banded Matrix Factorization: A unified approach to private training.
NeurIPS 2023. arXiv:2306.08153.
"""

from __future__ import annotations

from dataclasses import dataclass

from mechanisms import InvalidParameter, Poisson
from mechanisms.core import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyclic:
    """Fixed batches: record i takes part in every step t with t ≡ i modulo steps_per_epoch, and in no other.

    Nothing is drawn, and nothing is gained by drawing: whoever knows a record's row knows its steps. They lie exactly
    steps_per_epoch apart. With one step in an epoch every batch holds all records. Where the order of the records tells
    something, put them into a random one beforehand.

    Neighbours are zero_out or replace_one: one record less would move all that follow it to other steps. Users who own
    several records are taken in the order of their ids, whatever they own; neighbours have the same ids.

    >>> Cyclic()
    Cyclic()
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclicPoisson:
    """Poisson samples from one of `groups` groups a step, each group's turn coming round in the same order.

    Every record's group is drawn once for the run, uniformly and independently of all others. No two steps of a record
    lie less than `groups` apart, whatever is drawn: so banded noise of as many bands is amplified as if it were not
    correlated. The price is that of a record of the first group, which is exposed the most. Lower ends are that
    record's too, for whoever has been told the groups: while they stay hidden, the run shows less.

    Args:
        probability: of each record being in the batch of a step, over all groups, in [0, 1/groups].
        groups: as many as the noise has bands, >= 1.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> CyclicPoisson(probability=0.01, groups=8).within
    Poisson(probability=0.08)
    """

    probability: float
    groups: int

    def __post_init__(self) -> None:
        groups = validate.count("CyclicPoisson", "groups", self.groups, least=1)
        probability = validate.probability("CyclicPoisson", "probability", self.probability)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "probability", probability)
        if probability * groups > 1.0:
            raise InvalidParameter(
                f"CyclicPoisson: probability must be at most 1/groups, got {probability:.15g} for {groups} groups: a "
                "step draws from one of them.\nWrite expected_batch_size / (a public figure for the number of records)."
            )

    @property
    def within(self) -> Poisson:
        """The sample of the group whose turn it is."""
        return Poisson(probability=self.probability * self.groups)
