"""Membership inference on models trained without privacy: the areas and the low alarms of every attack.

    python -m tests.benchmarks.membership [--data NAME] [--json FILE] [--shadows N] [--targets N]

Of a pool of public records each shadow model is trained on a half, and each audited model on those that fair coins
gave it. Models reach every one of their records: nothing is left to learn. Attacks see the final outputs alone, and
the audited models' coins never. The limits take scores for independent; "±" is the standard error of the audited
models' own areas about their mean, which does not. RMIA's γ and offline slope a are those that attack one shadow with
the others best, by the mean area over eight of them: of audited models nothing is used. An order's margin is the mean
difference of the audited models' own areas, with its standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from audit.attacks.lira import likelihood_ratios
from audit.attacks.rmia import dominated_shares
from audit.core.confidences import logit_confidences
from audit.core.references import References, balanced_membership
from audit.roc import area_under_curve, true_positive_rate
from dpsgd import Dataset, NonPrivate, load, mlp, train_together
from mechanisms import InvalidParameter, KeyedSource, __version__
from mechanisms.core.randomness import coins

SCHEMA = "dp-calipers/membership-benchmark/1"
LOSS = nn.CrossEntropyLoss(reduction="none")
CONFIDENCE, ALARMS = 0.95, 0.001
POOL, POPULATION = {"digits": 1000, "mnist": 2000, "fashion_mnist": 2000}, {"digits": 400}
TRAINING = NonPrivate(batch_size=50, steps=800, learning_rate=0.1, momentum=0.9)
HIDDEN = 32
GAMMAS, SLOPES, TUNED_ON = (1.0, 1.2, 1.5, 2.0), tuple(round(0.1 * k, 1) for k in range(11)), 8

Array = NDArray[np.float64]
Attacks = dict[str, Callable[[Array, Array], Array]]


def tuned(references: References, *, mode: str) -> dict[str, float]:
    """Return the γ and the a that attack a reference with all others best, by the mean area over eight references."""
    found = {}
    for gamma in GAMMAS:
        for slope in SLOPES if mode == "offline" else SLOPES[:1]:
            areas = [_area_on(references, one, mode, gamma, slope) for one in range(TUNED_ON)]
            found[gamma, slope] = float(np.mean(areas))
    gamma, slope = max(found, key=lambda choice: found[choice])
    return {"gamma": gamma, "offline_slope": slope}


def _area_on(references: References, one: int, mode: str, gamma: float, slope: float) -> float:
    """Return the area of RMIA on one reference, by the others."""
    assert references.population is not None
    rest = np.arange(len(references.included)) != one
    others = References(
        confidences=references.confidences[rest],
        included=references.included[rest],
        population=references.population[rest],
    )
    seen, population = references.confidences[one], references.population[one]
    scores = dominated_shares(seen, population, others, mode=mode, gamma=gamma, offline_slope=slope)
    inside = references.included[one]
    return area_under_curve(scores[inside], scores[~inside], confidence=CONFIDENCE).value


def negative_loss(seen: Array, others: Array) -> Array:
    """Return log p of the right class."""
    return -np.logaddexp(0.0, -seen)


def attacks(references: References, chosen: Mapping[str, Mapping[str, float]]) -> Attacks:
    """Return every attack by its name: (φ of an audited model on the pool, on the population) -> scores.

    Args:
        references: the shadows.
        chosen: γ and a of RMIA, by its mode.
    """
    found: Attacks = {"loss": negative_loss}
    for mode in ("offline", "online"):
        found[f"rmia, {mode}"] = lambda seen, others, mode=mode: dominated_shares(
            seen, others, references, mode=mode, **chosen[mode]
        )
        for variance in ("pooled", "per_canary"):
            found[f"lira, {mode}, {variance}"] = lambda seen, others, mode=mode, variance=variance: likelihood_ratios(
                seen, references, mode=mode, variance=variance
            )
    return found


def trained(data: str, *, shadows: int, targets: int) -> tuple[References, Array, Array, NDArray[np.bool_], dict]:
    """Return the shadows' references, the audited models' φ on pool and population, their coins, and accuracies."""
    records, test = load(data)
    size = POOL[data]
    pool = Dataset(features=records.features[:size], targets=records.targets[:size])
    end = size + POPULATION.get(data, 2000)
    population = Dataset(features=records.features[size:end], targets=records.targets[size:end])
    source = KeyedSource(0)
    included = balanced_membership(models=shadows, canaries=size, rng=np.random.default_rng(0))
    members = coins(source, "membership", 0, targets * size, probability=0.5).reshape(targets, size)
    models = train_together(
        mlp(records.features.shape[1], (HIDDEN,), 10), pool, TRAINING, membership=np.concatenate([included, members]),
        loss=LOSS, randomness=source, initialisation_seeds=range(shadows + targets),
    )  # fmt: skip
    seen, others, tested = (
        logit_confidences(models.outputs(part.features).numpy(), part.targets.numpy())
        for part in (pool, population, test)
    )
    references = References(confidences=seen[:shadows], included=included, population=others[:shadows])
    accuracies = {"members": float(np.mean(seen[shadows:][members] > 0)), "test": float(np.mean(tested > 0))}
    return references, seen[shadows:], others[shadows:], members, accuracies


def row(scores: Array, members: NDArray[np.bool_]) -> dict[str, float]:
    """Return what the scores of audited models, (targets, m), tell of their members."""
    area = area_under_curve(scores[members], scores[~members], confidence=CONFIDENCE)
    point = true_positive_rate(scores[members], scores[~members], false_positive_rate=ALARMS, confidence=CONFIDENCE)
    own = own_areas(scores, members)
    return {
        "area": area.value,
        "area lower": area.lower,
        "area upper": area.upper,
        "area standard error": float(np.std(own, ddof=1) / np.sqrt(len(own))),
        "rate": point.true_positive_rate,
        "rate lower": point.lower,
        "rate upper": point.upper,
        "false positives": point.false_positives,
        "alarms upper": point.false_positive_rate_upper,
    }


def own_areas(scores: Array, members: NDArray[np.bool_]) -> list[float]:
    """Return the area of every audited model by itself."""
    return [
        area_under_curve(one[inside], one[~inside], confidence=CONFIDENCE).value
        for one, inside in zip(scores, members, strict=True)
    ]


ORDERS = (
    ("lira, online", "rmia, online"),
    ("rmia, online", "loss, online"),
    ("lira, online", "lira, offline"),
    ("rmia, online", "rmia, offline"),
    ("rmia, offline", "loss, offline"),
    ("lira, offline", "loss, offline"),
)


def margins(areas: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return mean and standard error of the differences of own areas, for every order: best of each attack on average.

    >>> found = margins({"loss": [0.5, 0.5], "rmia, online": [0.6, 0.8], "rmia, offline": [0.5, 0.5],
    ...                  "lira, online, pooled": [0.7, 0.7], "lira, offline, pooled": [0.6, 0.6]})
    >>> {name: round(value, 3) for name, value in found["rmia, online - loss, online"].items()}
    {'difference': 0.2, 'standard error': 0.1}
    """

    def best(kind: str) -> Array:
        attack, mode = kind.split(", ")
        named = [name for name in areas if name.startswith(attack) and (mode in name or attack == "loss")]
        return np.array(max((areas[name] for name in named), key=np.mean))

    found = {}
    for above, below in ORDERS:
        gaps = best(above) - best(below)
        error = float(np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
        found[f"{above} - {below}"] = {"difference": float(gaps.mean()), "standard error": error}
    return found


def orders(rows: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """Return which orders of the papers these rows keep, by area and by rate: best of each attack."""
    best = {
        (attack, mode, figure): max(found[figure] for name, found in rows.items() if name.startswith(attack)
                                    and (mode in name or attack == "loss"))
        for attack in ("loss", "rmia", "lira") for mode in ("offline", "online") for figure in ("area", "rate")
    }  # fmt: skip
    return {
        f"{figure}: {above} >= {below}": best[(*above.split(", "), figure)] >= best[(*below.split(", "), figure)]
        for figure in ("area", "rate")
        for above, below in ORDERS
    }


def main(arguments: list[str] | None = None) -> int:
    """Print one line an attack and the orders kept, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.membership", description=__doc__)
    parser.add_argument("--data", choices=tuple(POOL), help="mnist where the data is, else digits")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--targets", type=int, default=32)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cpu, wall = time.process_time(), time.perf_counter()
    data = given.data or _best_there_is()
    references, seen, others, members, accuracies = trained(data, shadows=given.shadows, targets=given.targets)
    print(f"{data}: {given.shadows} shadows, {given.targets} audited models, accuracy {accuracies}")
    print(f"{'attack':26} {'area':>6} {'limits':>15} {'±':>6}  {'TPR at .1 %':>11} {'limits':>15} {'alarms':>6}")
    rows: dict[str, dict[str, float]] = {}
    areas: dict[str, list[float]] = {}
    chosen = {mode: tuned(references, mode=mode) for mode in ("offline", "online")}
    for name, attack in attacks(references, chosen).items():
        scores = np.stack([attack(*pair) for pair in zip(seen, others, strict=True)])
        found, areas[name] = row(scores, members), own_areas(scores, members)
        rows[name] = found
        print(
            f"{name:26} {found['area']:6.4f} [{found['area lower']:.4f}, {found['area upper']:.4f}] "
            f"{found['area standard error']:6.4f} {found['rate']:11.4f}  [{found['rate lower']:.4f}, "
            f"{found['rate upper']:.4f}] {found['false positives']:6}"
        )
    kept = orders(rows)
    for order, holds in kept.items():
        print(f"{order}: {'yes' if holds else 'NO'}")
    print(f"rmia's, by shadows alone: {chosen}")
    apart = margins(areas)
    for order, margin in apart.items():
        print(f"{order}: area {margin['difference']:+.4f} ± {margin['standard error']:.4f}")
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(f"{seconds['cpu']:.1f} CPU seconds, {seconds['wall']:.1f} s")
    if given.json:
        document = {
            "schema": SCHEMA, "library": __version__, "data": data, "shadows": given.shadows, "targets": given.targets,
            "pool": POOL[data], "confidence": CONFIDENCE, "alarms": ALARMS, "accuracies": accuracies,
            "seconds": seconds, "rows": rows, "orders": kept, "margins": apart,
            "tuned": chosen,
        }  # fmt: skip
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _best_there_is() -> str:
    try:
        load("mnist")
    except InvalidParameter:
        return "digits"
    return "mnist"


if __name__ == "__main__":
    sys.exit(main())
