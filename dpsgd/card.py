"""The privacy card of a run: all that a reader of its ε has to know, and nothing that is private.

It answers what guidelines for reporting ask of whoever states an ε: who is trusted, what the guarantee covers, whose it
is, who are neighbours, how it was accounted and whether what was assumed is what ran, what else was done with the
records [PHK23], and on which randomness and software it rests [NIST25].

[PHK23] N. Ponomareva, H. Hazimeh, A. Kurakin, Z. Xu, C. Denison, H. B. McMahan, S. Vassilvitskii, S. Chien,
A. Thakurta. How to DP-fy ML: A Practical Guide to Machine Learning with Differential Privacy. JAIR 77 (2023).
arXiv:2303.00654.
[NIST25] J. P. Near, D. Darais, N. Lefkovitz, G. S. Howarth. Guidelines for Evaluating Differential Privacy Guarantees.
NIST SP 800-226, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from accountant import Claim
from dpsgd.budget import Budget
from dpsgd.config import DPSGD
from dpsgd.core.forms import Forms, check_forms
from dpsgd.core.schemes import check_neighbours
from mechanisms import InvalidParameter
from mechanisms.core import validate
from mechanisms.core.files import write_atomically

DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """How a run was carried out, as far as a reader of its card has to know; all of it is public.

    Args:
        dimension: number of trainable parameters, >= 1.
        dtype: of weights and sums, "float32" or "float64".
        fresh: whether the weights began as drawn afresh; else they were those of the model that was given.
        checkpointed: whether the key of a secret noise lay in a file until the run was complete.
        ranks: number of processes that shared the key, >= 1.
        budget: that the steps planned were to keep, or None.
        optimizer: what moved the weights, in words; "" if nobody has said, as on the first cards.
        copies: made of every record drawn, whose mean gradient was clipped, >= 1; None without augmentation.
        schedule: whether the learning rate was scheduled.
        average: which average of the weights was kept, as its repr; "" if none was.
        compiled: whether clipped sums and float32 noise were compiled; None if nobody has said, as on the first cards.
        alone: whether every unit's gradient was surely computed by itself, beside no other's; None if nobody has said.
        forms: "columns" or "grouped" for every convolution by its name, see `dpsgd.core.forms`; a mapping, kept as
            pairs. Those not named came from columns, or not by book-keeping.
        layers_draw: whether layers or the loss drew from torch's generators, as Dropout does, for a record of zeros;
            None if nobody has said.

    >>> Circumstances(dimension=10, dtype="float32", fresh=True).ranks
    1
    """

    dimension: int
    dtype: str
    fresh: bool
    checkpointed: bool = False
    ranks: int = 1
    budget: Budget | None = None
    optimizer: str = field(default="", metadata={"added_later": True})  # old files lack it
    copies: int | None = field(default=None, metadata={"added_later": True})
    schedule: bool = field(default=False, metadata={"added_later": True})
    average: str = field(default="", metadata={"added_later": True})
    compiled: bool | None = field(default=None, metadata={"added_later": True})
    alone: bool | None = field(default=None, metadata={"added_later": True})
    forms: Forms | tuple[tuple[str, str], ...] = field(default=(), metadata={"added_later": True})
    layers_draw: bool | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", validate.count("Circumstances", "dimension", self.dimension, least=1))
        object.__setattr__(self, "ranks", validate.count("Circumstances", "ranks", self.ranks, least=1))
        validate.choice("Circumstances", "dtype", self.dtype, DTYPES)
        for name in ("fresh", "checkpointed", "schedule"):
            _check_bool("Circumstances", name, getattr(self, name))
        for name in ("optimizer", "average"):
            if not isinstance(getattr(self, name), str):
                raise InvalidParameter(f"Circumstances: {name} must be text, got {getattr(self, name)!r}.")
        if self.copies is not None:
            object.__setattr__(self, "copies", validate.count("Circumstances", "copies", self.copies, least=1))
        for name in ("compiled", "alone", "layers_draw"):
            if getattr(self, name) is not None:
                _check_bool("Circumstances", name, getattr(self, name))
        if not isinstance(self.forms, (Mapping, tuple)):
            raise InvalidParameter(f"Circumstances: forms must be a mapping, got {self.forms!r}.")
        object.__setattr__(self, "forms", tuple(check_forms(dict(self.forms), "Circumstances").items()))
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise InvalidParameter(f"Circumstances: budget must be a Budget or None, got {self.budget!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyCard:
    """What a run guarantees, and what that rests on.

    Args:
        config: what ran, of the steps planned.
        claim: certified bounds of the ε of `config.process()`, with δ, neighbours, accountant and its error ledger.
        executed: number of steps taken, at most those planned. Fewer were taken where what they showed stopped the run:
            the claim is that of all planned.
        reproducible: whether others may know the key of the noise: then the run is not private.
        circumstances: of the run.
        versions: of what it ran with, by name; a mapping, kept as pairs.
        public_data: what was done on public data before, in words; None if nobody has said.
        not_accounted: what else was done with the records, or a part of them, that the claim leaves out, such as tuning
            or preprocessing, kept as a tuple; () if the operator says that there was nothing, None if nobody has said.

    Raises:
        InvalidParameter: if a value breaks its rule, or the claim's neighbours are none of a run with a declared number
            of records.
    """

    config: DPSGD
    claim: Claim
    executed: int
    reproducible: bool
    circumstances: Circumstances
    versions: Mapping[str, str] | tuple[tuple[str, str], ...]
    public_data: str | None = None
    not_accounted: Sequence[str] | None = None

    def __post_init__(self) -> None:
        executed = validate.count("PrivacyCard", "executed", self.executed)
        if executed > self.config.steps:
            raise InvalidParameter(
                f"PrivacyCard: executed must be at most steps = {self.config.steps}, got {executed}."
            )
        object.__setattr__(self, "executed", executed)
        _check_bool("PrivacyCard", "reproducible", self.reproducible)
        if not isinstance(self.claim, Claim) or self.claim.quantity != "epsilon" or not self.claim.lower >= 0:
            raise InvalidParameter(f"PrivacyCard: claim must bound an epsilon from 0 on, got {self.claim!r}.")
        check_neighbours("PrivacyCard", self.config.process(), self.claim.adjacency)
        pairs = self.versions.items() if isinstance(self.versions, Mapping) else self.versions
        object.__setattr__(self, "versions", tuple((_words("versions", a), _words("versions", b)) for a, b in pairs))
        if self.public_data is not None:
            _words("public_data", self.public_data)
        if self.not_accounted is not None:
            given = validate.sequence("PrivacyCard", "not_accounted", self.not_accounted, "One text for each thing.")
            object.__setattr__(self, "not_accounted", tuple(_words("not_accounted", one) for one in given))

    @property
    def markdown(self) -> str:
        """The card as Markdown text of one screen."""
        from dpsgd.core.card_text import markdown

        return markdown(self)

    def to_json(self) -> str:
        """Return the card as JSON text; floats come back bit for bit."""
        from dpsgd.core.card_json import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> PrivacyCard:
        """Return the card that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema or field is not known: it is named.
        """
        from dpsgd.core.card_json import from_json

        return from_json(text)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the card, whole or not at all, as Markdown or JSON.

        Args:
            path: its ending says which, .md or .json.

        Raises:
            InvalidParameter: if it is another one.
        """
        target = Path(path)
        written = {".md": lambda: self.markdown, ".json": self.to_json}
        if target.suffix not in written:
            raise InvalidParameter(f"PrivacyCard: path must end in .md or .json, got {str(path)!r}.")
        write_atomically(target, f"{written[target.suffix]().rstrip()}\n".encode())


def _check_bool(owner: str, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidParameter(f"{owner}: {name} must be True or False, got {value!r}.")


def _words(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameter(f"PrivacyCard: {name} must be in words, got {value!r}.")
    return value
