"""The errors that this library raises on purpose; anything else is a bug."""

from typing import ClassVar


class DPError(Exception):
    """Base of every error raised on purpose: catch this to catch them all.

    Each kind says by its `exit_status` how a command ends in which it is raised, see `mechanisms.core.command_line`.
    """

    exit_status: ClassVar[int] = 2


class InvalidParameter(DPError, ValueError):
    """A value breaks a rule; the message names the value, the rule and the likely mistake."""


class UnsupportedProcess(DPError, TypeError):
    """No theorem at hand covers this process here; the message names what does, or what to use instead."""


class NumericalFailure(DPError, ArithmeticError):
    """A certified number could not be had within the work budget; the message names the knob to turn."""

    exit_status = 4


class BudgetExceeded(DPError, RuntimeError):
    """A step would cost more than is left of a privacy budget: it must not run; the message says what is left."""
