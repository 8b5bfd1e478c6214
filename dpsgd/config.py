"""The one object that says how a private training runs: the trainer executes it, `process()` prices it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from dpsgd import clipping as clippings
from dpsgd.clipping import FLAT, Clipping
from dpsgd.core import noise_laws, protected, schemes
from dpsgd.core.noise_laws import INDEPENDENT, Noise
from dpsgd.core.schemes import Scheme
from dpsgd.cyclic import Cyclic
from dpsgd.independent_laws import IndependentGaussian, RoundedGaussian
from mechanisms import InvalidParameter, Poisson, Process, __version__
from mechanisms.core import validate
from mechanisms.core.documents import read_document

SCHEMA = "dp-calipers/config/1"
BATCH_HINT = (
    "It is public and the only divisor of the noisy sums: write probability · (a public figure for the number of "
    "records).\nNever compute it from the dataset: its exact size is private under add/remove neighbours."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DPSGD:
    """Differentially private stochastic gradient descent: what a run is, before it runs.

    Each of `steps` times, with g_i the gradient of record i's loss and C = max_grad_norm,        [ACG16, Alg 1]

        noisy_sum = Σ_sampled g_i min(1, C / ‖g_i‖) + N(0, (noise_multiplier · C)² I)
        w ← w − learning_rate · noisy_sum / expected_batch_size

    Args:
        noise_multiplier: standard deviation of the noise ÷ max_grad_norm, >= 0; 0 protects nothing.
        max_grad_norm: bound on the Euclidean norm of one record's contribution to a step, > 0.
        sampling: which records take part in a step. Drawn anew in each: Poisson, TruncatedPoisson, FixedSize,
            WithReplacement (a record drawn k times counts k times). Spread over the steps of an epoch, each record in
            one at most: Shuffled, BallsInBins.
        expected_batch_size: public, > 0; the only divisor, whatever the batch turns out to hold. Where the scheme fixes
            the size of batches it must be that; batches of Shuffled hold just as many, a whole number.
        steps: number of steps, >= 1; with an epoch, a multiple of its steps.
        learning_rate: > 0, in units of weight per unit of averaged gradient.
        steps_per_epoch: of Shuffled, BallsInBins and Cyclic, >= 1 and public; None for all others.
        noise: the law of the noise, which the formula shows for IndependentGaussian; the others are RoundedGaussian,
            LatticeGaussian, MatrixGaussian, BufferedGaussian, TreeGaussian: see `dpsgd.core.noise_laws` for what each
            goes with.
        unit: what is sampled, clipped and protected: "record", or "user", who owns several examples. Neighbours differ
            in one unit; where the scheme declares `records`, it is the number of units.
        examples_per_user: public bound on the examples of a user that count, the first so many, whose mean loss gives
            the user's one gradient; >= 1 if the unit is "user", None if it is "record".
        clipping: what keeps contributions within max_grad_norm: `Flat()`, as in the formula, PerLayer, Automatic,
            Normalised; or AdaptiveQuantile, whose bound begins there. The noise multiplier is that of the whole step.

    Where FixedSize, WithReplacement or TruncatedPoisson declare `records`, the dataset must hold just as many; with
    Shuffled at least steps_per_epoch · expected_batch_size, of which those left over take no part in an epoch. Their
    number is public then, and neighbours have the same: "replace_one" or "zero_out". So they do with Cyclic, where any
    number will do.

    Raises:
        InvalidParameter: if a value breaks its rule; the message names it.

    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=600, steps=100, learning_rate=0.5)
    >>> config.process().times
    100

    [ACG16] M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang. Deep Learning with
    Differential Privacy. CCS 2016. arXiv:1607.00133.
    """

    noise_multiplier: float
    max_grad_norm: float
    sampling: Scheme
    expected_batch_size: float
    steps: int
    learning_rate: float
    steps_per_epoch: int | None = field(default=None, metadata={"added_later": True})  # old files lack it
    noise: Noise = field(default=INDEPENDENT, metadata={"added_later": True})
    unit: str = field(default="record", metadata={"added_later": True})
    examples_per_user: int | None = field(default=None, metadata={"added_later": True})
    clipping: Clipping = field(default=FLAT, metadata={"added_later": True})

    def __post_init__(self) -> None:
        checked = {
            "noise_multiplier": validate.non_negative("DPSGD", "noise_multiplier", self.noise_multiplier),
            "max_grad_norm": validate.positive("DPSGD", "max_grad_norm", self.max_grad_norm),
            "sampling": schemes.checked_scheme(self.sampling),
            "expected_batch_size": validate.positive(
                "DPSGD", "expected_batch_size", self.expected_batch_size, BATCH_HINT
            ),
            "steps": validate.count("DPSGD", "steps", self.steps, least=1),
            "learning_rate": validate.positive("DPSGD", "learning_rate", self.learning_rate),
            "noise": noise_laws.checked_noise(self.noise),
            "unit": validate.choice("DPSGD", "unit", self.unit, protected.UNITS),
            "examples_per_user": protected.checked_examples(self.unit, self.examples_per_user),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        per_epoch = schemes.checked_epoch(self.sampling, self.steps, self.steps_per_epoch)
        object.__setattr__(self, "steps_per_epoch", per_epoch)
        schemes.check_batch_size(self.sampling, self.expected_batch_size)
        clippings.checked_clipping(
            self.clipping, noise_multiplier=self.noise_multiplier, max_grad_norm=self.max_grad_norm
        )
        self.noise.check(self.sampling, self.steps)
        noise_laws.check_clipping(self.noise, self.clipping)
        self.process()  # what can't be described can't be run

    @classmethod
    def for_budget(
        cls,
        *,
        epsilon: float,
        delta: float,
        max_grad_norm: float,
        sampling: Scheme,
        expected_batch_size: float,
        steps: int,
        learning_rate: float,
        steps_per_epoch: int | None = None,
        noise: Noise = INDEPENDENT,
        unit: str = "record",
        examples_per_user: int | None = None,
        clipping: Clipping = FLAT,
        adjacency: str = "add_remove",
    ) -> DPSGD:
        """Return the configuration with the least noise whose certified ε is at most `epsilon` at `delta`.

        For Poisson samples it is least to a relative 4e-6. For these and Cyclic the certified ε is at least
        0.999 · epsilon as far as floats of noise tell, down to epsilon = 1e-9. For others it is so unless ε jumps
        there or is below 1e-3, and finding the noise takes seconds to minutes; tens of seconds for Poisson samples that
        hardly any record is in. Where `delta` is no less than the probability that a record ever takes part, no noise
        is needed, and 0 is what is returned.

        Args:
            epsilon: budget, > 0.
            delta: in (0, 1).
            max_grad_norm: as in the class, and so the rest.
            sampling: as in the class.
            expected_batch_size: as in the class.
            steps: as in the class.
            learning_rate: as in the class.
            steps_per_epoch: as in the class.
            noise: as in the class.
            unit: as in the class.
            examples_per_user: as in the class.
            clipping: as in the class; what an adaptive bound costs is part of the budget.
            adjacency: which datasets are neighbours; "add_remove" unless another is named.

        Raises:
            InvalidParameter: if a value breaks its rule, or these neighbours differ in a number that is public.
            UnsupportedProcess: if there is no theorem for the scheme and these neighbours.
            NumericalFailure: if no noise reaches the budget.
        """
        without_noise = cls(
            noise_multiplier=0.0,
            max_grad_norm=max_grad_norm,
            sampling=sampling,
            expected_batch_size=expected_batch_size,
            steps=steps,
            learning_rate=learning_rate,
            steps_per_epoch=steps_per_epoch,
            noise=noise,
            unit=unit,
            examples_per_user=examples_per_user,
            clipping=clipping,
        )
        return dataclasses.replace(
            without_noise, noise_multiplier=without_noise._least_noise(epsilon, delta, adjacency)
        )

    def _least_noise(self, epsilon: float, delta: float, adjacency: str) -> float:
        from accountant import calibrate_noise_multiplier
        from dpsgd.core.calibration import checked_budget, least_noise, lessened

        epsilon, delta = checked_budget(epsilon, delta)
        schemes.check_neighbours("for_budget", self.process(), adjacency)

        def process(noise: float) -> Process:
            return dataclasses.replace(self, noise_multiplier=noise, clipping=FLAT).process()

        if isinstance(self.sampling, Poisson) and isinstance(self.noise, (IndependentGaussian, RoundedGaussian)):
            noise = calibrate_noise_multiplier(
                target_epsilon=epsilon,
                delta=delta,
                sample_rate=self.sampling.probability,
                steps=self.steps,
                adjacency=adjacency,
            )
            return lessened(process, noise, epsilon=epsilon, delta=delta, adjacency=adjacency)
        noise = least_noise(process, epsilon=epsilon, delta=delta, adjacency=adjacency)
        if isinstance(self.sampling, Cyclic):  # answers take milliseconds
            return lessened(process, noise, epsilon=epsilon, delta=delta, adjacency=adjacency)
        return noise

    def process(self) -> Process:
        """Return the description of the whole run, for any accountant."""
        return self.process_after(self.steps)

    def process_after(self, executed: int) -> Process:
        """Return the description of the first `executed` steps, 0 <= executed <= steps.

        With Shuffled and BallsInBins an epoch that has begun counts as a whole one. Its first steps are a part of what
        the whole shows, so that upper ends hold for them; lower ends are those of the whole. So does the first round of
        CyclicPoisson's groups.

        Raises:
            InvalidParameter: if the run has no such number of steps.
        """
        executed = validate.count("DPSGD", "executed", executed)
        if executed > self.steps:
            raise InvalidParameter(f"DPSGD: executed must be at most steps = {self.steps}, got {executed}.")
        run = self.noise.described(
            noise_multiplier=self.noise_multiplier,
            sampling=self.sampling,
            executed=executed,
            steps_per_epoch=self.steps_per_epoch,
        )
        return protected.described_for(self.unit, run)

    def of_first(self, executed: int) -> DPSGD:
        """Return the configuration of the first `executed` steps alone, which are the same steps, bit for bit.

        Raises:
            InvalidParameter: if they are no run: none, more than there are, or with an epoch of Shuffled or BallsInBins
                that has only begun.
        """
        self.process_after(executed)
        return dataclasses.replace(self, steps=executed, noise=self.noise.of_first(executed))

    def to_json(self) -> str:
        """Return the configuration as JSON text; floats come back bit for bit.

        >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
        ...                expected_batch_size=600, steps=100, learning_rate=0.5)
        >>> DPSGD.from_json(config.to_json()) == config
        True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"sampling": schemes.to_fields(self.sampling), "noise": schemes.to_fields(self.noise)}
        fields["clipping"] = schemes.to_fields(self.clipping)
        return json.dumps({"schema": SCHEMA, "library": __version__, "config": fields}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> DPSGD:
        """Return the configuration that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema, type or field is not known: it is named.
        """
        fields = schemes.exactly(read_document("DPSGD", text, schema=SCHEMA).get("config"), cls, "config")
        fields = {**fields, "sampling": schemes.from_fields(fields["sampling"], schemes.SCHEMES, "sampling")}
        if "noise" in fields:
            fields["noise"] = schemes.from_fields(fields["noise"], noise_laws.LAWS, "noise")
        if "clipping" in fields:
            fields["clipping"] = schemes.from_fields(fields["clipping"], clippings.CLIPPINGS, "clipping")
        return cls(**fields)
