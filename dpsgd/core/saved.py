"""The file that a run goes on from: tensors in safetensors' format, the rest as JSON in its header, and a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to
from torch import Tensor

from dpsgd.config import DPSGD
from dpsgd.core.forms import Forms, check_forms
from dpsgd.core.history import History
from dpsgd.core.runs import DRAWS
from mechanisms import InvalidParameter, __version__
from mechanisms.core import validate

SCHEMA = "dp-calipers/checkpoint/1"
FIELDS = {
    "schema",
    "library",
    "config",
    "steps_taken",
    "run",
    "fingerprint",
    "reproducible",
    "model",
    "parts",
    "scalars",
}
LATER = {"stopped", "conduct", "history", "records", "draws", "forms"}
"""Fields that files of the first versions lack."""
BLANK = "0" * 64
State = Mapping[str, Tensor | int | float]


class Stateful(Protocol):
    """What a run carries from one step to the next."""

    def state_dict(self) -> State:
        """Return all that the steps to come depend on, by names."""

    def load_state_dict(self, state: State, /) -> None:
        """Go on from there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """A run between two steps: all that the steps to come depend on, but for records, loss and key.

    Args:
        config: what the run is.
        steps_taken: 0 <= steps_taken <= config.steps.
        run: its number in its source, see `dpsgd.core.runs`.
        fingerprint: of its source, see `Source.fingerprint`.
        reproducible: whether that source's key may be known.
        model: from names to what is there, see `dpsgd.core.structure`.
        states: of every part of the run, weights among them, by its name, which holds no "/".
        conduct: how it is carried out, see `dpsgd.core.conduct.told_apart`; of files of the first versions nothing.
        stopped: whether what the run showed ended it, before all its steps were taken.
        history: with what it has been carried out so far; of files of the first versions None.
        records: digest of the records under a secret key, see `Dataset.digest`; "" where the key is known, and once no
            step is to come.
        library: the version that wrote it.
        draws: number of the definition of what its key draws, see `dpsgd.core.runs`; of files of the first versions 1.
        forms: that its convolutions' gradients come in, see `dpsgd.core.forms`; those that it does not name come from
            columns, as all did when files named none.

    Guarantees: what is in here depends on the records through the noisy sums of the steps taken alone, but for a digest
    that shows nothing to who lacks the key: it may be shown to whom the model may be shown.
    """

    config: DPSGD
    steps_taken: int
    run: int
    fingerprint: str
    reproducible: bool
    model: Mapping[str, str]
    states: Mapping[str, State]
    conduct: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    history: History | None = None
    records: str = ""
    library: str = __version__
    draws: int = DRAWS
    forms: Forms = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether no step is to come."""
        return self.stopped or self.steps_taken == self.config.steps

    def to_bytes(self) -> bytes:
        """Return the content of the file; its checksum is of all of it, with zeros in the checksum's own place."""
        entries = {f"{part}/{name}": value for part, state in self.states.items() for name, value in state.items()}
        tensors = {key: _packed(value) for key, value in entries.items() if isinstance(value, Tensor)}
        document = {
            "schema": SCHEMA,
            "library": self.library,
            "config": self.config.to_json(),
            "steps_taken": self.steps_taken,
            "run": self.run,
            "fingerprint": self.fingerprint,
            "reproducible": self.reproducible,
            "model": dict(self.model),
            "parts": list(self.states),
            "conduct": dict(self.conduct),
            "stopped": self.stopped,
            "history": None if self.history is None else dataclasses.asdict(self.history),
            "records": "" if self.complete else self.records,
            "draws": self.draws,
            "forms": dict(self.forms),
            "scalars": {key: _written(value) for key, value in entries.items() if not isinstance(value, Tensor)},
        }
        text = json.dumps(document, allow_nan=False)
        return _sealed(tensors_to(tensors, {"checkpoint": text, "checksum": BLANK}))

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str) -> Saved:
        """Return what `to_bytes` wrote.

        Args:
            content: of the file.
            name: of the file, for messages.

        Raises:
            InvalidParameter: naming the file, if a single bit of it is not as it was written.
        """
        metadata = _metadata(content, name)
        if content != _sealed(_blanked(content, metadata["checksum"])):
            damaged(name, "its checksum is another")
        try:
            document, tensors = json.loads(metadata["checkpoint"]), tensors_from(content)
        except (KeyError, TypeError, ValueError, RecursionError, SafetensorError):  # ValueError: no JSON
            damaged(name, "it holds no checkpoint")
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise InvalidParameter(f"Checkpoint: schema must be {SCHEMA!r}, got {schema!r} in {name}.")
        if not FIELDS <= set(document) <= FIELDS | LATER:
            raise InvalidParameter(f"Checkpoint: {name} must have the fields {sorted(FIELDS)}, got {sorted(document)}.")
        try:
            return cls._from(document, tensors)
        except InvalidParameter as error:
            raise InvalidParameter(f"{error}\nThis is what {name} holds.") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            damaged(name, "it holds no checkpoint")

    @classmethod
    def _from(cls, document: dict[str, Any], tensors: Mapping[str, Tensor]) -> Saved:
        config = DPSGD.from_json(document["config"])
        steps_taken = validate.count("Checkpoint", "steps_taken", document["steps_taken"])
        if steps_taken > config.steps:
            raise InvalidParameter(f"Checkpoint: steps_taken must be at most {config.steps}, got {steps_taken}.")
        scalars = {key: float(value) if isinstance(value, str) else value for key, value in document["scalars"].items()}
        return cls(
            config=config,
            steps_taken=steps_taken,
            run=validate.count("Checkpoint", "run", document["run"]),
            fingerprint=document["fingerprint"],
            reproducible=_truth(document["reproducible"]),
            model=document["model"],
            states=_by_part(document["parts"], {**tensors, **scalars}),
            conduct=dict(document.get("conduct", {})),
            stopped=_truth(document.get("stopped", False)),
            history=None if document.get("history") is None else History(**document["history"]),
            records=str(document.get("records", "")),
            library=document["library"],
            draws=validate.count("Checkpoint", "draws", document.get("draws", 1)),
            forms=check_forms(dict(document.get("forms", {})), "Checkpoint"),
        )


