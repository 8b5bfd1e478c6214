"""The same questions put to other libraries, with their default settings; imported only where they are asked.

Each takes the factor of `rows` first. `available` tells which are installed (the optional extra `peers`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

PLD, PRV = "dp_accounting pld", "prv_accountant"
MODULES = {"dp_accounting": "dp_accounting", "prv_accountant": "prv_accountant", "opacus": "opacus.accountants"}
"""Distribution and the module that accounting needs."""


def available() -> list[str]:
    """Return the names of the peers that are installed."""
    return [name for name in MODULES if importlib.util.find_spec(name)]


def installed(asked: Mapping[str, Callable[[float], Any]]) -> dict[str, Callable[[float], Any]]:
    """Return those of the functions, named "peer method", whose peer is installed."""
    here = available()
    return {name: ask for name, ask in asked.items() if name.split()[0] in here}


def _events(noise: float, rate: float, steps: int) -> Any:
    import dp_accounting

    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def _google_pld(noise: float, *, rate: float, steps: int, delta: float) -> float:
    from dp_accounting.pld import PLDAccountant

    return float(PLDAccountant().compose(_events(noise, rate, steps)).get_epsilon(delta))


def _google_rdp(noise: float, *, rate: float, steps: int, delta: float) -> float:
    from dp_accounting.rdp import RdpAccountant

    return float(RdpAccountant().compose(_events(noise, rate, steps)).get_epsilon(delta))


def _prv(noise: float, *, rate: float, steps: int, delta: float) -> float:
    from prv_accountant.dpsgd import DPSGDAccountant

    accountant = DPSGDAccountant(
        noise_multiplier=noise, sampling_probability=rate, eps_error=0.1, delta_error=delta / 1000, max_steps=steps
    )
    return float(accountant.compute_epsilon(delta=delta, num_steps=steps)[2])


def _opacus(kind: str) -> Callable[..., float]:
    def epsilon(noise: float, *, rate: float, steps: int, delta: float) -> float:
        from opacus import accountants

        accountant = getattr(accountants, kind)()
        accountant.history = [(noise, rate, steps)]
        return float(accountant.get_epsilon(delta=delta))

    return epsilon


def _opacus_calibrated(method: str) -> Callable[[float], float]:
    def noise(factor: float) -> float:
        from opacus.accountants.utils import get_noise_multiplier

        given = {"target_delta": 1e-5, "sample_rate": 256 / 60_000, "steps": 14_062, "accountant": method}
        return float(get_noise_multiplier(target_epsilon=3.0 * factor, **given))

    return noise


def _google_calibrated(factor: float) -> float:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    def events(noise: float) -> Any:
        return _events(noise, 256 / 60_000, 14_062)

    return float(dp_accounting.calibrate_dp_mechanism(PLDAccountant, events, 3.0 * factor, 1e-5))


def _google_single(event: str, *given: float, times: int = 1, replace: bool = False) -> Callable[[float], float]:
    def epsilon(factor: float) -> float:
        import dp_accounting
        from dp_accounting.pld import PLDAccountant

        relations = dp_accounting.NeighboringRelation
        relation = relations.REPLACE_ONE if replace else relations.ADD_OR_REMOVE_ONE
        one = getattr(dp_accounting, event)(given[0] * factor, *given[1:])
        return float(PLDAccountant(relation).compose(dp_accounting.SelfComposedDpEvent(one, times)).get_epsilon(1e-5))

    return epsilon


EPSILON: dict[str, Callable[..., float]] = {
    PLD: _google_pld,
    "dp_accounting rdp": _google_rdp,
    PRV: _prv,
    "opacus prv": _opacus("PRVAccountant"),
    "opacus rdp": _opacus("RDPAccountant"),
}
CALIBRATION = {
    PLD: _google_calibrated,
    "opacus prv": _opacus_calibrated("prv"),
    "opacus rdp": _opacus_calibrated("rdp"),
}
GAUSSIAN = {PLD: _google_single("GaussianDpEvent", 0.02)}
# e^0.5 / (e^0.5 + 1) tells the truth: dp_accounting is given the probability of an answer drawn uniformly
RESPONSE = {PLD: _google_single("RandomizedResponseDpEvent", 0.755081, 2, times=10**6, replace=True)}
LAPLACE = {PLD: _google_single("LaplaceDpEvent", 1.0)}
