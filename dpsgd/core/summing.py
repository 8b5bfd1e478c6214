"""What sums the clipped gradients of a run's rows, and the forms that its convolutions have them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dpsgd.config import DPSGD
from dpsgd.core.clippers import Clipper
from dpsgd.core.conduct import Conduct
from dpsgd.core.course import Course
from dpsgd.core.forms import COLUMNS, Forms, Given, Noting, plan_of
from dpsgd.core.layers import Plan
from dpsgd.core.population import Examples, runs_alone
from dpsgd.core.tuning import MOST_EXAMPLES, fastest_forms
from dpsgd.core.whole import summed
from dpsgd.datasets import Dataset
from dpsgd.gradients import GradientSum, gradient_sum_by
from dpsgd.isolation import known_apart
from mechanisms import SystemSource

Settle = Callable[[Course], Course]
"""From the course of a run, once zeros have been summed, to the same in the forms that it takes."""


def examples_of(
    model: nn.Module, dataset: Dataset, like: Tensor, config: DPSGD, conduct: Conduct, clip: Clipper
) -> tuple[Examples, Settle]:
    """Return the clipped sums of a dataset's rows, from columns at first, and what settles in which forms they come.

    Args:
        model: of the run.
        dataset: of the run.
        like: features as the model is given them.
        config: of the run.
        conduct: of the run.
        clip: of the run.
    """
    noting, alone = Noting(model=model), runs_alone(config, conduct)

    def clipped_sum(plan: Plan) -> GradientSum:
        return summed(
            config,
            gradient_sum_by(
                clip,
                model,
                example_dimensions=like.dim() - 1,
                loss=conduct.loss,
                overwrite=conduct.augmentation is None,  # copies are made by the user's code, which may keep them
                compiled=conduct.compiled,
                formed=alone and not known_apart(model, like),
                plan=plan,
            ),
        )

    examples = Examples(
        dataset=dataset,
        clipped_sum=clipped_sum(noting.plan),
        augmentation=conduct.augmentation,
        most_rows=config.examples_per_user or 1,
    )

    def settle(course: Course) -> Course:
        forms = _forms(course, noting.given, conduct, most=1 if alone else MOST_EXAMPLES)
        if forms:
            examples.clipped_sum = clipped_sum(plan_of(model, forms))
        return course.formed_by(forms)

    return examples, settle


def _forms(course: Course, given: Mapping[str, Given], conduct: Conduct, *, most: int) -> Forms:
    """Return the forms of what came by book-keeping: as they were where the run goes on, else as the first rank says.

    A SystemSource alone has a key that no other run can have.
    """
    columns = dict.fromkeys(given, COLUMNS)
    if course.forms is not None:
        return columns | dict(course.forms)
    times = type(conduct.randomness) is SystemSource and course.ranks.first
    own = fastest_forms(given, most=most) if times else columns
    agreed: Forms = json.loads(course.ranks.from_first(json.dumps(own).encode()))
    return agreed
