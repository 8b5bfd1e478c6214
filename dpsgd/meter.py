"""What a run has spent so far, asked for at steps that are fixed before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accountant import available, compute_epsilon
from accountant.rdp import RDP
from dpsgd.config import DPSGD
from dpsgd.core.schemes import check_neighbours
from dpsgd.cyclic import Cyclic
from dpsgd.independent_laws import LatticeGaussian
from mechanisms import NumericalFailure, Poisson, UnsupportedProcess
from mechanisms.core import validate
from mechanisms.core.process import Adjacency

ANSWERS = 10
QUICK = (Poisson, Cyclic)
ORDERS = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """At which δ, for which neighbours and how often a progress bar and logs say what has been spent.

    Args:
        delta: in (0, 1).
        adjacency: which datasets are neighbours; "add_remove" unless another is named.
        every: steps from one answer to the next, >= 1; None for ten answers in a run.

    Guarantees: every answer is certified. The one after the last step planned is the tightest there is; so are those
    before it for Poisson samples and Cyclic batches, which take about 10 ms. The best accountants of other schemes take
    10 s: there answers on the way are by Rényi divergences of a few orders, up to about a third higher, or there is
    none. An answer holds for a run that was to end there from the beginning. One that somebody ends because of
    what it has shown has the guarantee of all the steps planned, see `dpsgd.callbacks`.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> from mechanisms import Poisson
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=600, steps=1000, learning_rate=0.5)
    >>> round(Meter(delta=1e-5).epsilon(config, 1000), 3)
    1.828
    """

    delta: float
    adjacency: str = "add_remove"
    every: int | None = None

    def __post_init__(self) -> None:
        delta = validate.positive("Meter", "delta", validate.probability("Meter", "delta", self.delta))
        object.__setattr__(self, "delta", delta)
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency).value)
        if self.every is not None:
            object.__setattr__(self, "every", validate.count("Meter", "every", self.every, least=1))

    def check(self, config: DPSGD) -> None:
        """Refuse, without pricing it, a run for which there would be no answer.

        Raises:
            InvalidParameter: if these neighbours differ in a number that is public.
            UnsupportedProcess: if there is no theorem for the scheme and these neighbours.
        """
        process = config.process()
        check_neighbours("Meter", process, self.adjacency)
        if not available()["tightest"]().supports(process, Adjacency.parse(self.adjacency)):
            raise UnsupportedProcess(
                f"Meter: there must be a theorem for {process!r} and neighbours by {self.adjacency!r}, and there is "
                "none.\nName other neighbours, or give no meter."
            )

    def quick_epsilon(self, config: DPSGD, executed: int) -> float | None:
        """Return a certified ε of the first `executed` steps that takes no time to speak of, None where none does.

        Raises:
            InvalidParameter: if these neighbours differ in a number that is public.
        """
        if isinstance(config.sampling, QUICK) and not isinstance(config.noise, LatticeGaussian):
            return self.epsilon(config, executed)
        process = config.process_after(executed)
        check_neighbours("Meter", process, self.adjacency)
        try:
            profile = RDP(orders=ORDERS).profile(process, adjacency=Adjacency.parse(self.adjacency))
            found = float(profile.epsilon(self.delta).upper)
        except (NumericalFailure, UnsupportedProcess):
            return None
        return found if math.isfinite(found) else None

    def epsilon(self, config: DPSGD, executed: int) -> float | None:
        """Return the certified ε of the first `executed` steps, None where none is found.

        Raises:
            InvalidParameter: if these neighbours differ in a number that is public.
            UnsupportedProcess: if there is no theorem for the scheme and these neighbours.
        """
        process = config.process_after(executed)
        check_neighbours("Meter", process, self.adjacency)
        try:
            return compute_epsilon(process, delta=self.delta, adjacency=self.adjacency)
        except NumericalFailure:  # what is only shown ends no run
            return None


def is_due(executed: int, *, every: int | None, steps: int) -> bool:
    """Tell whether to report after so many steps of a run of `steps`; always after the last.

    >>> [executed for executed in range(1, 101) if is_due(executed, every=40, steps=100)]
    [40, 80, 100]
    """
    return executed == steps or executed % (every or math.ceil(steps / ANSWERS)) == 0
