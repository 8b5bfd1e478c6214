"""From a case to its row of truth.json: two routes, every direction, δ(ε) and ε(δ), and how many digits agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

from tests.reference import closed, contour
from tests.reference.cases import Case

Number = Any
Curve = Callable[[Number], Number]
MOST_DIGITS, LEAST_DIGITS = 20, 14
SYMMETRIC = ("gaussian", "laplace")  # routes of pairs that are their own reverse
ROUTES = {
    "gaussian": "closed form; contour integral",
    "laplace": "residues of the contour integral; 60 digits more, or the closed form where it is one step",
    "response": "binomial tails; recurrence of the powers of a polynomial",
    "table": "sum over multisets of outcomes; convolution step by step",
    "single": "closed form; quadrature of the densities",
    "nested": "nested quadrature; steps in the other order, by a finer rule",
    "split": "contour integral of all but the steps below a split; another line and split",
    "contour": "contour integral; another line",
}


def row(case: Case) -> dict[str, object]:
    """Find ε at the case's δ, and δ at a round ε near it, in every direction.

    Raises:
        ArithmeticError: if two routes agree to less than LEAST_DIGITS digits.
    """
    asked = case.directions[:1] if case.route in SYMMETRIC else case.directions
    curves = {direction: _curves(case, direction) for direction in asked}
    target = mp.mpf(case.delta)
    epsilons = {direction: solve(first, target, ceiling) for direction, (first, _, ceiling) in curves.items()}
    near = float(mp.nstr(max(epsilons.values()) * mp.mpf("0.98"), 2))
    deltas = {direction: max(first(mp.mpf(near)), mp.mpf(0)) for direction, (first, _, _) in curves.items()}
    agreed = [_digits(curves[d][1](e), target) for d, e in epsilons.items() if e]
    for direction, value in list(deltas.items()):
        digits = _digits(curves[direction][1](mp.mpf(near)), value)
        if digits <= MOST_DIGITS and value < max(deltas.values()) * mp.mpf("1e-6"):
            del deltas[direction]  # far below the other direction: the line was not laid out for it
        else:
            agreed.append(digits)
    for direction in case.directions:
        if case.route in SYMMETRIC:
            epsilons[direction], deltas[direction] = epsilons[asked[0]], deltas[asked[0]]
    digits = int(min(MOST_DIGITS, min(agreed) - 1))
    if digits < LEAST_DIGITS:
        raise ArithmeticError(f"{case.name}: the routes agree to {min(agreed):.1f} digits only")
    return {
        "name": case.name,
        "process": process(case),
        "adjacency": case.adjacency,
        "delta": case.delta,
        "epsilon": {direction: mp.nstr(value, digits) for direction, value in epsilons.items()},
        "near_epsilon": near,
        "near_delta": {direction: mp.nstr(value, digits) for direction, value in deltas.items()},
        "digits": digits,
        "route": ROUTES[case.route],
    }


def process(case: Case) -> dict[str, object]:
    """Return the process as the library's JSON writes it."""
    parts: list[dict[str, object]] = [
        step.json() if times == 1 else {"type": "Repeat", "part": step.json(), "times": times}
        for step, times in case.steps
    ]
    return parts[0] if len(parts) == 1 else {"type": "Compose", "parts": parts}


def solve(delta: Curve, target: Number, ceiling: Number) -> Number:
    """The least ε >= 0 with δ(ε) <= target: bisection, then secants of log δ, never out of the bracket."""
    if delta(mp.mpf(0)) <= target:
        return mp.mpf(0)
    low, high = mp.mpf(0), mp.mpf(ceiling)
    while delta(high) > target:
        high *= 2
    while high - low > high / 64:
        middle = (low + high) / 2
        low, high = (middle, high) if delta(middle) > target else (low, middle)
    older, newer = low, high
    f, g = _log_ratio(delta(older), target), _log_ratio(delta(newer), target)
    close = mp.mpf(10) ** -40
    for _ in range(40):
        point = newer - g * (newer - older) / (g - f) if f != g else newer
        point = point if low < point < high else (low + high) / 2
        older, f, newer, g = newer, g, point, _log_ratio(delta(point), target)
        low, high = (newer, high) if g > 0 else (low, newer)
        if abs(newer - older) <= close * newer:
            return newer
    while high - low > close * high:  # a kink or a jump of δ
        middle = (low + high) / 2
        low, high = (middle, high) if delta(middle) > target else (low, middle)
    return high


def _log_ratio(value: Number, target: Number) -> Number:
    return mp.log(value / target) if value > 0 else mp.mpf(-1000)


def _digits(value: Number, truth: Number) -> float:
    return 60.0 if value == truth else float(-mp.log10(abs(value - truth) / max(abs(truth), mp.mpf("1e-400"))))


def _curves(case: Case, direction: str) -> tuple[Curve, Curve, Number]:
    """Return δ by the case's route and by the second one, and an ε to look below."""
    steps = case.steps
    step, times = steps[0]
    if case.route == "contour":
        return _contours(case, direction)
    if case.route == "split":
        first, second = (contour.split_transform(step, times, line, split) for line, split in case.lines)
        return first.delta, second.delta, mp.mpf(1000)
    if case.route == "gaussian":
        _, second, ceiling = _contours(case, direction)
        return closed.gaussians(steps), second, ceiling
    if case.route == "laplace":
        residues = closed.laplace(step, times, extra=60)
        return closed.laplace(step, times) if times > 1 else closed.single(step, direction), residues, times * step.span
    if case.route == "response":
        first = closed.responses_by_tails(step, times)
        return first, closed.responses(step, times), mp.mpf(times * step.epsilon)
    if case.route == "table":
        return closed.tables(steps, direction), closed.tables_by_convolution(steps, direction), mp.mpf(100)
    if case.route == "single":
        return closed.single(step, direction), closed.single_by_integration(step, direction), mp.mpf(100)
    return _at(22, closed.nested(steps, direction)), _at(30, closed.nested(steps[::-1], direction)), mp.mpf(16)


def _contours(case: Case, direction: str) -> tuple[Curve, Curve, Number]:
    line, ceiling = contour.choose(case.steps, direction, case.delta)
    other, _ = contour.choose(case.steps, direction, case.delta, push=0.8, digits=contour.DIGITS + 3)
    first, second = (contour.transform(case.steps, direction, each) for each in (line, other))
    return first.delta, second.delta, mp.mpf(ceiling)


def _at(digits: int, curve: Curve) -> Curve:
    def rounded(epsilon: Number) -> Number:
        with mp.workdps(digits):
            return curve(epsilon)

    return rounded
