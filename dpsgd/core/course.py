"""The course of a run: whose numbers it draws, at which step it stands, and how it is kept and taken up again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.core.forms import Forms
from dpsgd.core.history import History
from dpsgd.core.ranks import Ranks
from dpsgd.core.runs import RUN, begin_run, resume_run
from dpsgd.core.saved import Saved, Stateful
from dpsgd.core.structure import structure
from dpsgd.core.taken_up import check_conduct, check_fits, check_layers, check_records
from dpsgd.datasets import Dataset
from mechanisms import InvalidParameter, Source, SystemSource
from mechanisms.core.randomness import SecretSource

MOST_RUNS = 2**32
"""Of one source: further ones would run out of the positions that a cipher counts."""
Parts = Mapping[str, Stateful]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """The file of a run.

    Args:
        checkpoint: where it is.
        last: what it holds or, of a run that begins, will hold before the first step but for the states of its parts.
        begins: whether there is no file yet.
        key: to be written for a run that begins, empty where none is to be.
    """

    checkpoint: Checkpoint
    last: Saved
    begins: bool
    key: bytes

    def open(self, parts: Parts, *, first: bool) -> None:
        """Bring the parts to where the run stands or, as the first rank, write where it begins.

        Raises:
            InvalidParameter: if the file is of a run of other parts.
        """
        if self.begins and first:
            if self.key:
                self.checkpoint.write_key(self.key)  # before the file, which without its key could not go on
            self.write(0, parts)
        if self.begins:
            return
        if set(self.last.states) != set(parts):
            raise InvalidParameter(
                f"Checkpoint: {self.checkpoint.path} must hold the states of {sorted(parts)}, which this run has, and "
                f"holds those of {sorted(self.last.states)}."
            )
        for name, part in parts.items():
            try:
                part.load_state_dict(self.last.states[name])
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                if isinstance(error, InvalidParameter):
                    raise
                raise InvalidParameter(
                    f"Checkpoint: {self.checkpoint.path} must hold the {name} of a run like this, and holds something "
                    "else.\nThe file was not written by this library."
                ) from None

    def is_due(self, steps_taken: int) -> bool:
        """Return whether the file is written after so many steps."""
        return steps_taken % self.checkpoint.every == 0 or steps_taken == self.last.config.steps

    def write(self, steps_taken: int, parts: Parts, *, stopped: bool = False) -> None:
        """Write the file."""
        states = {name: part.state_dict() for name, part in parts.items()}
        kept = dataclasses.replace(self.last, steps_taken=steps_taken, states=states, stopped=stopped)
        self.checkpoint.write(kept.to_bytes())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """A run that begins or goes on.

    Args:
        source: of its samples and noise, the same on every rank.
        run: where it begins in the source's streams, see `dpsgd.core.runs`.
        ahead: numbers of the steps to come; of a run that is complete none, from where it ended.
        ranks: the processes that take part.
        kept: its file, if it has one.
        conduct: how it is carried out, see `dpsgd.core.conduct.told_apart`.
        history: with what it is carried out, from its beginning.
        forms: that its convolutions' gradients come in; None of a run that begins, until `formed_by` tells.
        layers_draw: whether layers or the loss draw numbers of their own for a record of zeros.
    """

    source: Source
    run: int
    ahead: range
    ranks: Ranks
    kept: Kept | None
    conduct: Mapping[str, str]
    history: History
    forms: Forms | None = None
    layers_draw: bool = False

    def formed_by(self, forms: Forms) -> Course:
        """Return the course of the run in these forms, which its file tells of from the first time it is written."""
        if self.kept is None:
            return dataclasses.replace(self, forms=forms)
        kept = dataclasses.replace(self.kept, last=dataclasses.replace(self.kept.last, forms=forms))
        return dataclasses.replace(self, forms=forms, kept=kept)

    def begin(self, parts: Parts) -> None:
        """Bring the parts to where the run stands: before the next step, on every rank."""
        if self.kept is not None:
            self.kept.open(parts, first=self.ranks.first)

    def after(self, steps_taken: int, parts: Parts, *, stopped: bool) -> None:
        """Keep the run if that is due, once the release of its last step has been shown.

        Args:
            steps_taken: their number.
            parts: of the run.
            stopped: whether no further step is to be taken, however many were planned.
        """
        if self.kept is not None and self.ranks.first and (stopped or self.kept.is_due(steps_taken)):
            self.kept.write(steps_taken, parts, stopped=stopped)

    def end(self) -> None:
        """Remove the key of a complete or stopped run: nothing needs it any more."""
        if self.kept is not None and self.ranks.first and not self.source.reproducible:
            self.kept.checkpoint.remove_key()


def set_out(
    checkpoint: Checkpoint | None,
    randomness: Source,
    *,
    config: DPSGD,
    model: nn.Module,
    dataset: Dataset,
    conduct: Mapping[str, str],
    fresh: bool = False,
) -> Course:
    """Return the course of a run: one that goes on if the checkpoint's file is there, else one that begins.

    Args:
        checkpoint: where the run is kept; None keeps nothing.
        randomness: of samples and noise, unless it is a SystemSource and the key must outlive the process, or serve
            other ranks: then its place is taken by a key that is drawn, or was drawn when the run began, just so.
        config: of the run.
        model: of the run.
        dataset: of the run.
        conduct: what tells this conduct of the run from another, see `dpsgd.core.conduct`.
        fresh: whether the model's weights were drawn afresh, for a run that begins.

    Raises:
        InvalidParameter: if the file is damaged or of another run, or something differs between ranks.
    """
    ranks = Ranks.present(device=next(parameter.device for parameter in model.parameters()))
    history = History.of_this_process(fresh=fresh, ranks=ranks.count)
    common: dict[str, Any] = {"ranks": ranks, "conduct": conduct}
    if checkpoint is None and ranks.count == 1:
        run, ahead = begin_run(randomness), range(config.steps)
        return Course(source=randomness, run=run, ahead=ahead, kept=None, history=history, **common)
    saved = _found(checkpoint, ranks)
    fixed = structure(model)
    if saved is not None:
        check_fits(saved, config, fixed, randomness)
        check_layers(saved, model)
        check_conduct(saved, conduct)
    source, key = _lasting(randomness, saved, checkpoint, ranks)
    if saved is None:
        run, last = _new(source, config, fixed, conduct)
    else:
        run, last = _same(source, saved), saved
    same = repr((config, fixed, conduct, last.fingerprint, run))
    ranks.check_same(same, what="model, configuration, optimizer, schedule, key and number of runs")
    records = _told_of(dataset, last, source, ranks)
    if not last.complete:
        history = history if last.history is None else last.history.taken_up(ranks=ranks.count)
        last = dataclasses.replace(last, history=history, records="" if source.reproducible else records)
    kept = None
    if checkpoint is not None:
        kept = Kept(checkpoint=checkpoint, last=last, begins=saved is None, key=key)
    ahead = range(last.steps_taken, last.steps_taken if last.complete else config.steps)
    common["forms"] = None if saved is None else saved.forms
    return Course(source=source, run=run, ahead=ahead, kept=kept, history=last.history or history, **common)


def _new(source: Source, config: DPSGD, fixed: Mapping[str, str], conduct: Mapping[str, str]) -> tuple[int, Saved]:
    """Return where a new run begins in its source, and what is to be kept of it."""
    run = begin_run(source)
    return run, Saved(
        config=config,
        steps_taken=0,
        run=run // RUN,
        fingerprint=source.fingerprint(),
        reproducible=source.reproducible,
        model=fixed,
        states={},
        conduct=conduct,
    )


def _same(source: Source, saved: Saved) -> int:
    """Return where the run that was kept began in its source.

    Raises:
        InvalidParameter: if this is another one; of a complete run with a secret key there is none any more.
    """
    if source.fingerprint() != saved.fingerprint and (saved.reproducible or not saved.complete):
        raise InvalidParameter(
            "Checkpoint: the key must be the one that the run was begun with, and is another.\n"
            "It would draw other noise, and steps that were shown before would be shown with both."
        )
    if saved.run >= MOST_RUNS:
        raise InvalidParameter(f"Checkpoint: run must be below 2^32, got {saved.run}: there is no such run.")
    return resume_run(source, saved.run)


def _found(checkpoint: Checkpoint | None, ranks: Ranks) -> Saved | None:
    """Return what the first rank finds in the file, on every rank; None where there is no file."""
    if checkpoint is None:
        return None
    content = ranks.from_first(checkpoint.read() if ranks.first else b"")
    return Saved.from_bytes(content, name=str(checkpoint.path)) if content else None


def _lasting(
    randomness: Source, saved: Saved | None, checkpoint: Checkpoint | None, ranks: Ranks
) -> tuple[Source, bytes]:
    """Return the source of samples and noise, and its key where that is secret and steps are to come, else nothing."""
    if randomness.reproducible or (saved is not None and saved.complete):
        return randomness, b""
    key = _lasting_key(randomness, checkpoint if saved is not None else None, ranks)
    return SecretSource(key), key


def _told_of(dataset: Dataset, last: Saved, source: Source, ranks: Ranks) -> str:
    """Return a digest of the records where a secret run goes on, or ranks must agree on them; "" elsewhere.

    Raises:
        InvalidParameter: if ranks have others, or the run was begun with others.
    """
    told = not last.complete and (ranks.count > 1 or not source.reproducible)
    records = dataset.digest(source) if told else ""
    ranks.check_same(records, what="the records, in their order,")
    check_records(last, records)
    return records


def _lasting_key(randomness: Source, resumed: Checkpoint | None, ranks: Ranks) -> bytes:
    """Return the key that the first rank draws or, for a run that is resumed, finds in its file, on every rank."""
    if type(randomness) is not SystemSource:
        raise InvalidParameter(
            "train: randomness must be a SystemSource or have a key that was given, such as a KeyedSource, for a run "
            f"with a checkpoint or several ranks, got {randomness!r}."
        )
    own = b""
    if ranks.first:
        own = SecretSource.new_key() if resumed is None else resumed.read_key()
    return ranks.from_first(own)
