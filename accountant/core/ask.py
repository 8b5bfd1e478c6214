"""The convenience calls: from plain keywords to a certified answer."""

from __future__ import annotations

from functools import cache

from accountant.core.base import Accountant, available
from accountant.core.estimate import Estimate
from accountant.core.profile import Claim, Profile
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process, Repeat, Sampled
from mechanisms.core.sampling import Poisson
from mechanisms.gaussian import Gaussian


def compute_epsilon(
    process: Process | None = None,
    *,
    delta: float,
    noise_multiplier: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return an ε for which the process is certified to be (ε, delta)-differentially private.

    The process is given either as one, or as the three numbers of DP-SGD: `steps` steps of the Gaussian mechanism on
    Poisson samples.

    Args:
        process: any `Process`.
        delta: δ in [0, 1].
        noise_multiplier: noise standard deviation ÷ clipping norm, >= 0.
        sample_rate: probability with which a record takes part in a step, in [0, 1].
        steps: number of steps, a whole number >= 0.
        adjacency: "add_remove" (the default here, and only here), "replace_one" or "zero_out".
        accountant: a name of `available()`, or an accountant with settings of its own.

    Guarantees: an upper end, rounded up; inf where no finite ε is certified.

    Raises:
        InvalidParameter: if a value breaks its rule, or the process is given twice or not at all.
        UnsupportedProcess: if the accountant has no theorem for this process and adjacency.

    >>> round(compute_epsilon(noise_multiplier=1.1, sample_rate=0.01, steps=10_000, delta=1e-5), 3)
    5.193
    """
    given = stated(process, noise_multiplier, sample_rate, steps)
    level = validate.probability("accountant", "delta", delta)
    return float(_profile(given, adjacency, accountant).epsilon(level).upper)


def epsilon_bounds(
    process: Process | None = None,
    *,
    delta: float,
    noise_multiplier: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> Claim:
    """Return certified bounds lower <= ε <= upper, with the accountant that gave them and its error ledger.

    Arguments and errors are those of `compute_epsilon`. The ε enclosed is the smallest that holds for every mechanism
    and every pair of neighbours that fit the description; a lower end of 0 says that none is known.

    >>> from mechanisms import Gaussian
    >>> bounds = epsilon_bounds(Gaussian(noise_multiplier=1.0), delta=1e-5)
    >>> bounds.contains(4.3771780956812246), bounds.method
    (True, 'gdp')
    """
    given = stated(process, noise_multiplier, sample_rate, steps)
    return _profile(given, adjacency, accountant).epsilon(validate.probability("accountant", "delta", delta))


def compute_delta(
    process: Process | None = None,
    *,
    epsilon: float,
    noise_multiplier: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return a δ for which the process is certified to be (epsilon, δ)-differentially private, for epsilon >= 0.

    Arguments and errors are those of `compute_epsilon`.

    >>> from mechanisms import Gaussian
    >>> round(compute_delta(Gaussian(noise_multiplier=1.0), epsilon=1.0), 6)
    0.126937
    """
    given = stated(process, noise_multiplier, sample_rate, steps)
    level = validate.non_negative("accountant", "epsilon", epsilon)
    return float(_profile(given, adjacency, accountant).delta(level).upper)


def delta_bounds(
    process: Process | None = None,
    *,
    epsilon: float,
    noise_multiplier: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> Claim:
    """Return certified bounds lower <= δ <= upper at this ε. Arguments and errors are those of `compute_delta`.

    >>> from mechanisms import Gaussian
    >>> delta_bounds(Gaussian(noise_multiplier=1.0), epsilon=1.0).contains(0.1269367375066439458)
    True
    """
    given = stated(process, noise_multiplier, sample_rate, steps)
    return _profile(given, adjacency, accountant).delta(validate.non_negative("accountant", "epsilon", epsilon))


def estimate_epsilon(
    process: Process | None = None,
    *,
    delta: float,
    noise_multiplier: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "gdp",
) -> Estimate:
    """Return about the ε of the process, from an approximation that bounds nothing: for comparison, never to promise.

    Arguments and errors are those of `compute_epsilon`; `accountant` must be one that estimates.

    >>> found = estimate_epsilon(noise_multiplier=0.5, sample_rate=0.01, steps=1000, delta=1e-5)
    >>> f"{found.value:.2f} by {found.method}; certified is 13.36"
    '11.99 by gdp; certified is 13.36'
    """
    given = stated(process, noise_multiplier, sample_rate, steps)
    return named(accountant).estimate(given, delta=delta, adjacency=Adjacency.parse(adjacency))


def dp_sgd(*, noise_multiplier: float, sample_rate: float, steps: int) -> Repeat:
    """Return the process of DP-SGD: `steps` Gaussian steps, each on a Poisson sample of its own.

    >>> dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=2).times
    2
    """
    hint = "If it is an expected batch size, divide it by the number of records."
    rate = validate.probability("DP-SGD", "sample_rate", sample_rate, hint)
    gaussian = Gaussian(noise_multiplier=validate.non_negative("DP-SGD", "noise_multiplier", noise_multiplier))
    return Repeat(Sampled(gaussian, Poisson(probability=rate)), validate.count("DP-SGD", "steps", steps))


def named(accountant: str | Accountant) -> Accountant:
    """Return the accountant of that name with its default settings, or the given one itself.

    Raises:
        InvalidParameter: if there is none of that name; the message lists them.
    """
    if isinstance(accountant, Accountant):
        return accountant
    kinds = _installed()
    return kinds[validate.choice("accountant", "name", accountant, tuple(kinds))]()


@cache
def _installed() -> dict[str, type[Accountant]]:
    return available()  # which looks into files


def _profile(process: Process, adjacency: str, accountant: str | Accountant) -> Profile:
    return named(accountant).profile(process, adjacency=Adjacency.parse(adjacency))


def stated(
    process: Process | None, noise_multiplier: float | None, sample_rate: float | None, steps: int | None
) -> Process:
    """Return the process itself or, by its keywords, DP-SGD.

    Raises:
        InvalidParameter: if both are given, or neither, or not all keywords.
    """
    numbers = {"noise_multiplier": noise_multiplier, "sample_rate": sample_rate, "steps": steps}
    missing = [name for name, value in numbers.items() if value is None]
    if process is not None:
        if len(missing) < len(numbers):
            raise InvalidParameter("accountant: give either a process or the keywords of DP-SGD, not both.")
        if not isinstance(process, Process):
            raise InvalidParameter(f"accountant: process must be a Process such as Gaussian(...), got {process!r}.")
        return process
    if noise_multiplier is None or sample_rate is None or steps is None:
        raise InvalidParameter(f"accountant: give a process, or all keywords of DP-SGD; missing: {', '.join(missing)}.")
    return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
