"""Users who own several examples each: they are what is sampled, and what is clipped.

A user's contribution to a step is one gradient, of the mean loss over at most `examples_per_user` of its examples,
clipped once to max_grad_norm:

    g_u = 1/m_u Σ_j ∇_w loss(model(x_uj), y_uj),    m_u = min(examples_per_user, number of u's examples)

Neighbours differ in one user with all that the user owns. Nothing in the accounting changes but the word: records
there are users here. Several local steps of a user between two sums (federated averaging) are not done here.

**Who is drawn.** Users are numbered by their ids, in rising order: what a user owns, and where its rows stand among
those of others, changes nobody's number, and so no other user's part for the same key. One user more, of an id between
others, does: where users are drawn that makes no difference for the guarantee, since every number's coin, key, bin and
group has the same law, independent of all others'. With Cyclic a number decides on the steps, and neighbours have the
same ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpsgd.core.batches import Rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holdings:
    """Which rows of a dataset each user owns.

    Args:
        rows: (n,) the rows, those of a user one after the other, in their order in the dataset.
        first: (users,) where in `rows` a user's begin.
        counts: (users,) how many of a user's count, >= 1: the first so many.
    """

    rows: Rows
    first: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def rectangle(self, users: Rows) -> tuple[Rows, Tensor]:
        """Return rows (n, width) of some users, and the share of each in its user's mean; users with few are filled up.

        What fills up is the user's own first row again, with the share 0: no other value could be NaN in its place.

        >>> holdings = holdings_of(torch.tensor([5, 3, 5, 3, 3]), examples_per_user=2)
        >>> holdings.rectangle(np.array([1, 0]))
        (array([[0, 2],
               [1, 3]]), tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]], dtype=torch.float64))
        """
        counts = self.counts[users][:, None]
        places = np.arange(counts.max(initial=1))
        inside = places < counts
        rows = self.rows[self.first[users][:, None] + np.where(inside, places, 0)]
        return rows, torch.from_numpy(inside / counts)


def holdings_of(owners: Tensor, *, examples_per_user: int) -> Holdings:
    """Return what each user owns, users in the order of their ids.

    Args:
        owners: int64 (n,): the id of the user to whom each row belongs, any number.
        examples_per_user: public bound on the rows of a user that count, >= 1.

    >>> holdings_of(torch.tensor([5, 3, 5]), examples_per_user=9).counts
    array([1, 2])
    """
    _, number, counts = np.unique(owners.cpu().numpy(), return_inverse=True, return_counts=True)
    return Holdings(
        rows=np.argsort(number, kind="stable"),
        first=np.cumsum(counts) - counts,
        counts=np.minimum(counts, examples_per_user),
    )
