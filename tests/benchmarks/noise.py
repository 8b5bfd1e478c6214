"""Noise beside OpenDP and diffprivlib: draws a second, what the last digits give away, and how much noise (ε, δ) takes.

python -m tests.benchmarks.noise [--json FILE] [--draws N] [--rounds N]

Peers that are not installed are left out by name. Draws are of scale 10 around 0 at sensitivity 1: arrays where a
library takes arrays, one call a number where it takes numbers. "Told apart" is what an attacker gains who answers "the
input is 0" to outputs that are finer than all of a first sample for the input 1, multiples of no power of two of which
those are multiples [Mir12]: how much more often he says so of fresh outputs for 0 than of fresh ones for 1. It is 0
where the two inputs have the same outputs, but for chance, of the order of 1/draws. Noise is the standard deviation
that each library's own calibration asks for.

[Mir12] I. Mironov. On Significance of the Least Significant Bits for Differential Privacy. CCS 2012.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from accountant import calibrate_noise_multiplier
from mechanisms import SystemSource, __version__
from mechanisms.discrete_gaussian import DiscreteGaussian
from mechanisms.discrete_laplace import DiscreteLaplace
from mechanisms.gaussian import Gaussian
from mechanisms.laplace import Laplace
from tests.benchmarks.measure import interleaved

SCHEMA = "dp-calipers/noise-benchmarks/2"
PEERS = ("opendp", "diffprivlib")
SCALE = 10.0
KINDS = ("Gaussian, floats", "Laplace, floats", "Gaussian, integers", "Laplace, integers")
TARGETS = ((0.1, 1e-6), (1.0, 1e-5), (4.0, 1e-5), (8.0, 1e-9))
Draw = Callable[[float, int, float], Any]
"""From an input, a number of draws and a scale to as many outputs."""


def ours(kind: str) -> Draw:
    """Return our draws."""
    source = SystemSource()
    if kind.endswith("floats"):
        mechanism = Gaussian if kind.startswith("Gaussian") else Laplace
        return lambda x, n, scale: mechanism(noise_multiplier=scale).release(
            np.full(n, x), sensitivity=1.0, randomness=source
        )
    if kind.startswith("Gaussian"):
        return lambda x, n, scale: DiscreteGaussian(noise_multiplier=scale, dimension=n).release(
            np.full(n, int(x)), sensitivity=1, randomness=source
        )
    return lambda x, n, scale: DiscreteLaplace(noise_multiplier=scale).release(
        np.full(n, int(x)), sensitivity=1, randomness=source
    )


def opendp(kind: str) -> Draw:
    """Return OpenDP's draws: a vector in one call."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    whole = kind.endswith("integers")
    number = int if whole else float
    atoms = dp.atom_domain(T=int) if whole else dp.atom_domain(T=float, nan=False)
    if kind.startswith("Gaussian"):
        distance, then = dp.l2_distance(T=float), dp.m.then_gaussian
    else:
        distance, then = dp.l1_distance(T=number), dp.m.then_laplace
    space = dp.vector_domain(atoms), distance
    return lambda x, n, scale: (space >> then(scale=scale))([number(x)] * n)


def diffprivlib(kind: str) -> Draw:
    """Return diffprivlib's draws: one number a call, of mechanisms of the scale asked for."""
    from diffprivlib import mechanisms as m

    whole = kind.endswith("integers")
    if kind.startswith("Gaussian"):
        chosen = m.GaussianDiscrete if whole else m.GaussianAnalytic
        made: Any = chosen(epsilon=1.0, delta=1e-5, sensitivity=1)
    else:
        made = (m.Geometric if whole else m.Laplace)(epsilon=1.0 / SCALE, sensitivity=1)

    def draw(x: float, n: int, scale: float) -> list[Any]:
        if kind.startswith("Gaussian"):
            made._scale = scale
        elif scale != SCALE:
            raise ValueError("diffprivlib's scale follows from its epsilon")
        value = int(x) if whole else x
        return [made.randomise(value) for _ in range(n)]

    return draw


LIBRARIES: dict[str, Callable[[str], Draw]] = {"dp-calipers": ours, "opendp": opendp, "diffprivlib": diffprivlib}


