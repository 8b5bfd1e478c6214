"""The sampling schemes that a training run can draw: what each asks of a configuration, how it is described and stored.

Poisson, cut Poisson and fixed-size samples are drawn anew in every step. Shuffled batches and balls in bins spread the
records over the steps of an epoch, so that each takes part in at most one of these; epochs are drawn independently.
For Cyclic and CyclicPoisson see `dpsgd.cyclic`; `dpsgd.core.noise_laws` describes them, which noise goes with what.

Where the number of records is part of the law (fixed-size batches, cut samples that count them, shuffles), a run on
any other number is refused, which shows it: neighbours then have the same number of records, replaced or zeroed out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import (
    BallsInBins,
    FixedSize,
    InvalidParameter,
    Poisson,
    Process,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)
from mechanisms.core import validate
from mechanisms.core.counting import drawing
from mechanisms.core.process import Allocated
from mechanisms.core.sampling import Allocation

Scheme = Poisson | TruncatedPoisson | FixedSize | WithReplacement | Shuffled | BallsInBins | Cyclic | CyclicPoisson
SCHEMES = {kind.__name__: kind for kind in get_args(Scheme)}
MOST_STEPS = 2**40
"""Of a run, and so of an epoch: see `dpsgd.core.runs`."""


def checked_scheme(sampling: object) -> Any:
    """Return `sampling` if it is one of the schemes that are drawn, exactly: a kind of one may describe another law.

    Raises:
        InvalidParameter: if it is none.
    """
    if type(sampling) in SCHEMES.values():
        return sampling
    raise InvalidParameter(
        f"DPSGD: sampling must be one of {', '.join(SCHEMES)}, got {sampling!r}.\n"
        "The trainer draws exactly these; what it does not draw it does not describe. "
        "Use Poisson(probability=expected_batch_size / records)."
    )


def checked_epoch(sampling: Scheme, steps: int, steps_per_epoch: object) -> int | None:
    """Return the number of steps in an epoch, None for schemes that are drawn anew in every step.

    Raises:
        InvalidParameter: if it is missing or idle, beyond 2^40, or the run is not made of whole epochs.
    """
    if not isinstance(sampling, (Allocation, Cyclic)):
        if steps_per_epoch is not None:
            raise InvalidParameter(
                f"DPSGD: steps_per_epoch must be None for {sampling!r}, which is drawn anew in every step, "
                f"got {steps_per_epoch!r}.\nSchemes that span an epoch are Shuffled(), BallsInBins() and Cyclic()."
            )
        return None
    if steps_per_epoch is None:
        raise InvalidParameter(
            f"DPSGD: steps_per_epoch must be given for {sampling!r}, which spreads the records over the steps of an "
            "epoch, got None.\nIt is public: about (a public figure for the number of records) / expected_batch_size."
        )
    found = validate.count("DPSGD", "steps_per_epoch", steps_per_epoch, least=1)
    if found > MOST_STEPS:
        raise InvalidParameter(f"DPSGD: steps_per_epoch must be at most 2^40, got {found}.")
    if steps % found and isinstance(sampling, Allocation):
        raise InvalidParameter(
            f"DPSGD: steps must be a multiple of steps_per_epoch, got {steps} and {found}: an epoch is described as "
            f"a whole.\nUse steps={max(1, steps // found) * found}."
        )
    return found


def check_batch_size(sampling: Scheme, expected_batch_size: float) -> None:
    """Refuse a divisor that is not the size of batches, where the scheme fixes that: one of the two is a mistake.

    Raises:
        InvalidParameter: naming both.
    """
    if isinstance(sampling, (FixedSize, WithReplacement)) and expected_batch_size != sampling.batch_size:
        raise InvalidParameter(
            f"DPSGD: expected_batch_size must be the batch_size of {sampling!r}, got {expected_batch_size}.\n"
            "To move the weights by more or less, change learning_rate."
        )
    if isinstance(sampling, TruncatedPoisson) and expected_batch_size > sampling.largest_batch:
        raise InvalidParameter(
            f"DPSGD: expected_batch_size must be at most the largest_batch of {sampling!r}, got {expected_batch_size}."
        )
    if isinstance(sampling, Shuffled) and not expected_batch_size.is_integer():
        raise InvalidParameter(
            "DPSGD: expected_batch_size must be a whole number for Shuffled(), whose batches hold just as many, "
            f"got {expected_batch_size}."
        )


def described(step: Process, sampling: Scheme, executed: int, steps_per_epoch: int | None) -> Process:
    """Return the process of the first `executed` steps, an epoch that has begun counting as a whole one."""
    if isinstance(sampling, (Shuffled, BallsInBins)):
        assert steps_per_epoch is not None
        return Repeat(Allocated(Repeat(step, steps_per_epoch), sampling), -(-executed // steps_per_epoch))
    assert not isinstance(sampling, (Cyclic, CyclicPoisson)), "described by their noise, see dpsgd.core.noise_laws"
    return Repeat(Sampled(step, sampling), executed)


def check_neighbours(owner: str, process: Process, adjacency: str) -> None:
    """Refuse neighbours of different numbers of records, where a run on another number would have been refused.

    Raises:
        InvalidParameter: if adjacency is "add_remove" and a scheme in the process states the number of records.
    """
    for node in drawing(process) if adjacency == "add_remove" else ():
        if getattr(node.sampling, "records", None) is not None:
            raise InvalidParameter(
                f"{owner}: adjacency must be 'replace_one' or 'zero_out' for {node.sampling!r}, got 'add_remove': a "
                "run on another number of records is refused, so that their number is public.\n"
                "Use Poisson(...), TruncatedPoisson(...) without records, or BallsInBins() where it must not be."
            )


def to_fields(part: Any) -> dict[str, Any]:
    """Return a part of a configuration, a scheme, a law of noise or a clipping, as a JSON object.

    >>> to_fields(FixedSize(batch_size=2, records=5))
    {'type': 'FixedSize', 'batch_size': 2, 'records': 5}
    """
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return {"type": type(part).__name__, **fields}


def from_fields(value: object, kinds: Mapping[str, Any], name: str) -> Any:
    """Return the part of that name, of one of these kinds, that `to_fields` wrote.

    Raises:
        InvalidParameter: if the type or a field is not known.

    >>> from_fields({"type": "FixedSize", "batch_size": 2, "records": 5}, SCHEMES, "sampling")
    FixedSize(batch_size=2, records=5)
    """
    kind = kinds.get(str(value["type"])) if isinstance(value, dict) and "type" in value else None
    if kind is None:
        given = value.get("type") if isinstance(value, dict) else value
        raise InvalidParameter(f"DPSGD: {name} type must be one of {', '.join(kinds)}, got {given!r}.")
    fields = exactly(value, kind, name, "type")
    return kind(**{key: field for key, field in fields.items() if key != "type"})


def exactly(value: object, kind: Any, name: str, *more: str) -> dict[str, Any]:
    """Return `value` if it is an object with just the fields of `kind`, and `more`; those added later may lack.

    Raises:
        InvalidParameter: otherwise.
    """
    if not isinstance(value, dict):
        raise InvalidParameter(f"DPSGD: {name} must be a JSON object, got {value!r}.")
    fields = dataclasses.fields(kind)
    known = {*more, *(field.name for field in fields)}
    later = {field.name for field in fields if field.metadata.get("added_later")}
    if not known - later <= set(value) <= known:
        raise InvalidParameter(f"DPSGD: {name} must have the fields {sorted(known)}, got {sorted(value)}.")
    return value
