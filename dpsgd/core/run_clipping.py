"""Clipping in the course of a run: the bound in use, the noise that goes with it, what each step shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer
from dpsgd.config import DPSGD
from dpsgd.core.adaptive import AdaptiveClipper
from dpsgd.core.clippers import Clipper, FlatClipper, StretchingClipper, layer_bounds
from dpsgd.core.operator_log import OperatorLog
from dpsgd.core.parameters import by_layer
from dpsgd.core.ranks import Ranks
from dpsgd.core.saved import State
from mechanisms import InvalidParameter, Source


@dataclass(slots=True, kw_only=True, eq=False)
class RunClipping:
    """The clipper of a run, and what happens around it in every step.

    Args:
        clip: gives the factors.
        noise_multiplier: of the noise on the sum ÷ the bound in use.
    """

    clip: Clipper
    noise_multiplier: float
    _log: OperatorLog | None = None

    def log_to(self, path: Path, ranks: Ranks) -> None:
        """Write what every step has seen to an operator's log at `path` as well.

        Raises:
            InvalidParameter: if there are several ranks, or a file.
        """
        if ranks.count > 1:
            raise InvalidParameter("train: operator_log must be None with several ranks, each of which sees a share.")
        self._log, self.clip.seen = OperatorLog(path=path), []

    @property
    def bound(self) -> float:
        """C_t, the bound on what one record adds to the sum in the step under way: public."""
        return self.clip.max_grad_norm

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on the sum."""
        return self.noise_multiplier * self.bound

    def end_step(self, step: int, *, source: Source, run: int, ranks: Ranks) -> float | None:
        """Return the noisy count of a step if its bound is adaptive, which then moves; see `dpsgd.clipping`.

        Args:
            step: its number, from 0.
            source: where the count's noise comes from.
            run: where the run begins.
            ranks: whose counts are added.
        """
        if self.clip.seen is None:
            return None
        seen, self.clip.seen = self.clip.seen, []
        if self._log is not None:
            self._log.write(step, seen)
        if isinstance(self.clip, AdaptiveClipper):
            count = ranks.added(self.clip.count(seen))
            return self.clip.noisy_count(count, source=source, run=run, step=step)
        return None

    def forget(self) -> None:
        """Drop what has been seen since the last step: it was of no record."""
        if self.clip.seen is not None:
            self.clip.seen = []

    def state_dict(self) -> State:
        """Return what later steps follow from, beside the configuration: nothing, unless the bound is adaptive."""
        return self.clip.state_dict() if isinstance(self.clip, AdaptiveClipper) else {}

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            InvalidParameter: if it is the state of another clipping.
        """
        if isinstance(self.clip, AdaptiveClipper):
            self.clip.load_state_dict(state)
        elif state:
            raise InvalidParameter(f"RunClipping: state must be empty for a fixed bound, got {sorted(state)}.")


def run_clipping(config: DPSGD, model: nn.Module) -> RunClipping:
    """Return what clips in a run of `config` on `model`, before its first step.

    Raises:
        InvalidParameter: if shares are not those of the model's layers.
    """
    multiplier = config.noise_multiplier
    if isinstance(config.clipping, AdaptiveQuantile):
        multiplier = config.clipping.sum_noise_multiplier(multiplier)
    return RunClipping(clip=_clipper(config, model), noise_multiplier=multiplier)


def _clipper(config: DPSGD, model: nn.Module) -> Clipper:
    bound = config.max_grad_norm
    match config.clipping:
        case Flat():
            return FlatClipper(max_grad_norm=bound)
        case PerLayer(shares=shares):
            layers = {path: layer for path, layer, _ in by_layer(model)}
            given = None if shares is None else dict(shares)
            _check_layers(layers, given)
            return layer_bounds(layers, given, max_grad_norm=bound)
        case Automatic(stability=stability):
            return StretchingClipper(max_grad_norm=bound, stability=stability)
        case Normalised():
            return StretchingClipper(max_grad_norm=bound, stability=0.0)
        case AdaptiveQuantile():
            return AdaptiveClipper(
                max_grad_norm=bound,
                initial=bound,
                clipping=config.clipping,
                expected_batch_size=config.expected_batch_size,
                seen=[],
            )


def _check_layers(layers: dict[str, nn.Module], shares: dict[str, float] | None) -> None:
    if shares is not None and set(shares) != set(layers):
        raise InvalidParameter(
            f"PerLayer: shares must name just the layers {sorted(layers)}, got {sorted(shares)}.\n"
            "These are the modules that hold trainable parameters themselves."
        )
