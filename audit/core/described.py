"""What an auditor reads from the description of a run: its Gaussian steps on Poisson samples, or their mere number."""

from __future__ import annotations

from dataclasses import dataclass

from mechanisms import Allocated, Gaussian, PerUser, Poisson, Process, Repeat, Sampled, UnsupportedProcess, leaves


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

    def process(self) -> Process:
        """Return the description for an accountant."""
        step = Sampled(Gaussian(noise_multiplier=self.noise_multiplier), Poisson(probability=self.probability))
        return Repeat(step, self.steps)


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
