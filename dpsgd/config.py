"""The one object that says how a private training runs: the trainer executes it, `process()` prices it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from mechanisms import Gaussian, InvalidParameter, Poisson, Process, Repeat, Sampled, __version__
from mechanisms.core import validate

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
        sampling: Poisson: every record takes part in every step with this probability, independently.
        expected_batch_size: public, > 0; the only divisor, whatever the batch turns out to hold.
        steps: number of steps, >= 1.
        learning_rate: > 0, in units of weight per unit of averaged gradient.

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
    sampling: Poisson
    expected_batch_size: float
    steps: int
    learning_rate: float

    def __post_init__(self) -> None:
        checked = {
            "noise_multiplier": validate.non_negative("DPSGD", "noise_multiplier", self.noise_multiplier),
            "max_grad_norm": validate.positive("DPSGD", "max_grad_norm", self.max_grad_norm),
            "sampling": _poisson(self.sampling),
            "expected_batch_size": validate.positive(
                "DPSGD", "expected_batch_size", self.expected_batch_size, BATCH_HINT
            ),
            "steps": validate.count("DPSGD", "steps", self.steps, least=1),
            "learning_rate": validate.positive("DPSGD", "learning_rate", self.learning_rate),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def for_budget(
        cls,
        *,
        epsilon: float,
        delta: float,
        max_grad_norm: float,
        sampling: Poisson,
        expected_batch_size: float,
        steps: int,
        learning_rate: float,
        adjacency: str = "add_remove",
    ) -> DPSGD:
        """Return the configuration with the least noise whose certified ε is at most `epsilon` at `delta`.

        Args:
            epsilon: budget, > 0.
            delta: in (0, 1).
            max_grad_norm: as in the class, and so the rest.
            sampling: as in the class.
            expected_batch_size: as in the class.
            steps: as in the class.
            learning_rate: as in the class.
            adjacency: which datasets are neighbours; "add_remove" unless another is named.

        Raises:
            InvalidParameter: if a value breaks its rule or no noise reaches the budget.
        """
        without_noise = cls(
            noise_multiplier=0.0,
            max_grad_norm=max_grad_norm,
            sampling=sampling,
            expected_batch_size=expected_batch_size,
            steps=steps,
            learning_rate=learning_rate,
        )
        from accountant import calibrate_noise_multiplier

        noise_multiplier = calibrate_noise_multiplier(
            target_epsilon=epsilon,
            delta=delta,
            sample_rate=without_noise.sampling.probability,
            steps=without_noise.steps,
            adjacency=adjacency,
        )
        return dataclasses.replace(without_noise, noise_multiplier=noise_multiplier)

    def process(self) -> Process:
        """Return the description of the whole run, for any accountant."""
        return self.process_after(self.steps)

    def process_after(self, executed: int) -> Process:
        """Return the description of the first `executed` steps, 0 <= executed <= steps.

        Raises:
            InvalidParameter: if the run has no such number of steps.
        """
        executed = validate.count("DPSGD", "executed", executed)
        if executed > self.steps:
            raise InvalidParameter(f"DPSGD: executed must be at most steps = {self.steps}, got {executed}.")
        return Repeat(Sampled(Gaussian(noise_multiplier=self.noise_multiplier), self.sampling), executed)

    def to_json(self) -> str:
        """Return the configuration as JSON text; floats come back bit for bit.

        >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
        ...                expected_batch_size=600, steps=100, learning_rate=0.5)
        >>> DPSGD.from_json(config.to_json()) == config
        True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["sampling"] = {"type": "Poisson", "probability": self.sampling.probability}
        return json.dumps({"schema": SCHEMA, "library": __version__, "config": fields}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> DPSGD:
        """Return the configuration that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema, type or field is not known: it is named.
        """
        try:
            document = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidParameter(f"DPSGD: JSON must be well formed, but {error}.") from None
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise InvalidParameter(f"DPSGD: schema must be {SCHEMA!r}, got {schema!r}.")
        fields = _exactly(document.get("config"), {field.name for field in dataclasses.fields(cls)}, "config")
        sampling = _exactly(fields["sampling"], {"type", "probability"}, "sampling")
        if sampling["type"] != "Poisson":
            raise InvalidParameter(f"DPSGD: sampling type must be 'Poisson', got {sampling['type']!r}.")
        return cls(**{**fields, "sampling": Poisson(probability=sampling["probability"])})


def _poisson(sampling: object) -> Poisson:
    if isinstance(sampling, Poisson):
        return sampling
    raise InvalidParameter(
        f"DPSGD: sampling must be Poisson(probability=...), got {sampling!r}.\n"
        "The trainer draws exactly Poisson samples; what it does not draw it does not describe. "
        "Use Poisson(probability=expected_batch_size / records)."
    )


def _exactly(value: object, expected: set[str], name: str) -> dict[str, Any]:
    """Return `value` if it is an object with just the expected fields."""
    if not isinstance(value, dict):
        raise InvalidParameter(f"DPSGD: {name} must be a JSON object, got {value!r}.")
    if set(value) != expected:
        raise InvalidParameter(f"DPSGD: {name} must have the fields {sorted(expected)}, got {sorted(value)}.")
    return value
