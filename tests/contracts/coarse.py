"""Every accountant there is, with settings for which an answer takes hundredths of a second: as sound, less tight."""

from __future__ import annotations

from unittest.mock import patch

from accountant import available, tightest
from accountant.core.base import Accountant
from accountant.core.profile import Profile
from accountant.pld import PLD
from accountant.prv import PRV
from accountant.rdp import RDP
from mechanisms import Adjacency, Process

COARSE = PLD(relative_width=1e-4, most_points=2**14)
ORDERS = (1.25, 1.5, 2.0, 3.0, 5.0, 9.0, 17.0, 33.0, 129.0)
_SETTINGS: dict[str, Accountant] = {"pld": COARSE, "prv": PRV(eps_error=0.1), "rdp": RDP(orders=ORDERS)}
ACCOUNTANTS: dict[str, Accountant] = {name: _SETTINGS.get(name) or kind() for name, kind in available().items()}
ROUTES = {name: accountant for name, accountant in ACCOUNTANTS.items() if name != "tightest"}
NEVER_LESS = ("basic", "advanced", "moments")  # than `optimal` and `rdp`


def profile(name: str, process: Process, adjacency: Adjacency) -> Profile:
    """Return what the accountant of this name says; `tightest` asks the coarse ones that may matter, in its order."""
    order = [ACCOUNTANTS[one.name] for one in tightest._by_cost() if one.name not in NEVER_LESS]
    with patch.object(tightest, "_by_cost", lambda: order):
        return ACCOUNTANTS[name].profile(process, adjacency=adjacency)
