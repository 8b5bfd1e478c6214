"""What an auditor reads from the description of a run: its Gaussian steps, and how their records are sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from mechanisms import (
    Allocated,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    MatrixMechanism,
    PerUser,
    Poisson,
    Process,
    Repeat,
    Sampled,
    Shuffled,
    Tree,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
    leaves,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledGaussianRun:
    """`steps` releases of a sum over Poisson samples plus normal noise: what DP-SGD is to an auditor.

    Args:
        noise_multiplier: σ, standard deviation of the noise ÷ largest norm of a record's contribution.
        probability: q, with which a record takes part in a step.
        steps: T.
    """

    noise_multiplier: float
    probability: float
    steps: int

    @classmethod
    def of(cls, process: Process) -> SampledGaussianRun:
        """Return the run that `process` describes.

        Raises:
            UnsupportedProcess: if it is anything but one Gaussian, Poisson-sampled or not, repeated.

        >>> SampledGaussianRun.of(Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.5)), 100))
        SampledGaussianRun(noise_multiplier=2.0, probability=0.5, steps=100)
        """
        parts = leaves(process)
        leaf, steps = parts[0] if len(parts) == 1 else (process, 0)
        probability = 1.0
        if isinstance(leaf, Sampled) and isinstance(leaf.sampling, Poisson):
            probability, leaf = leaf.sampling.probability, leaf.part
        if not steps or not isinstance(leaf, Gaussian):
            raise UnsupportedProcess(
                f"audit: the process must be one Gaussian step on Poisson samples, repeated, got {process!r}.\n"
                "Audit it as Repeat(Sampled(Gaussian(noise_multiplier=...), Poisson(probability=...)), steps)."
            )
        return cls(noise_multiplier=leaf.noise_multiplier, probability=probability, steps=steps)

    def first(self, steps: int) -> Process:
        """Return the description of the first `steps` >= 1 of them."""
        return replace(self, steps=steps).process()

    def process(self) -> Process:
        """Return the description for an accountant."""
        step = Sampled(Gaussian(noise_multiplier=self.noise_multiplier), Poisson(probability=self.probability))
        return Repeat(step, self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianRun:
    """`steps` releases of a sum over drawn records plus normal noise of one σ, however the records are drawn.

    Args:
        process: the description.
        noise_multiplier: σ, standard deviation of the noise ÷ largest norm of a record's contribution.
        steps: T.
        participations: how many times a record takes part in all steps on average; of records that a scheme passes over
            when they do not share out evenly, or a cut that depends on their undeclared number, it knows nothing.
    """

    process: Process
    noise_multiplier: float
    steps: int
    participations: float

    @classmethod
    def of(cls, process: Process) -> GaussianRun:
        """Return the run that `process` describes.

        Raises:
            UnsupportedProcess: if it is anything but Gaussian steps of one σ on records that are drawn.

        >>> step = Sampled(Gaussian(noise_multiplier=2.0), FixedSize(batch_size=5, records=20))
        >>> run = GaussianRun.of(Repeat(step, 8))
        >>> run.noise_multiplier, run.steps, run.participations
        (2.0, 8, 2.0)
        """
        parts = leaves(process.part if isinstance(process, PerUser) else process)
        taken = [(_participations(leaf), times) for leaf, times in parts]
        found = None if any(number is None for number, _ in taken) else gaussian_steps(process)
        if found is None or not found[1]:
            raise UnsupportedProcess(
                "audit: the process must be Gaussian steps of one noise multiplier on records that are drawn, got "
                f"{process!r}.\nOnly then does noise of one size, drawn anew, stand in every release: what cancels "
                "over the steps would have to be whitened first."
            )
        total = sum(times * number for number, times in taken if number is not None)
        return cls(process=process, noise_multiplier=found[0], steps=found[1], participations=float(total))

    def with_noise(self, noise_multiplier: float) -> Process:
        """Return the description with this noise in its place."""
        return _with_noise(self.process, noise_multiplier)


def gaussian_run(process: Process) -> GaussianRun | None:
    """Return the run described, None where it is none of one noise on records that are drawn."""
    try:
        return GaussianRun.of(process)
    except UnsupportedProcess:
        return None


def described_poisson(process: Process) -> SampledGaussianRun | None:
    """Return the run described where it is one of equal Gaussian steps on Poisson samples, else None."""
    try:
        return SampledGaussianRun.of(process)
    except UnsupportedProcess:
        return None


def _participations(leaf: Process) -> float | None:
    """Return how many times a record takes part in a leaf on average, None where that is not known."""
    match leaf:
        case Gaussian():
            return 1.0
        case Sampled(part=Gaussian(), sampling=Poisson(probability=probability)):
            return probability
        case Sampled(part=Gaussian(), sampling=FixedSize() | WithReplacement() as drawn):
            return drawn.batch_size / drawn.records
        case Sampled(part=Gaussian(), sampling=TruncatedPoisson() as cut):
            if cut.records is None:
                return cut.probability
            return truncated_participation(cut.probability, cut.largest_batch, cut.records)
        case Allocated(part=Repeat(part=Gaussian()), sampling=Shuffled() | BallsInBins()):
            return 1.0
    return None


def truncated_participation(probability: float, largest: int, units: int) -> float:
    """Return E[min(Bin(n, q), largest)] / n, how often each of n units takes part in a Poisson sample that is cut."""
    least = np.arange(1, min(largest, units) + 1)
    return float(special.betainc(least, units - least + 1, probability).sum()) / units


def _with_noise(process: Process, noise_multiplier: float) -> Process:
    match process:
        case Gaussian():
            return Gaussian(noise_multiplier=noise_multiplier)
        case Compose():
            return Compose(tuple(_with_noise(part, noise_multiplier) for part in process.parts))
        case Allocated():
            repeated = Repeat(_with_noise(process.part.part, noise_multiplier), process.part.times)
            return Allocated(repeated, process.sampling)
        case Repeat() | Sampled() | PerUser():
            return replace(process, part=_with_noise(process.part, noise_multiplier))
    raise UnsupportedProcess(f"audit: the process must be made of Gaussian steps, got {process!r}.")


def released_steps(process: Process) -> int | None:
    """Return how many noisy sums the described run releases, None where the description does not say.

    >>> released_steps(Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.5)), 100))
    100
    """
    if isinstance(process, PerUser):
        return released_steps(process.part)
    numbers = [(_sums(leaf), times) for leaf, times in leaves(process)]
    if not numbers or any(sums is None for sums, _ in numbers):
        return None
    return sum(times * sums for sums, times in numbers if sums is not None)


def _sums(leaf: Process) -> int | None:
    if isinstance(leaf, (MatrixMechanism, Tree)):
        return leaf.steps
    if isinstance(leaf, Allocated):
        return leaf.part.times if isinstance(leaf.part, Repeat) else None
    return 1 if isinstance(leaf.part if isinstance(leaf, Sampled) else leaf, Gaussian) else None


def check_gaussian(owner: str, process: Process) -> None:
    """Refuse, for an estimator that tests μ-GDP, a process that has another trade-off curve.

    Raises:
        UnsupportedProcess: if it is anything but Gaussian mechanisms, composed and not sampled.
    """
    if not all(isinstance(leaf, Gaussian) for leaf, _ in leaves(process)):
        raise UnsupportedProcess(
            f"{owner}: the process must be Gaussian mechanisms, composed and not sampled, got {process!r}.\n"
            "Others have no Gaussian trade-off curve: use an estimator that needs no description."
        )


def gaussian_steps(process: Process) -> tuple[float, int] | None:
    """Return (σ, T) where the process is T noisy sums of one σ, however their records are sampled; else None.

    >>> from mechanisms import BallsInBins
    >>> gaussian_steps(Repeat(Allocated(Repeat(Gaussian(noise_multiplier=2.0), 10), BallsInBins()), 3))
    (2.0, 30)
    """
    steps = released_steps(process)
    inner = process.part if isinstance(process, PerUser) else process
    found = {_gaussian(leaf) for leaf, _ in leaves(inner)}
    noise = found.pop() if len(found) == 1 else None
    return None if noise is None or steps is None else (noise, steps)


def _gaussian(leaf: Process) -> float | None:
    while isinstance(leaf, (Allocated, Sampled, Repeat)):
        leaf = leaf.part
    return leaf.noise_multiplier if isinstance(leaf, Gaussian) else None