def available() -> dict[str, Callable[[str], Draw]]:
    """Return us, and the peers that are installed."""
    return {name: make for name, make in LIBRARIES.items() if name not in PEERS or importlib.util.find_spec(name)}


def machine() -> dict[str, Any]:
    """Return what the speeds depend on; the load is that of the last minute, of all that runs on the processors."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def speeds(kind: str, draws: int, rounds: int) -> dict[str, Any]:
    """Return draws a second of everybody, interleaved, medians: us with ten times as many."""
    sizes = {name: draws * (10 if name not in PEERS else 1) for name in available()}

    def asked(name: str, draw: Draw) -> Callable[[float], Any]:
        return lambda factor: len(draw(0.0, sizes[name], SCALE))

    contestants = {name: asked(name, make(kind)) for name, make in available().items()}
    timings = interleaved(contestants, rounds=rounds, patience=5.0, limit=60.0)
    return {
        name: sizes[name] / (timing.milliseconds / 1e3) if timing.milliseconds else timing.note
        for name, timing in timings.items()
    }


def told_apart(draw: Draw, draws: int) -> float:
    """Return how much more often outputs for 0 than outputs for 1 are finer than all of a first sample for 1."""
    first, one, zero = (np.asarray(draw(x, draws, SCALE), dtype=np.float64) for x in (1.0, 1.0, 0.0))
    least = np.min(finest(first))
    return float(np.mean(finest(zero) < least) - np.mean(finest(one) < least))


def finest(values: np.ndarray) -> np.ndarray:
    """Return the exponents of the largest powers of two of which floats are multiples, 0 a multiple of all.

    >>> finest(np.array([0.75, 4.0, 0.0]))
    array([-2.,  2., inf])
    """
    ratios = [float(value).as_integer_ratio() for value in values]
    exponents = [math.log2(top & -top) - math.log2(bottom) if top else math.inf for top, bottom in ratios]
    return np.array(exponents)


def calibrated(epsilon: float, delta: float) -> dict[str, Any]:
    """Return the standard deviations of Gaussian noise that libraries ask for at sensitivity 1."""
    found: dict[str, Any] = {"dp-calipers": calibrate_noise_multiplier(target_epsilon=epsilon, delta=delta)}
    if "opendp" in available():
        import opendp.prelude as dp

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.l2_distance(T=float)

        def fixed(scale: float) -> Any:
            return dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(space >> dp.m.then_gaussian(scale=scale)), delta)

        found["opendp"] = dp.binary_search_param(fixed, d_in=1.0, d_out=(epsilon, delta))
    if "diffprivlib" in available():
        from diffprivlib import mechanisms as m

        for label, kind in (("diffprivlib Gaussian", m.Gaussian), ("diffprivlib GaussianAnalytic", m.GaussianAnalytic)):
            try:
                found[label] = kind(epsilon=epsilon, delta=delta, sensitivity=1.0)._scale
            except ValueError as refusal:
                found[label] = str(refusal)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the three tables, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.noise", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--draws", type=int, default=10_000, help="of peers in a call, ten times as many of ours")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    document = {
        "schema": SCHEMA,
        "library": __version__,
        "machine": machine(),
        "peers": {name: importlib.metadata.version(name) for name in sorted(set(available()) & set(PEERS))},
        "draws a second": {kind: speeds(kind, given.draws, given.rounds) for kind in KINDS},
        "told apart": {
            kind: {name: told_apart(make(kind), given.draws) for name, make in available().items()}
            for kind in KINDS
            if kind.endswith("floats")
        },
        "noise": {f"ε = {epsilon:g}, δ = {delta:g}": calibrated(epsilon, delta) for epsilon, delta in TARGETS},
    }
    if given.json:
        given.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(document)
    return 0


def _show(document: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for title in ("draws a second", "told apart", "noise"):
        rows = document[title]
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table(title=title)
        for column in ("", *names):
            table.add_column(column, justify="left" if not column else "right")
        for label, row in rows.items():
            table.add_row(label, *(_cell(row.get(name)) for name in names))
        console.print(table)


def _cell(value: Any) -> str:
    return (
        f"{value:,.0f}"
        if isinstance(value, float) and value >= 1000
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )


if __name__ == "__main__":
    sys.exit(main())
