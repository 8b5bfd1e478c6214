"""What a run protects: records, or users who own several examples."""

from __future__ import annotations

from mechanisms import InvalidParameter, Process
from mechanisms.core import validate
from mechanisms.core.per_user import PerUser

UNITS = ("record", "user")


def checked_examples(unit: str, examples_per_user: object) -> int | None:
    """Return the public bound on the examples of a user that count, None where records are the unit.

    Raises:
        InvalidParameter: if it is missing, idle or no whole number >= 1.
    """
    if unit != "user":
        if examples_per_user is not None:
            raise InvalidParameter(
                f"DPSGD: examples_per_user must be None where the unit is 'record', got {examples_per_user!r}.\n"
                "To sample, clip and protect users: unit='user'."
            )
        return None
    if examples_per_user is None:
        raise InvalidParameter(
            "DPSGD: examples_per_user must be given where the unit is 'user', got None.\n"
            "It is public and bounds work and memory, not privacy: a user's gradient is clipped as one, from its first "
            "so many examples."
        )
    return validate.count("DPSGD", "examples_per_user", examples_per_user, least=1)


def described_for(unit: str, process: Process) -> Process:
    """Return the process with its unit in it."""
    return PerUser(process) if unit == "user" else process
