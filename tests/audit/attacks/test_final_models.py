"""The attacks that see a final model alone: what they ask, and that their scores are those of the statistics."""

import numpy as np
import pytest

from audit.attack import FinalModel, Public
from audit.attacks.final_weights import WeightProjection
from audit.attacks.lira import LikelihoodRatio, likelihood_ratios
from audit.attacks.loss import LossThreshold
from audit.attacks.rmia import PopulationRatio, dominated_shares
from audit.canaries import InputCanaries, SignedCoordinates
from audit.core.confidences import logit_confidences
from audit.core.references import References, balanced_membership
from audit.scores import OneRun, Threshold
from mechanisms import InvalidParameter

RNG = np.random.default_rng(0)
CANARIES = InputCanaries(features=RNG.normal(size=(5, 3)), targets=np.arange(5) % 3)
OTHERS = InputCanaries(features=RNG.normal(size=(20, 3)), targets=np.arange(20) % 3)
INCLUDED = balanced_membership(models=6, canaries=5, rng=RNG)
REFERENCES = References(confidences=RNG.normal(INCLUDED), included=INCLUDED, population=RNG.normal(size=(6, 20)))
PUBLIC = Public(design=OneRun(canaries=5), guessing_rule=Threshold(value=0.0))
MATRIX = RNG.normal(size=(3, 3))


def outputs(features):
    return features @ MATRIX


def losses(features, targets):
    return np.log(1 + np.exp(-logit_confidences(outputs(features), targets)))


MODEL = FinalModel(outputs=outputs, losses=losses, weights=np.array([1.0, 2.0, 3.0]))


def scores(attack, canaries=CANARIES, model=MODEL):
    state = attack.start(canaries, PUBLIC)
    return attack.finish(attack.observe(state, model)).values


def test_the_loss_attack_scores_by_what_the_model_loses():
    np.testing.assert_array_equal(scores(LossThreshold()), -losses(CANARIES.features, CANARIES.targets))


@pytest.mark.parametrize("options", [{}, {"mode": "offline"}, {"variance": "per_canary"}])
def test_the_likelihood_ratio_asks_for_the_confidence_in_each_canary(options):
    seen = logit_confidences(outputs(CANARIES.features), CANARIES.targets)
    expected = likelihood_ratios(seen, REFERENCES, **options)
    np.testing.assert_array_equal(scores(LikelihoodRatio(references=REFERENCES, **options)), expected)


@pytest.mark.parametrize("options", [{}, {"mode": "offline", "offline_slope": 0.6}, {"gamma": 2.0}])
def test_the_population_ratio_asks_for_the_population_too(options):
    seen, others = (logit_confidences(outputs(r.features), r.targets) for r in (CANARIES, OTHERS))
    expected = dominated_shares(seen, others, REFERENCES, **options)
    attack = PopulationRatio(references=REFERENCES, population=OTHERS, **options)
    np.testing.assert_array_equal(scores(attack), expected)


def test_weights_are_projected_on_every_gradient():
    canaries = SignedCoordinates(coordinates=[2, 0, 1], signs=[1.0, -1.0, 1.0], dimension=3)
    attack = WeightProjection(initial=[0.0, 5.0, 5.0])
    state = attack.observe(attack.start(canaries, PUBLIC), MODEL)
    np.testing.assert_array_equal(state.answers, [2.0, 1.0, 3.0])


def no_weights():
    canaries = SignedCoordinates(coordinates=[0], signs=[1.0], dimension=3)
    return scores(WeightProjection(initial=np.zeros(3)), canaries, FinalModel(outputs=outputs, losses=losses))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: scores(LikelihoodRatio(references=REFERENCES), OTHERS), "lira: canaries must be the 5 that"),
        (
            lambda: scores(PopulationRatio(references=REFERENCES, population=OTHERS), OTHERS),
            "rmia: canaries must be the 5 that",
        ),
        (lambda: PopulationRatio(references=REFERENCES, population=CANARIES), "population must be the records that"),
        (lambda: LikelihoodRatio(references=REFERENCES, mode="both"), "mode must be one of"),
        (lambda: PopulationRatio(references=REFERENCES, population=OTHERS, gamma=-1.0), "gamma must be above 0"),
        (lambda: WeightProjection(initial=[[0.0]]), "initial must be finite of shape"),
        (no_weights, "the trainer must show the final weights"),
        (
            lambda: WeightProjection(initial=np.zeros(2)).start(
                SignedCoordinates(coordinates=[0], signs=[1.0], dimension=3), PUBLIC
            ),
            "initial must have the 3 numbers",
        ),
        (lambda: LossThreshold().finish(LossThreshold().start(CANARIES, PUBLIC)), "must be released before scores"),
    ],
)
def test_what_does_not_fit_is_named(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()
