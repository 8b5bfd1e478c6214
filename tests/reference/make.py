"""Writes the reference values: truth.json, and compositions.json of two and three sampled Gaussian steps.

python tests/reference/make.py                  truth.json (four minutes where gmpy2 is installed, more where not)
python tests/reference/make.py compositions     compositions.json, by nested quadrature (an hour)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mpmath as mp

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.reference.answers import row  # noqa: E402
from tests.reference.cases import CASES  # noqa: E402
from tests.reference.truth import composed_delta  # noqa: E402

COMPOSITIONS = (
    ((1.0, 0.5), (1.0, 0.5)),
    ((0.5, 0.1), (0.5, 0.1)),
    ((2.0, 0.05), (2.0, 0.05)),
    ((0.3, 0.01), (0.3, 0.01)),
    ((1.0, 1.0), (0.7, 0.2)),
    ((3.0, 0.9), (0.8, 0.02)),
    ((1.0, 0.5), (1.0, 0.5), (1.0, 0.5)),
    ((0.8, 0.1), (0.8, 0.1), (2.0, 0.3)),
)
EPSILONS = {
    2: {"remove": (0.01, 0.3, 1.0, 2.5, 6.0), "add": (0.01, 0.1, 0.5, 1.0)},
    3: {"remove": (0.3, 2.5), "add": (0.1,)},
}
LEAST = mp.mpf("1e-40")


def compositions() -> list[dict[str, object]]:
    """Return one row a case, direction and ε whose δ is not negligible."""
    mp.mp.dps = 20
    found = []
    for steps in COMPOSITIONS:
        for direction, epsilons in EPSILONS[len(steps)].items():
            for epsilon in epsilons:
                value = composed_delta(steps, direction, mp.mpf(epsilon))
                if value > LEAST:
                    row = {"steps": steps, "direction": direction, "epsilon": epsilon, "delta": mp.nstr(value, 15)}
                    found.append(row)
    return found


def truths() -> list[dict[str, object]]:
    """Return one row a case."""
    mp.mp.dps = 60
    found = []
    for case in CASES:
        print(f"{len(found) + 1}/{len(CASES)} {case.name}", flush=True)
        found.append(row(case))
    return found


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Write one row a line."""
    HERE.joinpath(name).write_text("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["compositions"]:
        write("compositions.json", compositions())
    else:
        write("truth.json", truths())
