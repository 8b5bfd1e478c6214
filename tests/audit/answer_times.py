"""How long estimators take over one answer, in CPU milliseconds.

    python -m tests.audit.answer_times

"first" is the first answer of a process about such data; "next" the median over answers to other data of the same
shape, which find ready what the first one left.
"""

import time
from collections.abc import Callable

import numpy as np

from audit.estimators import calibrated, joint_beta, one_run, one_run_fdp

ANSWERS = 5
LEVEL = {"delta": 1e-5, "confidence": 0.95}
GUESSED = {"canaries": 1000, "guesses": 200, **LEVEL}
BARS = {"one_run": 10, "one_run_fdp": 50, "joint_beta": 100, "calibrated": 500}  # milliseconds


def asked(number: int) -> dict[str, Callable[[], float]]:
    """Return one question for each estimator; there is another one for each number."""
    counts = {
        "true_positives": 400 + number,
        "false_negatives": 100 - number,
        "false_positives": 60 + number,
        "true_negatives": 440 - number,
    }
    return {
        "one_run": lambda: one_run.lower_bound_from_guesses(correct=150 + number, **GUESSED),
        "one_run_fdp": lambda: one_run_fdp.lower_bound_from_guesses(correct=150 + number, **GUESSED),
        "joint_beta": lambda: joint_beta.lower_bound_from_counts(**counts, **LEVEL),
        "calibrated": lambda: calibrated.lower_bound_from_counts(**counts, **LEVEL),
    }


def milliseconds(answer: Callable[[], float]) -> float:
    """Return the processor time of an answer."""
    started = time.process_time()
    answer()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Print a line for each estimator."""
    taken = [{name: milliseconds(answer) for name, answer in asked(number).items()} for number in range(1 + ANSWERS)]
    print(f"{'estimator':12} {'first':>7} {'next':>7} {'bar':>5}   ms")
    for name, bar in BARS.items():
        later = float(np.median([one[name] for one in taken[1:]]))
        print(f"{name:12} {taken[0][name]:7.1f} {later:7.1f} {bar:5}")


if __name__ == "__main__":
    main()
