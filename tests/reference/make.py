"""Writes compositions.json: δ(ε) of two and three sampled Gaussian steps to 15 digits, by nested quadrature.

python tests/reference/make.py        (about half an hour)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mpmath as mp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.reference.truth import composed_delta

CASES = (
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


def rows() -> list[dict[str, object]]:
    """Return one row a case, direction and ε whose δ is not negligible."""
    mp.mp.dps = 20
    found = []
    for steps in CASES:
        for direction, epsilons in EPSILONS[len(steps)].items():
            for epsilon in epsilons:
                value = composed_delta(steps, direction, mp.mpf(epsilon))
                if value > LEAST:
                    row = {"steps": steps, "direction": direction, "epsilon": epsilon, "delta": mp.nstr(value, 15)}
                    found.append(row)
    return found


if __name__ == "__main__":
    target = Path(__file__).with_name("compositions.json")
    target.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows()) + "\n]\n")
