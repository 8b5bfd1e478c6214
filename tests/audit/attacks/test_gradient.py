import inspect
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit.attack import Attack, Public, attacks  # noqa: E402
from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.canaries import SignedCoordinates  # noqa: E402
from audit.scores import OneRun, Threshold  # noqa: E402
from mechanisms import InvalidParameter  # noqa: E402

CANARIES = SignedCoordinates(coordinates=[3, 0], signs=[1.0, -1.0], dimension=4)


def fold(releases, *, expected_sum=torch.zeros_like, max_grad_norm=1.0):
    attack = GradientProjection()
    public = Public(
        design=OneRun(canaries=2),
        guessing_rule=Threshold(value=0.0),
        max_grad_norm=max_grad_norm,
        expected_sum=expected_sum,
    )
    state = attack.start(CANARIES, public)
    for release in releases:
        state = attack.observe(state, release)
    return attack.finish(state).values, state


def release(noisy_sum, weights=(0.0, 0.0, 0.0, 0.0)):
    return SimpleNamespace(step=0, weights_before=torch.tensor(weights), noisy_sum=torch.tensor(noisy_sum))


def test_a_score_is_the_signed_projection_summed_over_steps():
    values, _ = fold([release([1.0, 9.0, 9.0, 2.0]), release([0.5, 9.0, 9.0, 3.0])])
    np.testing.assert_allclose(values, [5.0, -1.5])


def test_scores_are_in_units_of_the_clip_norm():
    values, _ = fold([release([4.0, 0.0, 0.0, 2.0])], max_grad_norm=0.5)
    np.testing.assert_allclose(values, [4.0, -8.0])


def test_what_the_known_records_contribute_at_the_weights_before_is_subtracted():
    values, _ = fold(
        [release([5.0, 0, 0, 5.0], weights=(1.0, 0.0, 0.0, 2.0))], expected_sum=lambda weights: 2 * weights
    )
    np.testing.assert_allclose(values, [1.0, -3.0])


def test_the_state_does_not_grow_with_the_number_of_steps():
    _, few = fold([release([1.0, 0.0, 0.0, 1.0])] * 2)
    _, many = fold([release([1.0, 0.0, 0.0, 1.0])] * 200)
    assert few.sums.shape == many.sums.shape == (2,)
    assert not any(isinstance(getattr(many, name), (list, dict)) for name in type(many).__slots__)


def test_a_diverged_run_is_refused_and_not_scored():
    with pytest.raises(InvalidParameter, match="Did training diverge"):
        fold([release([np.nan, 0.0, 0.0, 0.0])])


@pytest.mark.parametrize("attack", attacks().values(), ids=attacks())
def test_no_attack_is_ever_handed_the_coins(attack):
    assert issubclass(attack, Attack)
    taken = {
        name for step in ("start", "observe", "finish") for name in inspect.signature(getattr(attack, step)).parameters
    }
    assert taken == {"self", "canaries", "public", "state", "release"}
    assert "membership" not in Public.__slots__
