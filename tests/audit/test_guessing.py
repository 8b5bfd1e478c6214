import dataclasses
import types

import numpy as np
import pytest
from scipy import integrate, stats

torch = pytest.importorskip("torch")

from accountant.gdp import GDP  # noqa: E402
from accountant.pld import PLD  # noqa: E402
from audit import AuditReport  # noqa: E402
from audit.attack import Observations  # noqa: E402
from audit.attacks.candidate_likelihood import CandidateLikelihood  # noqa: E402
from audit.attacks.loss import LossThreshold  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.core.example_gradients import ExampleGradients  # noqa: E402
from audit.core.rows import meaning, summary  # noqa: E402
from audit.guessing import LIKELIEST, CandidateGuesses, audit_guesses, observe_guesses, risk  # noqa: E402
from audit.input_canaries import with_attribute  # noqa: E402
from audit.runs import Setup  # noqa: E402
from audit.scores import GuessExtremes  # noqa: E402
from audit.trainers import dpsgd_trainer  # noqa: E402
from dpsgd import DPSGD, Dataset  # noqa: E402
from mechanisms import Adjacency, Gaussian, InvalidParameter, KeyedSource, NumericalFailure, Poisson  # noqa: E402

LOSS = torch.nn.CrossEntropyLoss(reduction="none")


def guesses(correct, *, candidates=16, runs=100):
    return CandidateGuesses(
        candidates=candidates, runs=runs, correct=correct, adjacency="add_remove", threat_model="informed"
    )


def test_the_bound_inverts_both_inequalities_of_the_guarantee():
    found = guesses(80)
    low = stats.binomtest(80, 100).proportion_ci(0.9, method="exact").low  # one-sided 95 %
    assert found.success(confidence=0.95) == pytest.approx(low, rel=1e-9)
    shown = found.lower_bound(delta=1e-3, confidence=0.95)
    sides = ((low - 1e-3) * 16, (1 - 1 / 16 - 1e-3) / (1 - low))
    assert shown.epsilon == pytest.approx(np.log(max(sides)), rel=1e-9)
    two = guesses(99, candidates=2, runs=100)
    low = two.success(confidence=0.95)
    assert two.lower_bound(delta=0.0, confidence=0.95).epsilon == pytest.approx(np.log(0.5 / (1 - low)), rel=1e-9)
    assert guesses(6).lower_bound(delta=0.0, confidence=0.95).epsilon == 0.0
    assert guesses(0).success(confidence=0.95) == 0.0


@pytest.mark.parametrize(("candidates", "epsilon"), [(2, 1.0), (20, 1.5), (500, 3.0)])
def test_the_worst_mechanism_is_refuted_no_more_often_than_announced(candidates, epsilon, rng):
    """Its guess is right as often as e^ε allows, from above or, with two candidates, from below."""
    success = min(np.exp(epsilon) / candidates, 1 - np.exp(-epsilon) * (1 - 1 / candidates))
    counts = rng.binomial(300, success, 1000)
    bounds = {count: guesses(count, candidates=candidates, runs=300).lower_bound(delta=0.0, confidence=0.9).epsilon
              for count in set(counts.tolist())}  # fmt: skip
    false = np.mean([bounds[count] > epsilon for count in counts.tolist()])
    assert 0.05 < false < 0.1 + 3 * np.sqrt(0.09 / 1000)


def test_many_candidates_show_more_in_as_many_runs_than_coins_can():
    many, few = (guesses(40, candidates=k, runs=40).lower_bound(delta=0.0, confidence=0.95) for k in (1000, 2))
    assert many.epsilon > 6.8 and few.epsilon < 2.0


def test_risk_is_the_certified_bound_at_the_blind_probability():
    profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    found = risk(guesses(30), profile, confidence=0.95)
    assert found.allowed == pytest.approx(stats.norm.cdf(stats.norm.ppf(1 / 16) + 1), rel=1e-6)
    assert found.allowed >= stats.norm.cdf(stats.norm.ppf(1 / 16) + 1)
    assert (found.blind, found.verdict) == (1 / 16, "consistent")
    assert risk(guesses(60), profile, confidence=0.95).verdict == "description refuted"
    other = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.REPLACE_ONE)
    with pytest.raises(InvalidParameter, match="profile must be for adjacency 'add_remove'"):
        risk(guesses(30), other, confidence=0.95)


INPUTS = 24


def setting(noise, *, probability=1.0, steps=4, ran=None, attack=None, candidates=INPUTS):
    """Candidates with orthogonal gradients of full length, a linear model, and no records that move anything."""
    model = torch.nn.Linear(INPUTS, 3, bias=False)
    torch.nn.init.zeros_(model.weight)
    features = 9 * np.eye(INPUTS, dtype=np.float32)[:candidates]
    canaries = InputCanaries(features=features, targets=np.arange(candidates) % 3)
    known = Dataset(features=torch.zeros(2, INPUTS), targets=torch.zeros(2, dtype=torch.int64))
    config = DPSGD(
        noise_multiplier=noise, max_grad_norm=0.5, sampling=Poisson(probability=probability), expected_batch_size=10,
        steps=steps, learning_rate=0.01,
    )  # fmt: skip
    executed = config if ran is None else dataclasses.replace(config, noise_multiplier=ran)
    return Setup(
        trainer=dpsgd_trainer(model, known, executed, loss=LOSS), canaries=canaries, randomness=KeyedSource(0),
        attack=attack or CandidateLikelihood(model=model, loss=LOSS), guessing_rule=LIKELIEST,
        process=config.process(),
    )  # fmt: skip


