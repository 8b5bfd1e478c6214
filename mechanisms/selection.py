"""Selection: the best of a random number of private runs, as when hyper-parameters are tuned on the private data.

[PS22], [LT19] see `mechanisms.core.stopping`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mechanisms.approximate_dp import guaranteed
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Pairs, Process, checked, leaves
from mechanisms.core.randomness import KeyedSource, Source, SystemSource
from mechanisms.core.renyi_steps import renyi_steps
from mechanisms.core.selected import KnownRun, Selected
from mechanisms.core.stopping import STREAM, Stopping

KEY_WORDS = 8


@dataclass(frozen=True, slots=True)
class Selection(Process):
    """The best of K independent runs of `part`, by a score that is part of what a run shows; K is random and hidden.

    Choosing among a *fixed* number of runs by their scores shows more than one run does, and nothing here prices it.
    With K from a law of long tail, the best run costs little more than one, whatever it is that is scored [LT19, PS22]:
    two to three times the ε of one run, and not the many times of all that were made.

    One run is the whole of what is tuned: it draws its hyper-parameters at random from public candidates, trains, and
    scores itself by private means, all inside `part`. Its neighbours are those of `part`.

    Args:
        part: one run.
        runs: the law of K: `TruncatedNegativeBinomial(eta=, gamma=)` or `PoissonRuns(runs=)`.

    Raises:
        InvalidParameter: if the part is no process or `runs` no law of a number of runs.

    >>> from mechanisms import PureDP
    >>> from mechanisms.core.stopping import TruncatedNegativeBinomial
    >>> tuned = Selection(PureDP(epsilon=0.5, adjacency="add_remove"), TruncatedNegativeBinomial(eta=1.0, gamma=0.01))
    >>> round(tuned.pairs(Adjacency.ADD_REMOVE)["remove"].supremum.upper, 12)  # 3ε
    1.5
    """

    part: Process
    runs: Stopping

    def __post_init__(self) -> None:
        checked("Selection", self.part)
        if not isinstance(self.runs, Stopping):
            raise InvalidParameter(
                f"Selection: runs must be the law of a random number, got {self.runs!r}.\n"
                "A fixed number of runs has no such bound. Use TruncatedNegativeBinomial.of_mean(10, eta=0.0)."
            )

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return randomised response at the ε of the best run, where one run is ε-differentially private.

        Raises:
            UnsupportedProcess: where it is not: then only Rényi divergences are known.
        """
        found = self.renyi(adjacency).divergence(math.inf)
        if not math.isfinite(found):
            raise UnsupportedProcess(
                "Selection: no dominating pair is known for the best of several runs whose loss has no bound. "
                "Use accountant='rdp'."
            )
        pairs = guaranteed(self, found, 0.0, stated=adjacency, asked=adjacency)
        return {direction: _not_attained(pair) for direction, pair in pairs.items()}

    def renyi(self, adjacency: Adjacency) -> Selected:
        """Return the bound of the theorem for the law of K, from the divergences of one run in both orders.

        Raises:
            UnsupportedProcess: if neither a pair nor a Rényi bound of a step of `part` is known.
        """
        steps = renyi_steps(self.part, adjacency)
        directions = tuple(steps[direction] for direction in adjacency.directions)
        return Selected(run=KnownRun(directions=directions, pairs=_pairs(self.part, adjacency)), runs=self.runs)

    def release(self, run: Callable[[Source], tuple[float, Any]], *, randomness: Source) -> tuple[float, Any] | None:
        """Return score and output of the best of K runs, the first of equals; None where K is 0.

        Guarantees: K has its law exactly. Every run gets a source of its own. A score that is NaN counts as the least.
        Neither K nor any other run is returned; the time that the runs take tells of K, and no claim covers who can
        measure it.

        Args:
            run: one run of `part`: from its source to (score, output), both of them covered by the guarantee of `part`.
                Every call must be the same random experiment: which candidate it tries is drawn inside, from the
                source, and nothing is kept from one call to the next.
            randomness: a `SystemSource` for real releases.

        Raises:
            NumericalFailure: if the law asks for more than 10^7 runs on average.

        >>> from mechanisms import KeyedSource, PureDP
        >>> from mechanisms.core.stopping import PoissonRuns
        >>> tuned = Selection(PureDP(epsilon=0.5, adjacency="add_remove"), PoissonRuns(runs=5.0))
        >>> tuned.release(lambda source: (0.5, "model"), randomness=KeyedSource(0))
        (0.5, 'model')
        """
        best: tuple[float, Any] | None = None
        most = -math.inf
        for _ in range(self.runs.draw(randomness)):
            score, output = run(_fresh(randomness))
            rank = _rank(score)
            if best is None or rank > most:
                best, most = (score, output), rank
        return best


def _rank(score: float) -> float:
    try:
        value = float(score)
    except (TypeError, ValueError, OverflowError):  # whose text may quote it
        raise InvalidParameter("Selection: a run's score must be a number that fits a double.") from None
    return -math.inf if math.isnan(value) else value


def _fresh(randomness: Source) -> Source:
    """Return a source that no other run has: one that counts its own steps would draw the same noise in each."""
    if not randomness.reproducible:
        return SystemSource()
    start = randomness.reserve(f"{STREAM}.runs", KEY_WORDS)
    return KeyedSource(randomness.words(f"{STREAM}.runs", start, KEY_WORDS).tobytes())


def _not_attained(pair: DominatingPair) -> DominatingPair:
    return replace(pair, attained=False) if isinstance(pair, DiscretePair) else pair


def _pairs(part: Process, adjacency: Adjacency) -> tuple[DominatingPair, ...]:
    """Return pairs of the whole run where they have a closed form."""
    if not leaves(part):
        return ()
    try:
        pairs = part.pairs(adjacency)
    except UnsupportedProcess:
        return ()
    return tuple(pairs[direction] for direction in adjacency.directions)
