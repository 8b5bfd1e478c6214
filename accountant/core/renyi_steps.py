"""Where accountants find the steps of a process and their Rényi divergences, which mechanisms compose too."""

from mechanisms.core.renyi_steps import RenyiSteps, divergences, renyi_steps

__all__ = ["RenyiSteps", "divergences", "renyi_steps"]
