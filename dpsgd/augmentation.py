"""Augmentation multiplicity: several random copies of a record, whose mean gradient is clipped once.

    g_i = 1/K Σ_k ∇_w loss(model(make(x_i, u_ik)), y_i)                                        [DBHSB22; HBHGHS20]

**Why it is free.** Let U hold the uniforms of all places at which a record may stand, K rows of `draws` numbers each.
They are independent of the records, and a place's are the same whichever records are drawn with it. Given U, a record
adds one clipped gradient that is a function of itself, its place's uniforms and the weights; nothing else in the sum
depends on it. So given U the run is the one that the accountants price, and so it is with U drawn at random: a mixture
of pairs (P_U, Q_U) with the same weights on both sides has no more loss than its parts. The place of a record is its
row in the dataset, that of a user's record the user's number and which of the user's records it is. If one unit more or
less moves others to other places, the law of their uniforms is what it was: U is exchangeable, and the argument holds
with the places renamed.

Where copies were drawn one record after the other from a generator the same would hold in law, but not for each key: a
neighbour replay would see all later records change. Where a copy could be made from several records (mixed pairs,
statistics of the batch) nothing would hold; `torch.func.vmap` shows `make` one record at a time.

[DBHSB22] S. De, L. Berrada, J. Hayes, S. L. Smith, B. Balle. Unlocking High-Accuracy Differentially Private Image
Classification through Scale. 2022. arXiv:2204.13650.
[HBHGHS20] E. Hoffer, T. Ben-Nun, I. Hubara, N. Giladi, T. Hoefler, D. Soudry. Augment Your Batch: Improving
Generalization Through Instance Repetition. CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from dpsgd.core.batches import Rows
from dpsgd.core.reach import Reach, same_values
from mechanisms import InvalidParameter, Source
from mechanisms.core import validate

WORDS = 2**16
"""Words for the copies of one record in one step: so many, whatever an augmentation needs, that no two runs overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How copies of a record are made; a model is trained on their mean loss, and privacy costs what it did.

    Args:
        make: (features of one record (…), uniforms (draws,), float32 in [0, 1)) -> features of a copy (…), of as many
            dimensions. A pure function that `torch.func.vmap` can run: no numbers drawn elsewhere, nothing kept.
        copies: K, for every record that is drawn, >= 1.
        draws: uniforms for each copy, >= 0; copies · draws <= 2^16.

    Guarantees: the copies of a record are a function of the record and of (run, step, its row in the dataset), those of
        a user's of (run, step, number of the user, which of the user's records it is).

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> from mechanisms import KeyedSource
    >>> flipped = Augmentation(make=lambda x, u: torch.where(u[0] < 0.5, x, x.flip(-1)), copies=4, draws=1)
    >>> flipped.of(torch.tensor([[1.0, 2.0]]), np.array([0]), source=KeyedSource(0), position=0).shape
    torch.Size([1, 4, 2])
    """

    make: Callable[[Tensor, Tensor], Tensor]
    copies: int
    draws: int

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise InvalidParameter(f"Augmentation: make must be callable, got {type(self.make).__name__}.")
        object.__setattr__(self, "copies", validate.count("Augmentation", "copies", self.copies, least=1))
        object.__setattr__(self, "draws", validate.count("Augmentation", "draws", self.draws))
        if self.copies * self.draws > WORDS:
            raise InvalidParameter(
                f"Augmentation: copies · draws must be at most 2^16, got {self.copies} · {self.draws}."
            )

    def of(self, features: Tensor, units: Rows, *, source: Source, position: int, width: int = 1) -> Tensor:
        """Return the copies (n · width, copies, …) of the records of some units.

        Args:
            features: (n · width, …), n >= 1, the records of a unit one after the other.
            units: (n,) the units' numbers: of a record its row in the dataset.
            source: where the uniforms come from: its streams "augmentation", for a unit's later records followed by
                which it is, so that however many records others have, theirs are the same.
            position: where the step's draws begin: see `dpsgd.core.batches`.
            width: of records of each unit, >= 1.
        """
        needed = self.copies * self.draws
        streams = ["augmentation", *(f"augmentation {place}" for place in range(1, width))]
        drawn = [source.words(stream, (position + int(unit)) * WORDS, needed) for unit in units for stream in streams]
        floats = (np.stack(drawn) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        uniforms = torch.from_numpy(floats).view(len(features), self.copies, self.draws).to(features.device)
        return self._copies(features, uniforms)

    def _copies(self, features: Tensor, uniforms: Tensor) -> Tensor:
        copies: Tensor = vmap(vmap(self.make, in_dims=(None, 0)))(features, uniforms)
        return copies

    def check(self, features: Tensor) -> Tensor:
        """Return the features (1, …) of a copy of one record of zeros, by which `make` can run; no record is touched.

        Args:
            features: (n, …), of which the shape (…) and the type are taken, and no value.

        Raises:
            InvalidParameter: if it fails, keeps something, draws numbers of its own or gives another number of
                dimensions.
        """
        zeros = features.new_zeros(1, *features.shape[1:])
        uniforms = torch.zeros(1, 1, self.draws, device=features.device)
        try:
            copies = self._copies(zeros, uniforms)
            reach = Reach("make", self.make, values=True)
            self._copies(torch.ones_like(zeros), uniforms + 0.5)
            again, kept = self._copies(zeros, uniforms), reach.altered()
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InvalidParameter(
                "Augmentation: make must be a function of one record's features and the uniforms that torch.func.vmap "
                f"can run, but on zeros of a record's shape: {str(error).strip()}\n"
                "Take random numbers from the uniforms, and choose by torch.where and gather instead of if and slices."
            ) from None
        if kept is not None or (isinstance(copies, Tensor) and not same_values(again, copies)):
            what = "gave other copies of the same record" if kept is None else f"changed {kept}"
            raise InvalidParameter(
                f"Augmentation: make must keep nothing from one call to the next, but {what}.\n"
                "What it keeps would carry one record to the next one's gradient. Make it a function of its arguments."
            )
        if not isinstance(copies, Tensor) or copies.dim() != features.dim() + 1:
            raise InvalidParameter(
                f"Augmentation: make must return a copy with the {features.dim() - 1} dimensions of a record, got "
                f"{copies.dim() - 2 if isinstance(copies, Tensor) else type(copies).__name__}."
            )
        return copies[:, 0]
