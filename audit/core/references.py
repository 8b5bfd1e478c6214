"""Reference models, also called shadow models: what an attack learns from training others as the target was trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Array = NDArray[np.float64]
Coins = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class References:
    """What reference models say of m canaries, and which of these each was trained on.

    Args:
        confidences: φ of every model on every canary, (models, m), finite: see `audit.core.confidences`.
        included: bool (models, m): the references' own coins, which have nothing to do with those of any audited run.
        population: φ on z further public records that no model, the audited one neither, was trained on, (models, z);
            None where an attack needs none.

    Raises:
        InvalidParameter: if a shape or type differs or a number is not finite, or no model lacks a canary.

    >>> References(confidences=[[1.0, 0.0], [0.5, 2.0]], included=[[True, False], [False, True]]).excluded_means
    array([0.5, 0. ])
    """

    confidences: Array
    included: Coins
    population: Array | None = None

    def __post_init__(self) -> None:
        included = np.array(self.included)
        object.__setattr__(self, "confidences", _finite("confidences", self.confidences))
        if included.dtype != np.bool_ or included.shape != self.confidences.shape:
            raise InvalidParameter(
                f"References: included must be bool of shape {self.confidences.shape}, as confidences are, "
                f"got {included.dtype} of shape {included.shape}."
            )
        included.flags.writeable = False
        object.__setattr__(self, "included", included)
        if np.any(np.all(included, axis=0)):
            raise InvalidParameter(
                "References: included must leave every canary out of one model at least.\n"
                "Draw it by `balanced_membership`, which leaves each out of half."
            )
        if self.population is None:
            return
        object.__setattr__(self, "population", _finite("population", self.population))
        if len(self.population) != len(self.confidences):
            raise InvalidParameter(
                f"References: population must have a row for each of the {len(self.confidences)} models, "
                f"got {len(self.population)}."
            )

    def __len__(self) -> int:
        return len(self.confidences)

    def check_canaries(self, owner: str, *shape: int) -> None:
        """Refuse anything but one number for each canary that the models were asked about.

        Raises:
            InvalidParameter: naming both numbers.
        """
        if shape != self.confidences.shape[1:]:
            raise InvalidParameter(
                f"{owner}: canaries must be the {self.confidences.shape[1]} that the references were asked about, "
                f"got {' × '.join(map(str, shape)) or 'none'}."
            )

    def check_confidences(self, owner: str, observed: Array) -> None:
        """Refuse confidences of an audited model that are not finite, or not one for each canary asked about.

        Raises:
            InvalidParameter: naming both numbers, or that one is not finite.
        """
        self.check_canaries(owner, *observed.shape[-1:])
        check_finite(owner, "confidences", observed)

    @property
    def included_means(self) -> Array:
        """The mean φ of every canary over the models trained on it, (m,).

        Raises:
            InvalidParameter: if a canary is in none.
        """
        if not np.all(np.any(self.included, axis=0)):
            raise InvalidParameter(
                "References: included must have every canary in one model at least for an online attack.\n"
                "Use an offline attack, which needs no models that were trained on canaries."
            )
        return _means(self.confidences, self.included)

    @property
    def excluded_means(self) -> Array:
        """The mean φ of every canary over the models not trained on it, (m,)."""
        return _means(self.confidences, ~self.included)

    def differ(self, chosen: Coins) -> Coins:
        """Return whether the chosen models say more than one thing of a canary, (m,): their squares alone may round."""
        highest = np.max(np.where(chosen, self.confidences, -np.inf), axis=0)
        found: Coins = highest > np.min(np.where(chosen, self.confidences, np.inf), axis=0)
        return found

    def squares(self, means: Array, chosen: Coins) -> Array:
        """Return Σ (φ − mean)² of every canary over the chosen models, (m,)."""
        found: Array = np.sum(np.where(chosen, (self.confidences - means) ** 2, 0.0), axis=0)
        return found


def balanced_membership(*, models: int, canaries: int, rng: np.random.Generator) -> Coins:
    """Return which canaries each reference model is trained on: each canary in half of them, by a fair draw.

    Args:
        models: an even number >= 2, so that half of them is a whole number.
        canaries: m >= 1.
        rng: public randomness: these coins guard nothing.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> balanced_membership(models=4, canaries=3, rng=np.random.default_rng(0)).sum(axis=0)
    array([2, 2, 2])
    """
    models = validate.count("balanced_membership", "models", models, least=2)
    canaries = validate.count("balanced_membership", "canaries", canaries, least=1)
    if models % 2:
        raise InvalidParameter(f"balanced_membership: models must be even, got {models}.")
    half = np.repeat(np.arange(models) % 2 == 0, canaries).reshape(models, canaries)
    drawn: Coins = rng.permuted(half, axis=0)
    return drawn


def check_finite(owner: str, name: str, numbers: Array) -> None:
    """Refuse NaN, which sorts as if it were the surest of all, and infinities.

    Raises:
        InvalidParameter: naming what must be finite.
    """
    if not np.all(np.isfinite(numbers)):
        raise InvalidParameter(f"{owner}: {name} must be finite, and some are not. Did training diverge?")


def _means(numbers: Array, chosen: Coins) -> Array:
    found: Array = np.sum(np.where(chosen, numbers, 0.0), axis=0) / np.sum(chosen, axis=0)
    return found


def _finite(name: str, given: Array) -> Array:
    numbers = np.array(given, dtype=np.float64)
    if numbers.ndim != 2 or not numbers.size:
        raise InvalidParameter(
            f"References: {name} must have a row for each model and a column for each record, got {numbers.shape}."
        )
    if not np.all(np.isfinite(numbers)):
        raise InvalidParameter(f"References: {name} must be finite. Did training of a reference model diverge?")
    numbers.flags.writeable = False
    return numbers
