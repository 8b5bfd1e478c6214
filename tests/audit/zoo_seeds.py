"""How often the zoo's detectors catch every bug, and its twin, over many seeds.

    python -m tests.audit.zoo_seeds [--seeds N] [--out FILE] [NAME …]
    python -m tests.audit.zoo_seeds --samples [--seeds N]       the faults under every sampling scheme, in one file

At every seed all detectors run on the bug and on its twin, which for bugs in training is the same for all, at the level
of `python -m audit.zoo`: at most one run in 10,000 should show any alarm. What was found so far is written after every
bug; bugs that are in the file with as many seeds or more are not run again.
"""

import argparse
import functools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from audit.core import sampled_zoo
from audit.core.specimens import TrainingSpecimen, specimens
from audit.core.toy_training import dp_sgd
from audit.core.zoo_run import detections, level

RESULTS, SAMPLED = (Path(__file__).with_name(name) for name in ("zoo_seeds.json", "zoo_samples.json"))


@functools.cache
def honest(seed: int) -> list[str]:
    """Return what catches the one twin that all bugs in training have."""
    twin = TrainingSpecimen(source="none: it is correct", broken=dp_sgd, caught_by=("replay",))
    return [one.detector for one in detections(twin, "correct", level(), seed) if one.caught]


def caught(name: str, which: str, seed: int) -> list[str]:
    """Return the detectors that catch a bug or its twin."""
    specimen = specimens()[name]
    if which == "correct" and specimen.correct is dp_sgd:
        return honest(seed)
    return [one.detector for one in detections(specimen, which, level(), seed) if one.caught]


def counted(name: str, seeds: int) -> dict[str, object]:
    """Return how many seeds every detector caught the bug and its twin at, and the CPU seconds a seed."""
    started = time.process_time()
    found = {
        which: Counter(detector for seed in range(seeds) for detector in caught(name, which, seed))
        for which in ("broken", "correct")
    }
    return {
        "seeds": seeds,
        "expected": list(specimens()[name].caught_by),
        "caught": dict(found["broken"]),
        "alarms": dict(found["correct"]),
        "cpu_seconds": round((time.process_time() - started) / seeds, 2),
    }


def sampled(seeds: int) -> dict[str, dict[str, object]]:
    """Return the same of every fault under every sampling scheme, of the detectors that must catch it alone."""
    found, each = dict[str, dict[str, Any]](), sampled_zoo.level()
    for scheme in sampled_zoo.SCHEMES:
        twins = [sampled_zoo.detections(scheme, dp_sgd, each, seed) for seed in range(seeds)]
        alarms = Counter(one.detector for twin in twins for one in twin if one.caught)
        for name, (train, expected) in sampled_zoo.faults(scheme).items():
            started = time.process_time()
            seen = [sampled_zoo.DETECTORS[one](scheme, train, each, seed) for one in expected for seed in range(seeds)]
            found[f"{scheme}: {name}"] = {
                "seeds": seeds,
                "expected": list(expected),
                "caught": Counter(one.detector for one in seen if one.caught),
                "alarms": alarms,
                "cpu_seconds": round((time.process_time() - started) / seeds, 3),
            }
            print(scheme, name, found[f"{scheme}: {name}"], flush=True)
    return found


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--samples", action="store_true")
    asked = parser.parse_args()
    if asked.samples:
        SAMPLED.write_text(json.dumps(sampled(asked.seeds), indent=2, sort_keys=True) + "\n")
        return
    results = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for name in asked.names or specimens():
        if results.get(name, {}).get("seeds", 0) >= asked.seeds:
            continue
        results[name] = counted(name, asked.seeds)
        asked.out.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
        print(name, results[name], flush=True)


if __name__ == "__main__":
    main()
