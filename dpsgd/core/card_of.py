"""From a run to its privacy card: the price of what ran, and what it ran with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from dpsgd.budget import Budget
from dpsgd.card import Circumstances, PrivacyCard
from dpsgd.config import DPSGD
from dpsgd.core.conduct import Conduct
from dpsgd.core.course import Course
from dpsgd.core.population import runs_alone
from dpsgd.core.schemes import check_neighbours
from dpsgd.core.whole import WHOLE


def card_of(
    config: DPSGD,
    circumstances: Circumstances,
    *,
    executed: int,
    reproducible: bool,
    versions: Mapping[str, str],
    delta: float,
    adjacency: str,
    public_data: str | None,
    not_accounted: Sequence[str] | None,
) -> PrivacyCard:
    """Return the card of a run of `config`, whose ε is that of `config.process()`.

    Args:
        config: what ran, of the steps planned.
        circumstances: of the run.
        executed: number of steps taken.
        reproducible: whether others may know the key.
        versions: of what it ran with.
        delta: in [0, 1].
        adjacency: which datasets are neighbours.
        public_data: as in `PrivacyCard`.
        not_accounted: as in `PrivacyCard`.

    Raises:
        InvalidParameter: if a value breaks its rule, or these neighbours differ in a number that is public.
        UnsupportedProcess: if there is no theorem for these neighbours.
    """
    from accountant import epsilon_bounds

    process = config.process()
    check_neighbours("PrivacyCard", process, adjacency)
    return PrivacyCard(
        config=config,
        claim=epsilon_bounds(process, delta=delta, adjacency=adjacency),
        executed=executed,
        reproducible=reproducible,
        circumstances=circumstances,
        versions=versions,
        public_data=public_data,
        not_accounted=not_accounted,
    )


def circumstances_of(
    config: DPSGD,
    conduct: Conduct,
    course: Course,
    parameters: Sequence[nn.Parameter],
    *,
    budget: Budget | None,
) -> Circumstances:
    """Return the circumstances of a run, as its card tells them.

    Args:
        config: of the run.
        conduct: of the run.
        course: of the run.
        parameters: what was trained.
        budget: as in `Circumstances`.

    A run that could be taken up again might have gone on in other physical batches, which are not kept with it.
    """
    return Circumstances(
        dimension=sum(parameter.numel() for parameter in parameters),
        dtype=str(parameters[0].dtype).removeprefix("torch."),
        fresh=course.history.fresh,
        checkpointed=conduct.checkpoint is not None,
        ranks=course.history.ranks,
        budget=budget,
        optimizer=course.conduct["optimizer"],
        copies=None if conduct.augmentation is None else conduct.augmentation.copies,
        schedule=conduct.schedule is not None,
        average="" if conduct.average is None else repr(conduct.average),
        compiled=conduct.compiled,
        forms=course.forms or {},
        layers_draw=course.layers_draw,
        alone=isinstance(config.noise, WHOLE) or (conduct.checkpoint is None and runs_alone(config, conduct)),
    )
