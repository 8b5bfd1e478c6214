"""The cases of truth.json: what is run, under which neighbours, at which δ, and by which route the truth is found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.reference.sampled import Line, Split
from tests.reference.steps import (
    GaussianStep,
    LaplaceStep,
    ResponseStep,
    SampledStep,
    StatedStep,
    Steps,
    TableStep,
)

DIRECTIONS = {"add_remove": ("remove", "add"), "zero_out": ("remove", "add"), "replace_one": ("replace",)}


@dataclass(frozen=True)
class Case:
    """`steps` in the order that they are written in JSON; `split` and `lines` for the route of that name only."""

    name: str
    steps: Steps
    delta: float
    route: str
    adjacency: str = "add_remove"
    lines: tuple[tuple[Line, Split], ...] = ()
    only: str = ""

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions whose truth is found."""
        return (self.only,) if self.only else DIRECTIONS[self.adjacency]


def gaussian(sigma: float, times: int, delta: float, adjacency: str = "add_remove") -> Case:
    movement = 2 if adjacency == "replace_one" else 1
    name = f"gaussian {sigma:g} x{times:g} {adjacency} {delta:g}"
    return Case(name, ((GaussianStep(sigma, movement), times),), delta, "gaussian", adjacency)


def laplace(scale: float, times: int, delta: float, adjacency: str = "add_remove", route: str = "laplace") -> Case:
    movement = 2 if adjacency == "replace_one" else 1
    name = f"laplace {scale:g} x{times:g} {adjacency} {delta:g}"
    return Case(name, ((LaplaceStep(scale, movement), times),), delta, route, adjacency)


def response(epsilon: float, categories: int, times: int, delta: float) -> Case:
    name = f"response {epsilon:.3g} of {categories} x{times:g} {delta:g}"
    return Case(name, ((ResponseStep(epsilon, categories), times),), delta, "response", "replace_one")


def single(step: SampledStep | LaplaceStep, delta: float, adjacency: str = "add_remove", only: str = "") -> Case:
    gaussian_noise = isinstance(step, SampledStep)
    noise = (
        "gaussian " + "+".join(f"{sigma:g}" for sigma in step.sigmas) if gaussian_noise else f"laplace {step.scale:g}"
    )
    name = f"one sampled {noise} {step.q:g} {only or adjacency} {delta:g}"
    return Case(name, ((step, 1),), delta, "single", adjacency, only=only)


def sgd(sigma: float, q: float, times: int, delta: float, adjacency: str = "add_remove") -> Case:
    name = f"sampled {sigma:g} {q:.4g} x{times:g} {adjacency} {delta:g}"
    return Case(name, ((SampledStep(q, (sigma,)), times),), delta, "contour", adjacency)


def mixed(name: str, steps: Steps, delta: float, route: str = "contour", adjacency: str = "add_remove") -> Case:
    return Case(f"{name} {adjacency} {delta:g}", steps, delta, route, adjacency)


