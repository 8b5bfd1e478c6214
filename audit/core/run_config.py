"""The configuration of `python -m audit run`, written beside its report and taken back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from audit.core.plan import WHERE_IT_APPLIES
from audit.score_files import DESIGNS
from mechanisms import InvalidParameter
from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.documents import document_text, read_document

SCHEMA = "dp-calipers/audit_config/1"
CANARIES, RUNS = 20_000, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All that a run of the main job follows from, but for where its data lies.

    Args:
        data: name of the dataset.
        epsilon: budget of the training, > 0.
        delta: of the budget, in (0, 1).
        seed: everything follows from it, and nothing is private; None for the system's randomness.
        design: "one_run" or "independent_runs".
        canaries: number of canaries of the one run.
        runs: number of independent runs, of a tiny model on few records.
        primary: the frequentist estimator that decides, or None for the design's own.
        refuter: the parametric one, "where it applies", or None.
        attack: what makes scores of releases.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> RunConfig.from_json(RunConfig(seed=3).to_json()) == RunConfig(seed=3)
    True
    """

    data: str = "digits"
    epsilon: float = 4.0
    delta: float = 1e-5
    seed: int | None = None
    design: str = "one_run"
    canaries: int = CANARIES
    runs: int = RUNS
    primary: str | None = None
    refuter: str | None = WHERE_IT_APPLIES
    attack: str = "gradient"

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.positive("audit", "epsilon", self.epsilon))
        object.__setattr__(self, "delta", validate.positive("audit", "delta", self.delta))
        if self.seed is not None:
            object.__setattr__(self, "seed", validate.count("audit", "seed", self.seed))
        validate.choice("audit", "design", self.design, tuple(DESIGNS))
        object.__setattr__(self, "canaries", validate.count("audit", "canaries", self.canaries, least=40))
        object.__setattr__(self, "runs", validate.count("audit", "runs", self.runs, least=20))
        for name in ("data", "attack"):
            if not isinstance(getattr(self, name), str):
                raise InvalidParameter(f"audit: {name} must be a name, got {getattr(self, name)!r}.")
        for name in ("primary", "refuter"):
            if not isinstance(getattr(self, name), str | None):
                raise InvalidParameter(f"audit: {name} must be a name or null, got {getattr(self, name)!r}.")

    def to_json(self) -> str:
        """Return the configuration as JSON text that ends with a line break."""
        document = {"schema": SCHEMA, "library": library, "config": dataclasses.asdict(self)}
        return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Return the configuration that `to_json` wrote; what it does not say is as it is without it.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema or field is not known: it is named.
        """
        given = read_document("audit, configuration", text, schema=SCHEMA).get("config")
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(given, dict) or not set(given) <= known:
            unknown = sorted(set(given) - known) if isinstance(given, dict) else given
            raise InvalidParameter(f"audit: a configuration must have fields of {sorted(known)}, got {unknown}.")
        return cls(**given)

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Return the configuration in a file.

        Raises:
            InvalidParameter: as `from_json`, and if the file is no text.
            OSError: if it cannot be read.
        """
        text = document_text("audit", path)
        try:
            return cls.from_json(text)
        except InvalidParameter as error:
            raise InvalidParameter(f"audit: {path.name} must be the config.json of a run, but: {error}") from None