def test_guesses_are_right_as_often_as_the_best_ones_can_be():
    """With μ = 1/σ the true score is the largest of k normal ones with probability ∫ φ(x − μ) Φ(x)^{k − 1} dx."""
    mu, runs = 1 / 0.6, 120
    best = integrate.quad(lambda x: stats.norm.pdf(x - mu) * stats.norm.cdf(x) ** (INPUTS - 1), -9, 12)[0]
    found = observe_guesses(setting(0.6, steps=1), runs=runs)
    assert found.correct == pytest.approx(runs * best, abs=4 * np.sqrt(runs * best * (1 - best)))
    profile = GDP().profile(Gaussian(noise_multiplier=0.6), adjacency=Adjacency.ADD_REMOVE)
    judged = risk(found, profile, confidence=0.95)
    assert judged.verdict == "consistent" and judged.success < best + 0.1 < judged.allowed + 0.1


def test_a_trainer_with_less_noise_than_it_claims_is_caught():
    setup = setting(3.0, probability=0.5, ran=0.3)
    found = observe_guesses(setup, runs=25)
    profile = PLD().profile(setup.process, adjacency=Adjacency.ADD_REMOVE)
    assert risk(found, profile, confidence=0.999).verdict == "description refuted"
    assert found.lower_bound(delta=1e-5, confidence=0.999).epsilon > profile.epsilon(1e-5).upper


def test_the_score_is_the_log_ratio_of_the_densities_of_what_was_seen():
    setup = setting(0.7, probability=0.3, candidates=5)
    weights, noisy = torch.randn(3 * INPUTS), torch.randn(3 * INPUTS)
    public = dataclasses.replace(
        setup.public(None), max_grad_norm=0.5, expected_sum=lambda at: 0.1 * at, process=setup.process
    )
    attack = setup.attack
    state = attack.start(setup.canaries, public)
    for _ in range(2):
        state = attack.observe(state, type("R", (), {"weights_before": weights, "noisy_sum": noisy}))
    records = Dataset(features=torch.tensor(setup.canaries.features), targets=torch.tensor(setup.canaries.targets))
    rows = ExampleGradients.of(attack.model, records, loss=LOSS, max_grad_norm=0.5).matrix(weights).double().numpy()
    rest = (noisy - 0.1 * weights).double().numpy()
    law = stats.norm(scale=0.7 * 0.5)
    without = law.logpdf(rest).sum()
    ratios = [np.log(0.7 + 0.3 * np.exp(law.logpdf(rest - row).sum() - without)) for row in rows]
    np.testing.assert_allclose(state.sums.numpy(), 2 * np.array(ratios), rtol=1e-4, atol=1e-5)


def test_any_attack_on_final_models_can_guess_too():
    found = observe_guesses(setting(0.05, steps=8, attack=LossThreshold(), candidates=4), runs=12)
    assert found.correct > 6 and found.threat_model.startswith("black box")