GAUSSIANS = (
    *(gaussian(1.0, 1, delta) for delta in (1e-5, 1e-15, 1e-100)),
    *(gaussian(0.02, 1, delta) for delta in (0.5, 1e-5, 1e-30)),
    *(gaussian(1000.0, 1, delta) for delta in (1e-3, 1e-5)),
    *(gaussian(1000.0, 10**9, delta) for delta in (0.5, 1e-30)),
    gaussian(100.0, 1, 1e-5),
    gaussian(5.0, 1000, 1e-6),
    gaussian(2.0, 100, 1e-5),
    gaussian(1.0, 1, 1e-5, "replace_one"),
    gaussian(20.0, 100, 1e-12, "replace_one"),
    gaussian(1.5, 50, 1e-6, "zero_out"),
    mixed(
        "three gaussians", ((GaussianStep(1.0), 3), (GaussianStep(2.0), 10), (GaussianStep(0.5), 1)), 1e-10, "gaussian"
    ),
)
LAPLACES = (
    laplace(1.0, 1, 1e-5),
    laplace(1.0, 1, 0.5),
    laplace(1.0, 1, 0.1),
    laplace(0.02, 1, 1e-12),
    laplace(10.0, 100, 1e-6),
    laplace(1.0, 10, 1e-15),
    laplace(60.0, 400, 1e-8),
    laplace(50.0, 10_000, 1e-10, route="contour"),
    laplace(1000.0, 10**6, 1e-30, route="contour"),
    laplace(5.0, 20, 1e-5, "replace_one"),
    laplace(2.0, 3, 1e-10, "zero_out"),
    single(LaplaceStep(1.0, 1, 0.1), 1e-3),
    single(LaplaceStep(0.3, 1, 0.01), 1e-5),
)
RESPONSES = (
    response(math.log(3), 2, 10, 1e-5),
    response(math.log(3), 2, 100, 1e-6),
    response(math.log(19 / 9), 10, 1000, 1e-12),
    response(3.0, 2, 1, 0.1),
    response(0.2, 5, 200, 1e-30),
    response(1.0, 1000, 50, 1e-8),
    response(0.05, 2, 10_000, 1e-100),
    response(0.001, 2, 10**6, 1e-5),
    response(0.01, 2, 10**5, 1e-10),
    mixed("stated pure", ((StatedStep(0.1, 0.0, "add_remove"), 50),), 1e-6, "table", "add_remove"),
    mixed("stated pure once", ((StatedStep(1.0, 0.0, "replace_one"), 1),), 1e-9, "table", "replace_one"),
    mixed("stated approximate", ((StatedStep(0.2, 1e-7, "add_remove"), 20),), 1e-5, "table"),
    mixed("stated approximate once", ((StatedStep(1.0, 1e-5, "zero_out"), 1),), 1e-3, "table", "zero_out"),
    mixed(
        "two stated",
        ((StatedStep(0.2, 1e-7, "replace_one"), 8), (StatedStep(0.5, 0.0, "replace_one"), 4)),
        1e-4,
        "table",
        "replace_one",
    ),
)
COIN = TableStep((0.75, 0.25), (0.25, 0.75))
TELLING = TableStep((0.5, 0.25, 0.1875, 0.0625, 0.0), (0.25, 0.5, 0.125, 0.0, 0.125))
RARE = TableStep((0.984375, 0.015625), (0.9921875, 0.0078125))
TABLES = (
    mixed("coin x12", ((COIN, 12),), 1e-3, "table"),
    mixed("telling table x4", ((TELLING, 4),), 0.5, "table"),
    mixed("telling table x1", ((TELLING, 1),), 0.2, "table", "zero_out"),
    mixed("rare coin x60", ((RARE, 60),), 1e-12, "table"),
    mixed("coin x5, rare coin x20", ((COIN, 5), (RARE, 20)), 1e-6, "table"),
)
FEW = (
    single(SampledStep(0.01, (1.1,)), 1e-5),
    single(SampledStep(0.01, (0.02,)), 1e-3),
    single(SampledStep(1e-6, (1.0,)), 1e-8),
    single(SampledStep(0.9, (1000.0,)), 1e-6),
    single(SampledStep(0.99, (0.5,)), 1e-100, only="remove"),
    single(SampledStep(0.99, (0.5,)), 1e-12),
    single(SampledStep(0.25, (1.0, 2.0)), 1e-5, "zero_out"),
    mixed("two sampled", ((SampledStep(0.5, (1.0,)), 2),), 1e-3, "nested"),
    mixed("two sampled", ((SampledStep(0.01, (0.3,)), 2),), 1e-5, "nested"),
    mixed("sampled twice", ((GaussianStep(1.0), 1), (SampledStep(0.2, (0.7,)), 1)), 1e-6, "nested"),
    Case(
        "sampled 0.1 0.01 x10 remove 1e-05",
        ((SampledStep(0.01, (0.1,)), 10),),
        1e-5,
        "split",
        lines=((Line(1.079, 0.0071, 1700), Split(6.5, 0.15)), (Line(1.085, 0.0068, 2200), Split(6.4, 0.14))),
        only="remove",
    ),
    Case(
        "sampled 0.3 0.01 x100 remove 1e-05",
        ((SampledStep(0.01, (0.3,)), 100),),
        1e-5,
        "split",
        lines=((Line(1.285, 0.0287, 11000), Split(2.9, 0.25)), (Line(1.3, 0.027, 12500), Split(2.8, 0.23))),
        only="remove",
    ),
)
SGD = (
    *(sgd(1.1, 0.01, 10_000, delta) for delta in (0.5, 0.1, 1e-5, 1e-10, 1e-15, 1e-30, 1e-100)),
    sgd(1.1, 0.01, 10_000, 1e-5, "zero_out"),
    sgd(0.8, 256 / 60_000, 14_062, 1e-5),
    sgd(4.0, 0.01, 10_000, 1e-5),
    sgd(2.0, 0.01, 1500, 1e-15),
    *(sgd(1.0, 1 / math.sqrt(10**k), 10**k, delta) for k in range(2, 10) for delta in (1e-5, 1e-30)),
    sgd(1.0, 1e-5, 10**6, 1e-8),
    sgd(1.0, 1e-5, 10**6, 1e-12),
    sgd(2.0, 1e-6, 10**9, 1e-12),
    sgd(1.0, 0.001, 100_000, 1e-6),
    sgd(0.5, 0.01, 1000, 1e-5),
    sgd(50.0, 0.5, 1000, 1e-6),
    sgd(10.0, 0.1, 10**6, 1e-6),
    sgd(20.0, 0.05, 10**7, 1e-6),
    sgd(0.7, 0.9, 100, 1e-5),
    sgd(0.7, 0.9, 100, 0.5),
    sgd(100.0, 0.01, 10_000, 1e-5),
    sgd(1000.0, 0.01, 10**9, 1e-30),
    sgd(2.5, 16_384 / 1_281_167, 18_000, 8e-7),
)
MIXES = (
    mixed(
        "three sampled",
        ((SampledStep(0.01, (1.5,)), 500), (SampledStep(0.02, (0.8,)), 300), (SampledStep(0.1, (3.0,)), 200)),
        1e-6,
    ),
    mixed(
        "gaussian, laplace, sampled",
        ((GaussianStep(2.0), 10), (LaplaceStep(5.0), 20), (SampledStep(0.01, (1.0,)), 1000)),
        1e-5,
    ),
    mixed("gaussian, sampled", ((GaussianStep(3.0), 1), (SampledStep(1e-3, (0.6,)), 300)), 1e-20),
    mixed("gaussian, rare sampled", ((GaussianStep(1.0), 1), (SampledStep(1e-6, (0.5,)), 10)), 1e-5),
    mixed("one table among sampled", ((TELLING, 1), (SampledStep(0.01, (1.0,)), 2000)), 0.2),
    mixed("coins, gaussian, sampled", ((COIN, 3), (GaussianStep(2.0), 4), (SampledStep(0.05, (2.0,)), 200)), 1e-9),
    mixed("pairs on one sample", ((SampledStep(0.05, (1.0, 2.0)), 400), (GaussianStep(4.0), 1)), 1e-7),
    mixed(
        "gaussian, laplace, responses",
        ((GaussianStep(3.0, 2), 5), (LaplaceStep(4.0, 2), 10), (ResponseStep(0.3, 4), 20)),
        1e-8,
        adjacency="replace_one",
    ),
    mixed(
        "stated approximate, sampled",
        ((StatedStep(0.02, 1e-12, "add_remove"), 5000), (SampledStep(0.01, (2.0,)), 3000)),
        1e-8,
    ),
    mixed("laplace, gaussian", ((LaplaceStep(1.0), 1), (GaussianStep(1.0), 1)), 1e-40, adjacency="zero_out"),
    mixed(
        "two hundred thousand mixed",
        ((SampledStep(0.002, (0.9,)), 150_000), (SampledStep(0.01, (5.0,)), 40_000), (GaussianStep(50.0), 10_000)),
        1e-6,
    ),
)
CASES = (*GAUSSIANS, *LAPLACES, *RESPONSES, *TABLES, *FEW, *SGD, *MIXES)
