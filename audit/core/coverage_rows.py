"""A bench's findings in words: one row for each auditor, for tables on a screen and in Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audit.core.trials import Trial
from audit.coverage import POWER, Coverage

HEADINGS = ("auditor", "guarantee", "false", "under the law", "n", "ε", "outside", "power", "ms", "")
SLOW = 1.0  # ms
POWER_EPSILON = POWER[2]
LARGEST = 1000  # size at which power is shown, or the next smaller one that was tried
NOTES = (
    "false: largest share of false claims under a law that the guarantee is about; *: summed over counts.",
    "outside: the same under laws that it is not about: what was described did not run.",
    "power: mean bound ÷ true ε, at ε = 1 and at ε = 4, n as large as was tried up to 1,000, under the kindest law.",
    "ms: processor time of one answer where 100 are asked for at once, at the largest size tried, 1,000 at most.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is said of one auditor."""

    cells: tuple[str, ...]
    fails: bool


def rows(coverage: Coverage) -> list[Row]:
    """Return a row for every auditor that answered, in the order of the bench."""
    names = dict.fromkeys(one.auditor for one in coverage.trials)
    return [_row(coverage, name) for name in names if coverage.of(name)]


def remarks(coverage: Coverage) -> list[str]:
    """Return what is to be said below the table."""
    lines = [f"FAILS: {described(one)}" for one in coverage.failing]
    lines += _tried(coverage)
    lines += [powerful(one) for one in coverage.trials if one.epsilon == POWER_EPSILON and one.mean_bound is not None]
    slow = [f"{name} {taken:.1f}" for name, taken in coverage.milliseconds.items() if taken > SLOW]
    if slow:
        lines.append(f"over {SLOW:g} ms: {', '.join(slow)}")
    if coverage.disagreements:
        worst = ", ".join(f"{name} {100 * share:.2g} %" for name, share in coverage.disagreements.items() if share > 0)
        lines.append(f"test and bound differ, over up to {coverage.cases} cases each, by at most: {worst or 'nothing'}")
    return lines


def powerful(trial: Trial) -> str:
    """Return what bounds show on average, and how often their test claims falsely, in a line.

    >>> powerful(Trial(auditor="a", guarantee="frequentist", law="ConstantRatio", n=1000, epsilon=2.0, delta=0.0,
    ...                inside=True, rate=0.049, simulations=100_000, mean_bound=1.9, bounds=400, entropy=(0,),
    ...                spread=0.1))
    'a shows 1.900 ± 0.005 of ε = 2 under ConstantRatio, n = 1000, δ = 0; false claims in 4.90 ± 0.07 %'
    """
    rate = trial.rate or 0.0
    errors = (trial.spread or 0.0) / math.sqrt(trial.bounds), math.sqrt(rate * (1 - rate) / max(trial.simulations, 1))
    false = f"{100 * rate:.2f}" + (f" ± {100 * errors[1]:.2f}" if trial.simulations else "")
    return (
        f"{trial.auditor} shows {trial.mean_bound:.3f} ± {errors[0]:.3f} of ε = {trial.epsilon:g} under {trial.law}, "
        f"n = {trial.n}, δ = {trial.delta:g}; false claims in {false} %"
    )


def _tried(coverage: Coverage) -> list[str]:
    """Return who was not tried at all sizes that others were, and how few audits stand behind a rate that decides."""
    names = dict.fromkeys(one.auditor for one in coverage.trials)
    lines = []
    for n in sorted({one.n for one in coverage.trials}):
        lacking = [name for name in names if all(one.n != n for one in coverage.of(name)) and coverage.of(name)]
        lines += [f"not tried at n = {n}: {', '.join(lacking)}"] if lacking else []
    decided = [one for one in coverage.trials if one.inside and one.simulations]
    most = max((one.simulations for one in decided if one.epsilon != POWER_EPSILON), default=0)
    few = dict.fromkeys(f"{one.auditor} at {one.n}" for one in decided if one.simulations < most)
    return lines + ([f"fewer than {most} audits for each law: {', '.join(few)}"] if few else [])


def described(trial: Trial) -> str:
    """Return one trial in a line.

    >>> described(Trial(auditor="a", guarantee="frequentist", law="Tied", n=50, epsilon=1.0, delta=0.0, inside=True,
    ...                 rate=0.25, simulations=100, mean_bound=None, bounds=0, entropy=(0,)))
    'a (frequentist) claims falsely in 25.00 % of 100 audits under Tied, n = 50, ε = 1, δ = 0'
    """
    share = f"{100 * (trial.rate or 0.0):.2f} %"
    out_of = f"of {trial.simulations} audits" if trial.simulations else "of all, summed over counts,"
    return (
        f"{trial.auditor} ({trial.guarantee}) claims falsely in {share} {out_of} "
        f"under {trial.law}, n = {trial.n}, ε = {trial.epsilon:g}, δ = {trial.delta:g}"
    )


def markdown(coverage: Coverage) -> str:
    """Return the table, its notes and the remarks as Markdown."""
    table = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells for row in rows(coverage))]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    level = f"Level {1 - coverage.confidence:.4g}, seed {coverage.seed}."
    return "\n".join([*lines, "", level, *(f"- {one}" for one in (*NOTES, *remarks(coverage)))]) + "\n"


def power(coverage: Coverage, auditor: str, epsilon: float) -> Trial | None:
    """Return the trial of an auditor that shows most of this ε, at the size that is shown; None if there is none."""
    shown = [
        one for one in coverage.of(auditor) if one.inside and one.epsilon == epsilon and one.mean_bound is not None
    ]
    sizes = [one.n for one in shown if one.n <= LARGEST] or [one.n for one in shown]
    return max((one for one in shown if one.n == max(sizes)), key=lambda one: one.mean_bound or 0.0, default=None)


def _row(coverage: Coverage, name: str) -> Row:
    trials = coverage.of(name)
    inside = [one for one in trials if one.inside]
    worst = max(inside or trials, key=lambda one: one.rate or 0.0)
    false = f"{100 * (worst.rate or 0.0):.2f} %{' ' if worst.simulations else '*'}"
    outside = max((one.rate or 0.0 for one in trials if not one.inside), default=None)
    fails = any(one.fails(1 - coverage.confidence) for one in trials)
    decides = worst.guarantee in ("frequentist", "parametric")
    return Row(
        cells=(
            name,
            worst.guarantee,
            *((false, worst.law, f"{worst.n}", f"{worst.epsilon:g}") if inside else ("",) * 4),
            "" if outside is None else f"{100 * outside:.0f} %",
            " ".join(_share(power(coverage, name, epsilon)) for epsilon in (1.0, 4.0)),
            _time(coverage.milliseconds.get(name)),
            "FAILS" if fails else ("holds" if decides and inside else "–"),
        ),
        fails=fails,
    )


def _time(taken: float | None) -> str:
    return "" if taken is None else (f"{taken:.2f}" if taken < 1 else f"{taken:.0f}")


def _share(trial: Trial | None) -> str:
    return " –" if trial is None else f"{(trial.mean_bound or 0.0) / trial.epsilon:.2f}".replace("0.", ".", 1)