def bad(**change):
    return observe_guesses(dataclasses.replace(setting(1.0), **change), runs=1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: guesses(101), "correct must be at most 100 runs, got 101"),
        (lambda: guesses(1, candidates=1), "candidates must be at least 2"),
        (lambda: guesses(1).success(confidence=1.0), "confidence must lie strictly between"),
        (lambda: guesses(1).lower_bound(delta=1.0, confidence=0.9), "delta must be below 1"),
        (lambda: bad(guessing_rule=GuessExtremes(included=1, excluded=1)), "^audit: guessing_rule must be LIKELIEST"),
        (
            lambda: observe_guesses(setting(1.0, candidates=1), runs=1),
            "^audit: candidates must be 2 or more, got 1: of",
        ),
        (lambda: observe_guesses(setting(1.0), runs=0), "^audit: runs must be at least 1, got 0"),
        (lambda: observe_guesses(setting(1.0), runs=1, weights=(1, 2)), "^audit: weights must be one whole number"),
        (lambda: observe_guesses(setting(0.0), runs=1), "the process must have noise"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()


def test_candidates_that_replace_records_are_refused():
    other = setting(1.0).canaries
    both = InputCanaries(features=other.features, targets=other.targets, replaced=other)
    with pytest.raises(InvalidParameter, match="candidates must replace nothing"):
        bad(canaries=both, adjacency=Adjacency.REPLACE_ONE)


@dataclasses.dataclass(frozen=True)
class Opposite:
    """A trainer of one step: the gradient of the candidate that is in, or its opposite, and noise."""

    noise: float

    def __call__(self, task):
        rng = np.random.default_rng(task.streams.words("noise", 0, 4))
        gradient = torch.tensor([1.0, 0.0, -1.0, 0.0]) / 2**0.5  # of a zero model at ((−9, 0), class 0), clipped to 1
        sign = 1.0 if task.membership[0] else -1.0
        noisy = (sign * gradient + self.noise * torch.tensor(rng.normal(size=4)).float()).float()
        step = types.SimpleNamespace(step=0, weights_before=torch.zeros(4), noisy_sum=noisy)
        return Observations(released=[step], max_grad_norm=1.0, expected_sum=torch.zeros_like)


def attribute(noise, *, runs=300, ran=None, weights=(), adjacency="replace_one", trainer=None):
    """Attribute inference of a sign, all else known, on a model of two features and two classes without bias."""
    model = torch.nn.Linear(2, 2, bias=False)
    return audit_guesses(
        trainer or Opposite(noise if ran is None else ran),
        claim=Gaussian(noise_multiplier=noise),
        delta=1e-5,
        candidates=with_attribute([9.0, 0.0], 0, columns=[0], values=[-9.0, 9.0]),
        attack=CandidateLikelihood(model=model, loss=LOSS),
        runs=runs,
        randomness=KeyedSource(5),
        weights=weights,
        adjacency=adjacency,
    )


def test_a_faithful_run_gives_away_an_attribute_as_often_as_allowed_and_no_more():
    for weights, share in (((), 0.5), ((7, 3), 0.7)):
        report = attribute(1.5, weights=weights)
        seen, mu = report.risk, 1 / 1.5
        cut = np.log((1 - share) / share) / (2 * mu)
        best = share * stats.norm.sf(cut - mu) + (1 - share) * stats.norm.cdf(cut + mu)
        assert seen.allowed == pytest.approx(best, rel=1e-6) and seen.blind == share
        assert seen.success < best < seen.most
        assert report.verdict == "consistent" and report.refutation.epsilon < report.claim.upper
        assert (report.guesses, report.correct) == (300, seen.guesses.correct)


def test_a_trainer_of_half_the_noise_gives_away_more_than_is_allowed():
    for weights in ((), (7, 3)):
        report = attribute(1.5, ran=0.75, weights=weights)
        assert report.risk.success > report.risk.allowed
        assert report.verdict == "description refuted" and report.refutation.epsilon > report.claim.upper
        assert report.evidence.epsilon < report.claim.upper  # of ε at δ = 1e-5 two candidates show less
    assert "nor anything as private" in meaning(report)


def test_a_trainer_without_noise_to_speak_of_violates_the_claim_itself():
    assert attribute(4.0, ran=0.05).verdict == "violated"


def test_the_report_comes_back_and_says_what_was_guessed(tmp_path, monkeypatch):
    monkeypatch.setattr("audit.core.page.png", lambda _: b"")
    report = attribute(1.5, runs=40, weights=(7, 3))
    assert AuditReport.from_json(report.to_json()) == report
    told = dict(summary(report))
    assert told["guesses of candidates"].startswith("right with probability at least 0.")
    assert "a blind guess has 0.7" in told["guesses of candidates"] and "40 runs; " in told["cost"]
    report.save(tmp_path / "report.html")
    assert "How often candidates were guessed right" in (tmp_path / "report.html").read_text()


def never(task):
    raise AssertionError("the trainer was called")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"runs": 0}, "^audit: runs must be at least 1, got 0"),
        ({"weights": (1, 2, 3)}, "^audit: weights must be one whole number for each of 2 candidates, got 3"),
        ({"adjacency": "sideways"}, "Adjacency: name must be one of"),
    ],
)
def test_what_cannot_be_guessed_is_refused_before_the_first_run(change, text):
    with pytest.raises(InvalidParameter, match=text):
        attribute(1.5, trainer=never, **change)


def test_what_the_claim_allows_is_found_before_the_first_run(monkeypatch):
    def failing(*_, **__):
        raise NumericalFailure("too wide")

    monkeypatch.setattr("audit.candidates.attribute_inference", failing)
    with pytest.raises(NumericalFailure, match="too wide"):
        attribute(1.5, trainer=never)


def test_a_trainer_at_fault_gets_no_verdict():
    def raising(task):
        raise ValueError("a secret")

    report = attribute(1.5, trainer=raising)
    assert report.verdict == "none" and report.risk is None and report.pictures is None
    assert "ValueError" in report.faults[0] and "secret" not in report.to_json()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ({"columns": [2]}, "columns must be one different place"),
        ({"columns": [0, 0], "values": [[1, 1], [2, 2]]}, "columns must be one different place"),
        ({"values": [1.0, 1.0]}, "values must be two or more, all different"),
        ({"values": [1.0, 1.0 + 2.0**-30]}, "values must be two or more, all different"),
        ({"values": [0.0, 1e300, 2e300]}, "values must be two or more, all different"),
    ],
)
def test_attributes_that_are_none_are_refused(spoil, text):
    with pytest.raises(InvalidParameter, match=f"with_attribute: {text}"):
        with_attribute(np.float32([9.0, 0.0]), 0, **({"columns": [0], "values": [-9.0, 9.0]} | spoil))
