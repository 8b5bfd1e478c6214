"""What a privacy profile means to an attacker: how well membership, attributes and records can be guessed.

All follow from the trade-off function f of the process, or from the profile δ(ε) that it is equivalent to. Upper ends
of an attacker's success (lower ends of her errors) hold for every attack on every two neighbours, in either order. The
other ends are what attacks on some neighbours do, where the profile has lower ends at all. f is convex: where it is the
straight line between the curves of the two orders, one order alone may fall a little short of it.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[YGFJ18] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha. Privacy Risk in Machine Learning. CSF 2018. arXiv:1709.01604.
[BCH22] B. Balle, G. Cherubin, J. Hayes. Reconstructing Training Data with Informed Adversaries. IEEE S&P 2022.
arXiv:2201.04845.
[HMB23] J. Hayes, S. Mahloujifar, B. Balle. Bounding Training Data Reconstruction in DP-SGD. NeurIPS 2023.
arXiv:2302.07225.
[K25] B. Kulynych, J. F. Gomez, G. Kaissis, J. Hayes, B. Balle, F. P. Calmon, J. L. Raisaro. Unifying
Re-Identification, Attribute Inference, and Data Reconstruction Risks in Differential Privacy. NeurIPS 2025.
arXiv:2507.06969.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from accountant.closed_form import SingleCurve
from accountant.core.profile import Claim, Profile
from mechanisms.approximate_dp import ApproximateDP
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, log, where
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency

WHOLE = 1e-9  # how far the probabilities of a prior may sum from 1
LARGEST = 750.0  # above log(1 − π) − log π for every float π > 0


def advantage(given: Profile | Claim) -> Bounds:
    """Enclose the largest true minus false positive rate of a membership test:  max_α 1 − α − f(α) = δ(0)    [YGFJ18].

    Args:
        given: a profile, or bounds of ε at a δ (or of δ at an ε), which stand for any process with that guarantee.

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> advantage(profile).contains(0.38292492254802621)
    True
    """
    return _delta(_profile(given), Bounds.exact(0.0))


def true_positive_rate(given: Profile | Claim, *, false_positive_rate: ArrayLike) -> Bounds:
    """Enclose the largest share of members that a test finds at this rate of false alarms:  1 − f(α)          [DRS22].

    Args:
        given: see `advantage`.
        false_positive_rate: α in [0, 1], a number or an array.

    Raises:
        InvalidParameter: if an α lies outside [0, 1].
        NumericalFailure: if the accountant's budget does not suffice.

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> round(1 - true_positive_rate(profile, false_positive_rate=0.01).upper, 11)
    0.90763775193
    """
    levels = _probabilities("true_positive_rate", "false_positive_rate", false_positive_rate)
    return (1.0 - _profile(given).tradeoff(levels)).clip(levels, 1.0)


def precision(given: Profile | Claim, *, false_positive_rate: ArrayLike, prior: ArrayLike) -> Bounds:
    """Enclose the largest share of members among those that a test calls members:  π β / (π β + (1 − π) α).

    Here β = 1 − f(α) is the true positive rate.

    Args:
        given: see `advantage`.
        false_positive_rate: α in (0, 1], a number or an array.
        prior: the share π of members among all, in [0, 1], a number or an array that fits.

    Raises:
        InvalidParameter: if a number is no probability, or an α is 0: then nothing need be called a member.

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> round(precision(profile, false_positive_rate=0.01, prior=0.1).upper, 4)
    0.5065
    """
    share = Bounds.exact(_probabilities("precision", "prior", prior))
    levels = _probabilities("precision", "false_positive_rate", false_positive_rate)
    if not np.all(levels > 0):
        raise InvalidParameter("precision: false_positive_rate must be above 0, as at 0 nothing need be called.")
    caught = share * true_positive_rate(given, false_positive_rate=levels)
    return _share(caught, (1.0 - share) * levels)


def bayes_error(given: Profile | Claim, *, prior: ArrayLike = 0.5) -> Bounds:
    """Enclose the least probability of guessing wrong which of two neighbours was used, the one having this prior.

        min_α  π f(α) + (1 − π) α  =  min(π, 1 − π) (1 − δ(|log(1 − π) − log π|)),

    as 1 − δ(ε) = min_α f(α) + e^ε α. It is largest, (1 − δ(0)) / 2, at π = 1/2.

    Args:
        given: see `advantage`.
        prior: π in [0, 1], a number or an array.

    Raises:
        InvalidParameter: if a prior lies outside [0, 1].

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> bayes_error(profile).contains((1 - 0.38292492254802621) / 2)
    True
    """
    chosen = _probabilities("bayes_error", "prior", prior)
    small = where(chosen <= 0.5, Bounds.exact(chosen), 1.0 - Bounds.exact(chosen)).clip(0.0, 0.5)
    odds = (log(1.0 - small) - log(small)).clip(0.0, LARGEST)
    certain = (chosen == 0.0) | (chosen == 1.0)
    error = (small * (1.0 - _delta(_profile(given), odds))).clip(0.0, small.upper)
    return where(certain, Bounds.exact(np.zeros_like(chosen)), error)


def posterior(given: Profile | Claim, *, prior: ArrayLike) -> Bounds:
    """Enclose the largest probability that any output gives a membership of this prior:  π / (π + (1 − π) e^{−ε(0)}).

    It is 1 wherever the loss is unbounded, as for a Gaussian: rare outputs may reveal everything. `precision` says how
    well whole sets of outputs do.

    Args:
        given: see `advantage`.
        prior: π in [0, 1], a number or an array.

    Raises:
        InvalidParameter: if a prior lies outside [0, 1].

    >>> from accountant.closed_form import ClosedForm
    >>> from mechanisms import Laplace
    >>> profile = ClosedForm().profile(Laplace(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> round(posterior(profile, prior=0.5).upper, 6)
    0.731059
    """
    share = Bounds.exact(_probabilities("posterior", "prior", prior))
    largest = _profile(given).epsilon(0.0)
    kept = exp(-Bounds(lower=largest.lower, upper=largest.upper))
    return _share(share, (1.0 - share) * kept).clip(share.lower, 1.0)


def reconstruction(given: Profile | Claim, *, prior_success: ArrayLike) -> Bounds:
    """Enclose the largest probability of reconstructing a record well, by what it is without the output:  1 − f(κ).

    κ is the probability of the best guess without seeing the output: the largest prior mass of the records that one
    guess reconstructs well [BCH22]. Let D_z hold the record z, and D none (or a fixed one). The sets S_z of outputs
    whose guess is good for z have E_z Pr[M(D) ∈ S_z] <= κ, as the guess then knows nothing of z, and Pr[M(D_z) ∈ S_z]
    <= 1 − f(Pr[M(D) ∈ S_z]), which is concave: average over z. This is the blow-up bound of [HMB23], see also [K25].

    Args:
        given: see `advantage`. Under add_remove or zero_out D lacks the record, under replace_one it is a fixed one.
        prior_success: κ in [0, 1], a number or an array.

    Guarantees: the upper end holds for attackers who know all other records. The lower end is κ: guessing blindly.

    Raises:
        InvalidParameter: if a κ lies outside [0, 1].

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> round(reconstruction(profile, prior_success=0.01).upper, 4)
    0.0924
    """
    blind = _probabilities("reconstruction", "prior_success", prior_success)
    seen = true_positive_rate(given, false_positive_rate=blind)
    return Bounds(lower=Bounds.exact(blind).lower, upper=seen.upper)


def attribute_inference(given: Profile | Claim, *, prior: ArrayLike) -> Bounds:
    """Enclose the largest probability of guessing one attribute of a record, all else known:  1 − f(max_v π_v).

    Attribute inference as in [YGFJ18], the bound as in [K25]: it is `reconstruction` of the attribute. Two values under
    replace_one are neighbours themselves, so that the guess is a test between them: 1 − `bayes_error`, of which both
    ends are known. The attribute advantage is what exceeds max_v π_v, the success of the best blind guess.

    Args:
        given: see `advantage`.
        prior: how many values there are, all equally likely, or the probabilities π_v of the values, shape (k,).

    Raises:
        InvalidParameter: if there is no value, or the probabilities are none or do not sum to 1.

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=2.0), adjacency=Adjacency.REPLACE_ONE)
    >>> attribute_inference(profile, prior=2).contains((1 + 0.38292492254802621) / 2)
    True
    """
    best, values = _best_guess(prior)
    if values == 2 and given.adjacency is Adjacency.REPLACE_ONE:
        ends = [1.0 - bayes_error(given, prior=max(end, 0.5)) for end in (best.lower, best.upper)]
    else:
        ends = [reconstruction(given, prior_success=end) for end in (best.lower, best.upper)]
    return Bounds(lower=max(ends[0].lower, best.lower), upper=ends[1].upper)


def _best_guess(prior: ArrayLike) -> tuple[Bounds, int]:
    """Enclose the probability of the likeliest value, and count the values that may occur."""
    if not np.ndim(prior):
        values = validate.count("attribute_inference", "prior", prior, least=1)
        return (1.0 / Bounds.exact(float(values))).clip(0.0, 1.0), values
    chances = _probabilities("attribute_inference", "prior", prior)
    total = math.fsum(np.ravel(chances))
    if chances.ndim != 1 or abs(total - 1.0) > WHOLE:
        raise InvalidParameter(
            f"attribute_inference: prior must be a list of probabilities that sum to 1, got {total}."
        )
    largest = Bounds.exact(float(np.max(chances))) / Bounds.exact(total).inflate(UNIT_ROUNDOFF)
    return largest.clip(0.0, 1.0), int(np.count_nonzero(chances))


def _profile(given: Profile | Claim) -> Profile:
    """Return the profile itself; of a guarantee, that of all processes which keep it, without lower ends."""
    if isinstance(given, Profile):
        return given
    if not isinstance(given, Claim):
        raise InvalidParameter(f"risk: expected a Profile or bounds of epsilon or delta, got {type(given).__name__}.")
    epsilon = float(given.upper) if given.quantity == "epsilon" else given.at
    known = np.isfinite(epsilon)
    guarantee = ApproximateDP(
        epsilon=epsilon if known else 0.0, delta=given.delta if known else 1.0, adjacency=given.adjacency
    )
    curves = tuple(
        (direction, SingleCurve(pair=replace(cast(DiscretePair, pair), attained=False)))
        for direction, pair in guarantee.pairs(given.adjacency).items()
    )
    return Profile(curves=curves, adjacency=given.adjacency, method=given.method)


def _delta(profile: Profile, epsilon: Bounds) -> Bounds:
    """Enclose δ at enclosed ε: it falls."""
    shape = np.shape(epsilon.lower)
    found = profile.delta(np.concatenate([np.ravel(epsilon.lower), np.ravel(epsilon.upper)]))
    half = len(found.lower) // 2
    lower, upper = np.minimum(found.lower[half:], found.upper[:half]), found.upper[:half]
    return (
        Bounds(lower=lower.reshape(shape), upper=upper.reshape(shape)) if shape else Bounds(lower=lower, upper=upper)[0]
    )


def _share(part: Bounds, rest: Bounds) -> Bounds:
    """Enclose part / (part + rest), rising with the part and falling with the rest."""
    least = Bounds.exact(part.lower) / (Bounds.exact(part.lower) + Bounds.exact(rest.upper))
    most = Bounds.exact(part.upper) / (Bounds.exact(part.upper) + Bounds.exact(rest.lower))
    return Bounds(lower=least.clip(0.0, 1.0).lower, upper=most.clip(0.0, 1.0).upper)


def _probabilities(owner: str, name: str, value: ArrayLike) -> Array:
    checked = [validate.probability(owner, name, one) for one in np.ravel(value)]
    return np.array(checked).reshape(np.shape(value))
