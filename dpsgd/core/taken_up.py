"""Whether a run that was kept is the one that is to go on: each refusal names what differs first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import nn

from dpsgd.config import DPSGD
from dpsgd.core.forms import convolutions
from dpsgd.core.runs import DRAWS
from dpsgd.core.saved import Saved
from dpsgd.core.structure import first_difference
from mechanisms import InvalidParameter, Source, __version__


def check_fits(saved: Saved, config: DPSGD, fixed: dict[str, str], randomness: Source) -> None:
    """Refuse a file of another run.

    Raises:
        InvalidParameter: naming what differs first.
    """
    for field in dataclasses.fields(DPSGD):
        was, is_ = getattr(saved.config, field.name), getattr(config, field.name)
        if was != is_:
            raise InvalidParameter(
                f"Checkpoint: {field.name} must be {was!r}, as it was when the run was begun, got {is_!r}.\n"
                "Another configuration is another run: give it a path of its own."
            )
    difference = first_difference(saved.model, fixed)
    if difference is not None:
        raise InvalidParameter(f"Checkpoint: the model {difference}: the run was begun with the first.")
    if saved.reproducible != randomness.reproducible:
        kinds = ("a SystemSource", "a source with the key that was given then")
        raise InvalidParameter(
            f"Checkpoint: randomness must be {kinds[saved.reproducible]}, as when the run was begun, "
            f"got {randomness!r}."
        )
    if saved.library != __version__ and not saved.complete:
        raise InvalidParameter(
            f"Checkpoint: the library must be version {saved.library}, which began the run, got {__version__}.\n"
            "Another version may draw other noise from the same key. Finish the run with the version it was begun with."
        )
    if saved.draws != DRAWS and not saved.complete:
        raise InvalidParameter(
            f"Checkpoint: draws must be {DRAWS}, the definition of noise and samples here, got {saved.draws}: the run "
            "was begun by an earlier or later state of the library, which draws others from the same key.\nFinish it "
            "with that, or begin anew under another path: steps that were taken and seen then count too."
        )


def check_layers(saved: Saved, model: nn.Module) -> None:
    """Refuse a file in which layers have a form that have none here.

    Raises:
        InvalidParameter: naming the first.
    """
    for name in saved.forms:
        if name not in convolutions(model):
            raise InvalidParameter(
                f"Checkpoint: forms must be of convolutions of the model, and {name!r} is none.\n"
                "The file was not written by this library."
            )


def check_conduct(saved: Saved, conduct: Mapping[str, str]) -> None:
    """Refuse another conduct than that of the file, where it tells.

    Raises:
        InvalidParameter: naming what differs first.
    """
    for name, was in {"compiled": "no", **saved.conduct}.items():  # which early files do not say
        if conduct.get(name) != was:
            raise InvalidParameter(
                f"Checkpoint: {name} must be {was}, as when the run was begun, got {conduct.get(name)}.\n"
                "What was kept would go on as something else, and steps taken again after it be shown at other weights "
                "under the same noise."
            )


def check_records(saved: Saved, records: str) -> None:
    """Refuse other records than those that a run with a secret key was begun with.

    Raises:
        InvalidParameter: if they are others; of which ones they are it says nothing.
    """
    if saved.records and saved.records != records:
        raise InvalidParameter(
            "Checkpoint: the records must be those that the run was begun with, in their order, and are others.\n"
            "Steps taken again on them would show the difference of both bare, under the same noise. Other records are "
            "another run: give it a path of its own; what both show adds up."
        )