def _packed(tensor: Tensor) -> Tensor:
    """Return a copy with storage of its own, entries in their order."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _by_part(parts: list[str], entries: State) -> dict[str, dict[str, Tensor | int | float]]:
    states: dict[str, dict[str, Tensor | int | float]] = {part: {} for part in parts}
    for key, value in entries.items():
        part, name = key.split("/", 1)
        states[part][name] = value
    return states


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _written(value: int | float) -> int | float | str:
    return value if isinstance(value, int) or math.isfinite(value) else str(value)


def _metadata(content: bytes, name: str) -> dict[str, Any]:
    """Return the texts in the header: eight bytes of its length, little end first, and a JSON object."""
    length = int.from_bytes(content[:8], "little")
    try:
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        if len(metadata["checksum"]) == len(BLANK):
            return dict(metadata)
    except (KeyError, TypeError, ValueError, RecursionError):  # ValueError: no JSON, no UTF-8
        pass
    damaged(name, "its header cannot be read")


def _sealed(blank: bytes) -> bytes:
    """Return content with its checksum in the place of the first blank one; quotes inside of texts are escaped."""
    return blank.replace(_entry(BLANK), _entry(hashlib.blake2b(blank, digest_size=32).hexdigest()), 1)


def _blanked(content: bytes, checksum: str) -> bytes:
    return content.replace(_entry(checksum), _entry(BLANK), 1)


def _entry(checksum: str) -> bytes:
    return f'"checksum":"{checksum}"'.encode()


def damaged(name: str, why: str) -> NoReturn:
    """Refuse a file that is not as it was written.

    Raises:
        InvalidParameter: always.
    """
    raise InvalidParameter(
        f"Checkpoint: {name} must be as it was written, but {why}: it is damaged, cut short or no checkpoint.\n"
        "Put back a copy of it, or begin anew under another path: steps that were taken and seen then count too."
    )
