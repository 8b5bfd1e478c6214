"""The white-box attack on gradient canaries where noise is correlated over the steps: the noise is made white first.

With y_t the noisy sum of step t, κ_t the known records' part of it, C the clip norm and g_i the canaries' unit vectors
at right angles, let x_it = ⟨g_i, y_t − κ_t⟩ / C, and 1 if it is canary i's turn in step t, else 0, be τ_it. Of a record
whose turns are public nothing is hidden but whether it is in, b_i ∈ {0, 1}:

    x_it = b_i τ_it + w_it,     w_i the described noise in units of C, independent for different i

S of `audit.core.whitening` makes it white. With p_i = S x_i and the signature a_i = S τ_i,

    p_i ~ N(b_i a_i, σ² I)      exactly,

so that ⟨a_i, p_i⟩ ~ N(b_i ‖a_i‖², σ² ‖a_i‖²) says all that there is to know of b_i [NP33]. ‖a_i‖ is how far the record
moves what is shown: sens of `MatrixMechanism` where its turns are the worst ones, for a `Tree` less than sens, which is
about all nodes, where a run shows the prefixes alone.

[NP33] J. Neyman, E. Pearson. On the Problem of the Most Efficient Tests of Statistical Hypotheses. Philosophical
Transactions of the Royal Society A 231, 1933.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from audit.attack import Attack, Public, Release, Sees
from audit.attacks.gradient import GradientProjection
from audit.canaries import GradientCanaries, Vector
from audit.core.correlated import CorrelatedRun
from audit.core.shared_directions import at_right_angles
from audit.core.turns import Taken
from audit.core.whitened_scores import Whitened
from audit.core.whitening import Kept
from audit.scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folded:
    """The fold's state; numbers of every canary are float64 (m,), in units of the bound.

    Args:
        canaries: whose gradients are looked for.
        public: see `Public`.
        run: the claimed one.
        upright: whether canaries are at right angles.
        steps: number of steps seen.
        taken: the turns that they had.
        kept: of projections and turns, (2, m) each, for whitening.
        white: p of the last step.
        energies: Σ a².
        matched: Σ a p.
        squares: Σ p².
        lagged: Σ of p times p of the step before.
        sums: Σ x.
        halfway: Σ x over the first 2^k steps.
    """

    canaries: GradientCanaries
    public: Public
    run: CorrelatedRun
    upright: bool
    steps: int
    taken: Taken
    kept: Kept
    white: Vector
    energies: Vector
    matched: Vector
    squares: Vector
    lagged: Vector
    sums: Vector
    halfway: Vector


@dataclass(frozen=True, slots=True)
class WhitenedProjection(Attack):
    """score_i = ⟨a_i, p_i⟩ − ‖a_i‖²/2 = σ² log of the likelihood ratio of in to out; see the module.

    What is subtracted of the known records is exactly their part in the step, not a mean over draws, and the canaries'
    part is known but for their coins: the law is normal, whatever the noise and the number of steps.

    Guarantees: memory and cost of a step do not depend on the number of steps, but through the bands of the claim or,
    for a tree, its open nodes, the logarithm of the number of steps; the coins are never seen.
    """

    threat_model: ClassVar[str] = f"{GradientProjection.threat_model}; knows who takes part in which step"
    sees: ClassVar[Sees] = "steps"
    takes: ClassVar[type] = GradientCanaries
    needs: ClassVar[tuple[str, ...]] = ("max_grad_norm", "expected_sum", "turns", "process")
    follows_turns: ClassVar[bool] = True
    measures_noise: ClassVar[bool] = True

    def start(self, canaries: GradientCanaries, public: Public) -> Folded:
        """Return sums of zero.

        Raises:
            UnsupportedProcess: if the claim is no matrix mechanism or tree, or one of too many bands or steps.
        """
        assert public.process is not None
        zeros = np.zeros(len(canaries))
        return Folded(
            canaries=canaries,
            public=public,
            run=CorrelatedRun.of(public.process),
            upright=at_right_angles(canaries),
            steps=0,
            taken=Taken.none(len(canaries)),
            kept=(),
            white=zeros,
            energies=zeros,
            matched=zeros,
            squares=zeros,
            lagged=zeros,
            sums=zeros,
            halfway=zeros,
        )

    def observe(self, state: Folded, release: Release) -> Folded:
        """Return the state with one more step added.

        Raises:
            TrainerFault: if turns lie closer together than is claimed.
        """
        given, step, claim = state.public, state.steps, state.run.mechanism
        assert given.expected_sum is not None and given.max_grad_norm is not None and given.turns is not None
        told = given.turns(step)
        noise = release.noisy_sum - given.expected_sum(release.weights_before, step=step)
        seen = state.canaries.projections(noise.to("cpu", torch.float64).numpy()) / given.max_grad_norm
        rows = np.stack([seen, told.astype(np.float64)])
        (white, signature), kept = state.run.whitening.advance(step, rows, state.kept)
        sums = state.sums + seen
        return replace(
            state,
            steps=step + 1,
            taken=state.taken.after(step, told, participations=claim.participations, separation=claim.separation),
            kept=kept,
            white=white,
            energies=state.energies + signature**2,
            matched=state.matched + signature * white,
            squares=state.squares + white**2,
            lagged=state.lagged + white * state.white,
            sums=sums,
            halfway=sums if step & (step + 1) == 0 else state.halfway,
        )

    def finish(self, state: Folded) -> Scores:
        """Return the log-likelihood ratios, with what measures the noise."""
        return Scores(
            values=state.matched - 0.5 * state.energies,
            design=state.public.design,
            guessing_rule=state.public.guessing_rule,
            squares=state.squares,
            sums=state.sums,
            measuring=None if state.upright else np.zeros(len(state.sums), dtype=np.bool_),
            whitened=Whitened(
                steps=state.steps,
                energies=state.energies,
                matched=state.matched,
                halfway=state.halfway,
                lagged=state.lagged if state.upright else None,
            ),
        )
