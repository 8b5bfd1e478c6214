"""The planted faults under every sampling scheme: what is claimed is DP-SGD on such samples, and what is run is not.

Half the noise, the mean clipped, a record that ends the run, the actual batch size as a divisor where that is not
public, and every other scheme in its place meet four detectors: replay, of neighbours that the scheme is private for;
*sampling*, one run whose records are told apart in every sum, see `audit.core.toy_samples`; *noise* and *inversion* as
in `audit.core.detectors`, of records that are out by contributing nothing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from audit.core.comparing import Additive
from audit.core.described import truncated_participation
from audit.core.detectors import CANARIES, Detection, inverted, noise_seen, replayed, sums
from audit.core.specimens import TrainingSpecimen, specimens, title
from audit.core.toy_samples import SCHEMES, log_likelier
from audit.core.toy_training import Plan, Train, dp_sgd
from audit.core.zoo_run import ALPHA, ZooReport, ZooRow
from mechanisms.core import validate
from mechanisms.core.randomness import KeyedSource, coins

EVERYWHERE: dict[str, tuple[str, ...]] = {
    "noise_halved": ("noise", "inversion"),
    "mean_clipped": ("replay",),
    "outlier_stops": ("replay",),
}
WHERE_BATCHES_VARY: dict[str, tuple[str, ...]] = {"divided_by_batch": ("sampling",)}  # else their size is public
STATISTICAL = ("sampling", "noise", "inversion")
STEPS = 64  # of the run whose records are told apart: half a bit a step tells the least different schemes apart
UNCOUNTED = 0.1  # a hundred deviations of the noise in it


def faults(scheme: str) -> dict[str, tuple[Train, tuple[str, ...]]]:
    """Return what may be run in the place of a scheme's DP-SGD, and the detectors that must catch it."""
    known, found = specimens(), dict[str, tuple[Train, tuple[str, ...]]]()
    for name, caught_by in (EVERYWHERE | (WHERE_BATCHES_VARY if SCHEMES[scheme].varies else {})).items():
        planted = known[name]
        assert isinstance(planted, TrainingSpecimen)
        found[name] = (planted.broken, caught_by)
    for name, other in SCHEMES.items():
        if name != scheme:
            found[f"{name} run"] = (functools.partial(dp_sgd, sample=other.sample), ("sampling",))
    return found


def level() -> float:
    """Return the level of each test: ALPHA over the number of tests on all faults and twins of all schemes."""
    tests = sum(len(STATISTICAL) * (len(faults(scheme)) + 1) for scheme in SCHEMES)
    return ALPHA / tests


def detections(scheme: str, train: Train, each: float, seed: int) -> tuple[Detection, ...]:
    """Return what every detector says of a run that is claimed to be DP-SGD on such samples."""
    return tuple(detector(scheme, train, each, seed) for detector in DETECTORS.values())


def run_sampled_zoo(*, seed: int = 0, tell: Callable[[ZooRow], None] = lambda row: None) -> ZooReport:
    """Return what every detector says of every fault under every scheme, and of DP-SGD on that scheme's samples.

    Args:
        seed: of all records, coins and noise.
        tell: is told every row when it is there.

    Guarantees: over the seeds, the probability that any twin is caught in a run is at most `ALPHA`, up to the floats
    in which twins add their noise.
    """
    seed, each = validate.count("run_sampled_zoo", "seed", seed), level()
    rows = []
    for row in _rows(each, seed):
        rows.append(row)
        tell(row)
    return ZooReport(rows=tuple(rows), level=each, seed=seed)


def _rows(each: float, seed: int) -> Iterator[ZooRow]:
    known = specimens()
    for scheme in SCHEMES:
        twin = detections(scheme, dp_sgd, each, seed)
        for name, (train, caught_by) in faults(scheme).items():
            started = time.process_time()
            found = detections(scheme, train, each, seed)
            yield ZooRow(
                name=f"{scheme}: {name}",
                title=title(name) if name in known else "Records are drawn in another way",
                source="",
                expected=caught_by,
                caught=tuple(one for one in found if one.caught),
                alarms=tuple(one for one in twin if one.caught),
                seconds=time.process_time() - started,
            )


def _by_replay(scheme: str, train: Train, each: float, seed: int) -> Detection:
    """Replay 8 steps on 8 records; one that may be drawn several times moves a sum by the whole batch at most."""
    plan = _plan(scheme, noise_multiplier=1.0, probability=0.5, steps=8, records=8)
    most = plan.expected_batch_size if scheme == "with_replacement" else 1.0
    description = Additive(sensitivity=most, per_record=("coins", "order"))
    return replayed(train, plan, records=8, adjacency=SCHEMES[scheme].adjacency, description=description, seed=seed)


def _by_sampling(scheme: str, train: Train, each: float, seed: int) -> Detection:
    """Bet on all other schemes, by how often 32 records are seen in every sum."""
    plan = _plan(scheme, noise_multiplier=1e-3, probability=0.25, steps=STEPS, records=32)
    seen = sums(train, np.eye(32), plan, KeyedSource(seed))
    counts = np.rint(np.nan_to_num(seen, nan=-1.0, posinf=-1.0, neginf=-1.0))
    if len(seen) < STEPS or np.any(np.abs(seen - counts) > UNCOUNTED) or counts.min() < 0:
        return Detection(detector="sampling", caught=True, runs=1, evidence="sums are not those of whole records")
    odds = log_likelier(scheme, counts.astype(np.int64), plan.probability)
    told = "impossible" if odds == np.inf else f"10^{odds / np.log(10):.0f} times likelier under other schemes"
    return Detection(detector="sampling", caught=bool(odds >= -np.log(each)), runs=1, evidence=f"records are {told}")


def _by_noise(scheme: str, train: Train, each: float, seed: int) -> Detection:
    plan = _plan(scheme, noise_multiplier=2.0, probability=0.5, steps=10, records=2)
    return noise_seen(train, plan, np.zeros((2, 16)), each, seed)


def _by_inversion(scheme: str, train: Train, each: float, seed: int) -> Detection:
    plan = _plan(scheme, noise_multiplier=2.0, probability=0.5, steps=20, records=CANARIES)
    source = KeyedSource(seed)
    included = coins(source, "membership", 0, CANARIES, probability=0.5)
    seen = sums(train, np.diag(included.astype(float)), plan, source)
    if scheme == "truncated":
        plan = replace(plan, probability=truncated_participation(plan.probability, CANARIES // 2, CANARIES))
    return inverted(seen, included, plan, each, samples="poisson" if scheme == "poisson" else "other")


DETECTORS: dict[str, Callable[[str, Train, float, int], Detection]] = {
    "replay": _by_replay,
    "sampling": _by_sampling,
    "noise": _by_noise,
    "inversion": _by_inversion,
}


def _plan(scheme: str, *, noise_multiplier: float, probability: float, steps: int, records: int) -> Plan:
    return Plan(
        noise_multiplier=noise_multiplier,
        probability=probability,
        steps=steps,
        expected_batch_size=probability * records,
        sample=SCHEMES[scheme].sample,
    )
