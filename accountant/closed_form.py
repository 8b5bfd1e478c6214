"""Closed forms: what needs no numerical composition at all.

One step has its pair's own δ(ε). Equal steps of two-category answers (randomised response, pure and approximate
guarantees) have a binomial sum, `accountant.core.binomial`. Gaussians have `accountant.gdp`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, steps
from accountant.core.binomial import MOST_ANSWERS, excess, inverse
from accountant.core.curve import Curve
from accountant.core.ledger import Ledger, rounding
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log1p
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair
from mechanisms.core.process import Adjacency, Process
from mechanisms.gaussian import GaussianPair
from mechanisms.laplace import LaplacePair


@dataclass(frozen=True, slots=True)
class ClosedForm(Accountant):
    """δ(ε) in closed form: of one step, sampled or not, and of any number of equal answers to two categories.

    One step has δ(ε) = E_P (1 − e^{ε − L})₊ of its pair, in closed form in each kind's own file; equal answers have a
    binomial sum, see `accountant.core.binomial`. Use it wherever it answers: nothing can be tighter.

    Assumes one step, or equal answers of two categories. Guarantees: as exact as the pair is known, mostly up to the
    rounding of floats (of spread records: to a permille or so). Lower ends are 0 where the pair is not attained. It
    refuses the case of Abadi et al., which has 10,000 steps.

    >>> from mechanisms import Laplace, RandomizedResponse, Repeat
    >>> profile = ClosedForm().profile(Laplace(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> profile.epsilon(1e-5).contains(0.99997999989999933)
    True
    >>> answers = Repeat(RandomizedResponse(epsilon=0.5), 1_000_000)
    >>> ClosedForm().profile(answers, adjacency=Adjacency.REPLACE_ONE).delta(124_000.0).width < 1e-12
    True
    """

    exact: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the exact profile.

        Raises:
            UnsupportedProcess: if there are several steps, unless they are equal answers to two categories.
        """
        curves = tuple((d, _curve(parts)) for d, parts in steps(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True)
class SingleCurve(Curve):
    """δ(ε) of one pair."""

    pair: DominatingPair

    @property
    def supremum(self) -> Bounds:
        """The pair's largest loss, infinite where it may give everything away."""
        return _supremum(self.pair.supremum, self.pair.infinite_mass, self.pair.attained)

    @property
    def lost(self) -> Bounds:
        """The pair's infinite mass."""
        return _attainable(self.pair.infinite_mass, self.pair.attained)

    def delta(self, epsilon: Array) -> Bounds:
        """Return the pair's δ."""
        return _attainable(self.pair.delta(Bounds.exact(epsilon)), self.pair.attained)

    def ledger(self, epsilon: float) -> Ledger:
        """Return the rounding of floats, also where no neighbours attain the pair."""
        return rounding(self.pair.delta(Bounds.exact(epsilon)))

    def guess(self, delta: float) -> float:
        """Return s + 2 log(1 − δ) for a Laplace, else where the loss's tail is `delta` or less, above ε."""
        if isinstance(self.pair, LaplacePair):
            return float(self.pair.shift.upper) + 2.0 * math.log1p(-delta)
        return max(1e-9, self.pair.loss_range(min(max(delta, 1e-300), 0.5))[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersCurve(Curve):
    """δ(ε) of equal answers to two categories: 1 − (1 − d)^T + (1 − d)^T times that of the answers that leave doubt.

    Args:
        loss: l of one answer, to 4u.
        times: T.
        one_lost: the probability d that one answer gives everything away.
        attained: whether named neighbours have this pair.
    """

    loss: float
    times: int
    one_lost: Bounds
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """T l, infinite where an answer may give everything away."""
        return _supremum(
            float(self.times) * Bounds.exact(self.loss).inflate(4 * UNIT_ROUNDOFF), self.one_lost, self.attained
        )

    @property
    def lost(self) -> Bounds:
        """1 − (1 − d)^T."""
        return _attainable(self._lost, self.attained)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ: it rises with l, so between the ends of l's enclosure."""
        return _attainable(self._delta(epsilon), self.attained)

    def ledger(self, epsilon: float) -> Ledger:
        """Return the rounding of floats, also where no neighbours attain the pair."""
        return rounding(self._delta(np.array([epsilon]))[0])

    def guess(self, delta: float) -> float:
        """Solve for ε, with answers that leave doubt alone, in plain floats."""
        lost = float(self._lost.lower)
        doubt = (delta - lost) / (1.0 - lost) if lost < 1.0 else 0.0
        return inverse(self.times, self.loss, doubt) if 0.0 < doubt < 1.0 and self.loss > 0.0 else 1.0

    @property
    def _lost(self) -> Bounds:
        if self.one_lost.upper == 0.0:
            return Bounds.exact(0.0)
        return -expm1(float(self.times) * log1p(-self.one_lost)).clip(-1.0, 0.0)

    def _delta(self, epsilon: Array) -> Bounds:
        if self.one_lost.lower == 1.0:
            return Bounds.exact(np.ones_like(epsilon, dtype=np.float64))
        ends = Bounds.exact(self.loss).inflate(4 * UNIT_ROUNDOFF)
        lower = [excess(self.times, ends.lower, float(x)).lower for x in epsilon]
        upper = [excess(self.times, ends.upper, float(x)).upper for x in epsilon]
        doubt = Bounds(lower=np.array(lower), upper=np.array(upper))
        lost = self._lost
        return doubt if lost.upper == 0.0 else ((1.0 - lost) * doubt + lost).clip(0.0, 1.0)


def _curve(parts: Steps) -> Curve:
    (pair, times), *others = parts
    if others or isinstance(pair, GaussianPair):
        raise _refusal(pair)
    if times == 1 and not (isinstance(pair, DiscretePair) and is_answer(pair)):
        return SingleCurve(pair)
    if not isinstance(pair, DiscretePair) or not is_answer(pair) or times > MOST_ANSWERS:
        raise _refusal(pair)
    loss = max(pair.losses, default=0.0)
    return AnswersCurve(loss=loss, times=times, one_lost=pair.infinite_mass, attained=pair.attained)


def is_answer(pair: DiscretePair) -> bool:
    """Tell whether the losses are ±l alone, infinite ones as probable under P as under Q: then l and d say it all.

    For a + b = 1 − d and a e^{−l} + b e^l = 1 − d give a = b e^l.
    """
    losses = [loss for loss, mass in zip(pair.losses, pair.masses, strict=True) if mass.upper > 0]
    d = pair.infinite_mass
    if d.width > 0 or pair.missing_mass != d:
        return False
    if d.lower == 1.0:
        return True
    if len(losses) != 2 or losses[0] != -losses[1]:
        return False
    share = (1.0 - d) / (1.0 + exp(-Bounds.exact(losses[1]).inflate(4 * UNIT_ROUNDOFF)))
    return bool(pair.masses[pair.losses.index(losses[1])].overlaps(share))


def _supremum(largest: Bounds, infinite: Bounds, attained: bool) -> Bounds:
    lower = math.inf if infinite.lower > 0 else max(0.0, float(largest.lower))
    upper = math.inf if infinite.upper > 0 else max(0.0, float(largest.upper))
    return Bounds(lower=lower if attained else 0.0, upper=upper)


def _attainable(delta: Bounds, attained: bool) -> Bounds:
    return delta if attained else Bounds(lower=0.0 * delta.upper, upper=delta.upper)


def _refusal(pair: DominatingPair) -> UnsupportedProcess:
    kind, other = type(pair).__name__, "gdp" if isinstance(pair, GaussianPair) else "pld"
    return UnsupportedProcess(
        "closed_form: covers one step, or equal answers to two categories (RandomizedResponse, PureDP, ApproximateDP), "
        f"got more, {kind} among them, or a Gaussian. Use accountant={other!r}."
    )
