"""The white-box attack on gradient canaries: their projections of the noisy sums, less what is known of the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from audit.attack import Attack, Public, Release, Sees
from audit.canaries import GradientCanaries, Vector
from audit.core.correlated import correlated_mechanism
from audit.core.shared_directions import Independent, at_right_angles
from audit.scores import Scores
from mechanisms.core.errors import UnsupportedProcess


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projections:
    """The fold's state.

    Args:
        canaries: whose gradients are looked for.
        sums: projections summed over the steps seen, float64 (m,), in units of the bound.
        squares: their squares, summed likewise; of those made independent where canaries share directions.
        independent: makes them so; None where canaries are at right angles.
        public: see `Public`.
    """

    canaries: GradientCanaries
    sums: Vector
    squares: Vector
    independent: Independent | None
    public: Public


@dataclass(frozen=True, slots=True)
class GradientProjection(Attack):
    """score_i = Σ_t ⟨g_i, noisy sum_t − E[clipped sum of the known records | w_t]⟩ / C of a canary of gradient C g_i.

    In units of the clip norm C, with canaries at right angles to one another, an out-score is N(0, T σ²), an in-score
    that plus Bin(T, q), up to the known records' own sampling, which is small beside the noise. Without the subtraction
    the known records' gradients stay in the scores: on digits they hide even a quarter of the described noise from the
    guesses. The squares of the projections, summed over the steps too, are σ² χ² of T degrees where the canary is out:
    they measure the noise step by step. Canaries at other angles share noise, and add to each other's scores: squares
    are then of projections that `audit.core.shared_directions` makes independent. Where the bound moves, C is that of
    the step.

    Guarantees: memory and cost of a step do not depend on the number of steps; the coins are never seen.
    """

    threat_model: ClassVar[str] = (
        "white box: sees the weights and the noisy gradient sum of every step, knows every record but which canaries "
        "are in, and chooses the canaries' gradients"
    )

    sees: ClassVar[Sees] = "steps"
    takes: ClassVar[type] = GradientCanaries
    needs: ClassVar[tuple[str, ...]] = ("max_grad_norm", "expected_sum")
    follows_bound: ClassVar[bool] = True
    measures_noise: ClassVar[bool] = True

    def start(self, canaries: GradientCanaries, public: Public) -> Projections:
        """Return sums of zero.

        Raises:
            UnsupportedProcess: if the claim is of noise that is correlated over the steps.
        """
        if correlated_mechanism(public.process) is not None:
            raise UnsupportedProcess(
                "audit: the process must have noise that is drawn anew in every step for attack 'gradient', got "
                f"{public.process!r}.\n"
                "Use attack='whitened', which makes it white first."
            )
        zeros = np.zeros(len(canaries))
        return Projections(
            canaries=canaries,
            sums=zeros,
            squares=zeros,
            independent=None if at_right_angles(canaries) else Independent.of(canaries),
            public=public,
        )

    def observe(self, state: Projections, release: Release) -> Projections:
        """Return the state with one more step's projections added."""
        given, moved = state.public, getattr(release, "max_grad_norm", None)
        assert given.expected_sum is not None and given.max_grad_norm is not None
        bound = {} if moved in (None, given.max_grad_norm) else {"max_grad_norm": moved}
        noise = release.noisy_sum - given.expected_sum(release.weights_before, **bound)
        unit = np.float64(bound.get("max_grad_norm", given.max_grad_norm))
        seen = state.canaries.projections(noise.to("cpu", torch.float64).numpy()) / unit
        alone = seen if state.independent is None else state.independent.seen(seen)
        return replace(state, sums=state.sums + seen, squares=state.squares + alone**2)

    def finish(self, state: Projections) -> Scores:
        """Return the sums, and the sums of squares."""
        return Scores(
            values=state.sums,
            design=state.public.design,
            guessing_rule=state.public.guessing_rule,
            squares=state.squares,
            measuring=None if state.independent is None else state.independent.measuring,
        )
