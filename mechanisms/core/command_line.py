"""What every command line here shares: one line for an error, an exit status for its kind, digits rounded outward.

Exit status: 0 done; 1 a bug, with its traceback, or a trainer at fault; 2 bad input, a process that is not supported,
or a file or scheduler that is not there; 3 a guarantee violated or a description refuted (given by the command itself);
4 a numerical failure; 130 interrupted.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

import typer
from typer.core import TyperCommand

from mechanisms.core.bounds import Bounds
from mechanisms.core.errors import DPError, InvalidParameter

BUG, BAD_INPUT, INTERRUPTED = 1, 2, 130
UsageError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class Interrupted(Exception):
    """What a command that the user has interrupted says of where it stopped, and how it goes on.

    A KeyboardInterrupt could not: typer makes an exit status of it, and loses its text.
    """


class OneOfEach(TyperCommand):
    """A command that refuses an option given twice: of its values the last alone would count, and nobody be told.

    Options that take several values, and flags, may be.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left of the arguments, as click does.

        Raises:
            InvalidParameter: naming the option.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            several = getattr(option, "multiple", True) or getattr(option, "is_flag", False)
            if times > 1 and not several:
                raise InvalidParameter(
                    f"{ctx.info_name}: {option.opts[0]} must be given once, got it {times} times.\n"
                    "The last alone would count."
                )
        return super().parse_args(ctx, args)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a typer application and return the exit status; errors meant for users become one line on stderr."""
    for command in app.registered_commands:
        command.cls = OneOfEach
    try:
        status = app(args=arguments, standalone_mode=False)
    except Interrupted as error:
        return _complain(str(error), INTERRUPTED)
    except DPError as error:
        return _complain(str(error), error.exit_status)
    except OSError as error:
        return _complain(f"{error.filename or 'file'}: {error.strerror or error}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted.", INTERRUPTED)
    except Exception as error:
        if not isinstance(error, UsageError):
            raise
        return _complain(getattr(error, "format_message", error.__str__)(), BAD_INPUT)
    if status == INTERRUPTED:
        return _complain("interrupted.", INTERRUPTED)
    return status if isinstance(status, int) else 0


def exit_status(kind: str) -> int:
    """Return the exit status of a command in which an error of this name was raised.

    >>> exit_status("UnsupportedProcess"), exit_status("FileNotFoundError"), exit_status("KeyError")
    (2, 2, 1)
    """
    known, left = dict[str, type[DPError]](), [DPError]
    while left:
        one = left.pop()
        known[one.__name__] = one
        left += one.__subclasses__()
    if kind in known:
        return known[kind].exit_status
    found = getattr(builtins, kind, None)
    return BAD_INPUT if isinstance(found, type) and issubclass(found, OSError) else BUG


def outward(bounds: Bounds, digits: int = 7) -> str:
    """Return "[lower, upper]" with both ends rounded outward to so many significant digits.

    >>> outward(Bounds(lower=1.00000019, upper=2.00000011))
    '[1.000000, 2.000001]'
    """
    return f"[{_rounded(bounds.lower, digits, ROUND_FLOOR)}, {_rounded(bounds.upper, digits, ROUND_CEILING)}]"


def at_most(value: float, digits: int = 7) -> str:
    """Return `value` rounded up to so many significant digits."""
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 7) -> str:
    """Return `value` rounded down to so many significant digits."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    return (
        f"{Context(prec=digits, rounding=rounding).create_decimal_from_float(value)}" if _proper(value) else f"{value}"
    )


def _proper(value: float) -> bool:
    return math.isfinite(value) and value != 0


def _complain(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status
