"""Selection: its bounds against the exact law of the best of K runs, what accountants make of it, and its runner."""

import itertools
import math
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import compute_epsilon
from mechanisms import (
    ZCDP,
    Adjacency,
    Allocated,
    ApproximateDP,
    BallsInBins,
    Compose,
    Gaussian,
    Group,
    InvalidParameter,
    KeyedSource,
    NumericalFailure,
    Poisson,
    PureDP,
    Repeat,
    Sampled,
    SystemSource,
    UnsupportedProcess,
    from_json,
    leaves,
    to_json,
)
from mechanisms.core.stopping import PoissonRuns, TruncatedNegativeBinomial
from mechanisms.selection import Selection
from tests.strategies import ADD_REMOVE, REPLACE_ONE, Tabulated

LAWS = (
    TruncatedNegativeBinomial(eta=1.0, gamma=0.2),
    TruncatedNegativeBinomial(eta=0.0, gamma=0.05),
    TruncatedNegativeBinomial(eta=-0.7, gamma=0.01),
    TruncatedNegativeBinomial(eta=3.5, gamma=0.4),
    PoissonRuns(runs=0.3),
    PoissonRuns(runs=4.0),
)
ORDERS = (1.01, 2.0, 3.7, 60.0)


def generating(law):
    """f(x) = E x^K, on its own: by its closed form in 60 digits."""
    if isinstance(law, PoissonRuns):
        return lambda x: mp.exp(mp.mpf(law.runs) * (x - 1))
    eta, gamma = mp.mpf(law.eta), mp.mpf(law.gamma)
    if eta == 0:
        return lambda x: mp.log(1 - (1 - gamma) * x) / mp.log(gamma)
    return lambda x: ((1 - (1 - gamma) * x) ** -eta - 1) / (gamma**-eta - 1)


def best_of(law, masses):
    """The law of the best of K runs, the outcomes in the order of their scores; last, that there was no run."""
    f, ends = generating(law), [mp.mpf(0)]
    for mass in masses:
        ends.append(ends[-1] + mp.mpf(mass))
    return [f(b) - f(a) for a, b in itertools.pairwise(ends)] + [f(mp.mpf(0))]


def divergence(p, q, order):
    """D_order(p ‖ q)."""
    terms = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(p, q, strict=True) if a]
    if any(b == 0 for _, b in terms):
        return mp.inf
    if order == math.inf:
        return max(mp.log(a / b) for a, b in terms)
    return mp.log(sum(a**order * b ** (1 - order) for a, b in terms)) / (order - 1)


def examples(count, seed):
    """Two laws of 2 to 5 outcomes, in multiples of 2^-20; some of them rare, some all but alike."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        size, both = int(rng.integers(2, 6)), []
        base = rng.dirichlet(np.full(size, (0.2, 1.0, 5.0)[k % 3]))
        for _ in range(2):
            tilted = base * np.exp(rng.normal(0.0, (0.05, 0.5, 2.0)[(k // 3) % 3], size))
            whole = np.maximum(np.round(2**20 * tilted / tilted.sum()), 1.0)
            whole[np.argmax(whole)] += 2**20 - whole.sum()
            both.append(tuple((whole / 2**20).tolist()))
        yield both


# The theorem


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_no_small_run_shows_more_than_the_bound(law):
    with mp.workdps(30):
        for p, q in examples(9, LAWS.index(law)):
            bound = Selection(Tabulated(p=p, q=q), law).renyi(ADD_REMOVE)
            one, other = best_of(law, p), best_of(law, q)
            for order in (*ORDERS, math.inf):
                found = bound.divergence(order)
                assert divergence(one, other, order) <= mp.mpf(found) * (1 + mp.mpf("1e-12")), (p, q)
                assert divergence(other, one, order) <= mp.mpf(found) * (1 + mp.mpf("1e-12"))


def test_the_exact_law_is_that_of_summing_over_the_number_of_runs():
    """The generating function in the tests above, against Σ P(K = k) (F(y)^k − F(y−)^k) term by term."""
    masses = (0.25, 0.5, 0.25)
    with mp.workdps(30):
        for law in (*LAWS[:2], *LAWS[3:]):
            weights = [mp.mpf(0)]
            if isinstance(law, PoissonRuns):
                weights = [mp.exp(-law.runs) * mp.mpf(law.runs) ** k / mp.factorial(k) for k in range(100)]
            else:
                eta, gamma = mp.mpf(law.eta), mp.mpf(law.gamma)
                weight = mp.mpf(1)
                for k in range(1, 900):
                    weights.append(weight)
                    weight *= (1 - gamma) * (k + eta) / (k + 1)
                total = sum(weights)
                weights = [w / total for w in weights]
            second = sum(w * (mp.mpf("0.75") ** k - mp.mpf("0.25") ** k) for k, w in enumerate(weights))
            assert abs(best_of(law, masses)[1] - second) < mp.mpf("1e-20")
            mean = sum(k * w for k, w in enumerate(weights))
            assert law.mean.lower * (1 - 1e-14) <= mean <= law.mean.upper * (1 + 1e-14)
            assert law.mean.width <= 1e-12 * law.mean.upper


def test_three_outcomes_come_near_the_pure_bound():
    """(2 + η)ε is the best there is: a rare outcome, rarer still than the better one, and γ far below both."""
    epsilon, rare, better = 0.5, 2.0**-34, 2.0**-12
    odds = math.exp(epsilon)
    p = (1 - rare * odds - better, rare * odds, better)
    q = (1 - rare - better * odds, rare, better * odds)
    law = TruncatedNegativeBinomial(eta=1.0, gamma=1e-9)
    bound = Selection(Tabulated(p=p, q=q), law).renyi(ADD_REMOVE).divergence(math.inf)
    with mp.workdps(40):
        shown = divergence(best_of(law, p)[:-1], best_of(law, q)[:-1], math.inf)
    assert 0.999 * 3 * epsilon < shown <= bound <= 3 * epsilon * (1 + 1e-9)


@pytest.mark.parametrize("eta", [-0.9, 0.0, 0.5, 1.0, 4.0])
def test_the_best_of_pure_runs_is_pure(eta):
    law = TruncatedNegativeBinomial(eta=eta, gamma=0.01)
    tuned = Selection(PureDP(epsilon=0.5, adjacency="replace_one"), law)
    assert compute_epsilon(tuned, delta=0.0, adjacency="replace_one") == pytest.approx((2 + eta) * 0.5, rel=1e-12)
    pair = tuned.pairs(REPLACE_ONE)["replace"]
    assert not pair.attained
    with pytest.raises(UnsupportedProcess, match="about replace_one neighbours, got add_remove"):
        tuned.renyi(ADD_REMOVE)


def test_what_shows_nothing_shows_nothing_however_often_it_runs():
    for law in LAWS:
        for part in (
            PureDP(epsilon=0.0, adjacency="add_remove"),
            Compose(()),
            Repeat(Gaussian(noise_multiplier=1.0), 0),
        ):
            bound = Selection(part, law).renyi(ADD_REMOVE)
            assert 0 <= bound.divergence(2.0) <= bound.divergence(math.inf) <= 1e-14


def test_runs_that_may_give_a_record_away_have_no_bound():
    leaky = Selection(ApproximateDP(epsilon=0.1, delta=1e-6, adjacency="add_remove"), LAWS[0])
    assert leaky.renyi(ADD_REMOVE).divergence(2.0) == math.inf
    with pytest.raises(UnsupportedProcess, match="accountant='rdp'"):
        leaky.pairs(ADD_REMOVE)
    assert compute_epsilon(leaky, delta=1e-3) == math.inf


@given(st.sampled_from(LAWS), st.floats(1.001, 1e4), st.floats(1.0, 50.0))
def test_divergences_are_never_below_those_of_one_run_or_nan(law, order, further):
    if isinstance(law, PoissonRuns) and law.runs < 1:
        return  # with fewer than one run on average the best of them may show less than one
    one = Gaussian(noise_multiplier=3.0)
    bound = Selection(one, law).renyi(ADD_REMOVE)
    assert bound.divergence(order) >= order / 18 * (1 - 1e-12)
    assert not math.isnan(bound.divergence(order * further))


def test_no_runs_show_nothing():
    for part in (Gaussian(noise_multiplier=0.0), Gaussian(noise_multiplier=1.0)):
        bound = Selection(part, PoissonRuns(runs=0.0)).renyi(ADD_REMOVE)
        assert bound.divergence(3.0) == 0.0


def test_without_noise_nothing_is_protected():
    for law in LAWS:
        bound = Selection(Gaussian(noise_multiplier=0.0), law).renyi(ADD_REMOVE)
        assert bound.divergence(2.0) == bound.divergence(math.inf) == math.inf


def test_a_pair_of_the_whole_run_serves_poisson_runs_better_than_its_divergences():
    one, law = Gaussian(noise_multiplier=4.0), PoissonRuns(runs=10.0)
    listed = Selection(Compose((one, ZCDP(rho=0.0, adjacency="add_remove"))), law)
    assert compute_epsilon(Selection(one, law), delta=1e-6) == pytest.approx(2.03937, abs=1e-4)
    assert compute_epsilon(listed, delta=1e-6) == pytest.approx(2.50111, abs=1e-3)


# As a process


def test_it_is_one_step_and_composes():
    tuned = Selection(Gaussian(noise_multiplier=4.0), LAWS[0])
    assert leaves(Repeat(tuned, 3)) == ((tuned, 3),)
    once, thrice = (compute_epsilon(Repeat(tuned, n), delta=1e-6) for n in (1, 3))
    assert once < thrice < 3 * once
    inner = Selection(Repeat(Gaussian(noise_multiplier=8.0), 4), LAWS[0])
    assert compute_epsilon(inner, delta=1e-6) == pytest.approx(once, rel=1e-9)


def test_sampled_training_is_priced_by_both_its_directions():
    training = Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.01)), 500)
    plain = compute_epsilon(training, delta=1e-5, accountant="rdp")
    tuned = compute_epsilon(Selection(training, LAWS[1]), delta=1e-5)
    assert plain < tuned < 3 * plain


@pytest.mark.slow
def test_runs_over_balls_in_bins_are_priced():
    training = Allocated(Repeat(Gaussian(noise_multiplier=2.0), 3), BallsInBins())
    plain = compute_epsilon(training, delta=1e-5, accountant="rdp")
    assert plain < compute_epsilon(Selection(training, LAWS[0]), delta=1e-5) < 3 * plain


def test_other_accountants_say_who_takes_it():
    tuned = Selection(Gaussian(noise_multiplier=4.0), LAWS[0])
    with pytest.raises(UnsupportedProcess, match="accountant='rdp'"):
        compute_epsilon(tuned, delta=1e-6, accountant="pld")
    with pytest.raises(UnsupportedProcess):
        Sampled(tuned, Poisson(probability=0.1)).renyi(ADD_REMOVE)
    with pytest.raises(UnsupportedProcess):
        Group(tuned, 2).pairs(ADD_REMOVE)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_it_goes_to_json_and_back(law):
    process = Compose((Selection(Repeat(Gaussian(noise_multiplier=0.1), 3), law), Gaussian(noise_multiplier=2.0)))
    assert from_json(to_json(process)) == process
    names = {kind.__name__: kind for kind in (Selection, Repeat, Gaussian, type(law))}
    assert eval(repr(process.parts[0]), names) == process.parts[0]


def test_its_golden_file_loads_for_ever():
    stated = Selection(PureDP(epsilon=0.5, adjacency="add_remove"), PoissonRuns(runs=10.0))
    logarithmic = TruncatedNegativeBinomial(eta=0.0, gamma=0.1)
    several = Compose((Selection(Repeat(Gaussian(noise_multiplier=4.0), 3), logarithmic), stated))
    golden = Path(__file__).resolve().parents[1] / "reference" / "process_v1_selection.json"
    assert from_json(golden.read_text()) == several


@pytest.mark.parametrize("runs", [10, 1.0, None, "geometric", TruncatedNegativeBinomial])
def test_a_fixed_number_of_runs_is_refused(runs):
    with pytest.raises(InvalidParameter, match="A fixed number of runs has no such bound"):
        Selection(Gaussian(noise_multiplier=1.0), runs)
    with pytest.raises(InvalidParameter, match="every part must be a process"):
        Selection("training", LAWS[0])


# The runner


def scripted(randomness, scores, law):
    """Run with these scores in turn; return what came of it and the scores that were used."""
    pending, sources = list(scores), []

    def run(source):
        sources.append(source)
        return pending[len(sources) - 1], len(sources) - 1

    found = Selection(Gaussian(noise_multiplier=1.0), law).release(run, randomness=randomness)
    return found, pending[: len(sources)], sources


def test_the_best_run_comes_back_the_first_of_equals():
    for seed in range(40):
        scores = [float(s) for s in np.random.default_rng(seed).integers(0, 4, 3000)]
        found, used, _ = scripted(KeyedSource(seed), scores, LAWS[0])
        assert found == (max(used), used.index(max(used)))


def test_a_score_that_is_no_number_is_the_least():
    found, used, _ = scripted(KeyedSource(3), [math.nan, math.nan, -math.inf, -1.0] * 800, LAWS[3])
    assert len(used) >= 4 and found[0] == -1.0
    found, used, _ = scripted(KeyedSource(3), [math.nan] * 3000, LAWS[3])
    assert math.isnan(found[0]) and found[1] == 0


def test_without_a_run_there_is_nothing():
    assert scripted(KeyedSource(0), [], PoissonRuns(runs=0.0))[0] is None


def test_no_two_runs_share_their_randomness():
    seen = set()
    for source in (KeyedSource(5), SystemSource()):
        law = TruncatedNegativeBinomial(eta=10.0, gamma=0.05)  # one run alone: a chance of 1e-12
        _, _, sources = scripted(source, [0.0] * 3000, law)
        assert len(sources) > 1 and all(one.reproducible == source.reproducible for one in sources)
        seen |= {tuple(one.words("noise", 0, 4).tolist()) for one in sources}
        assert len(seen) >= len(sources)
    first, second = (scripted(KeyedSource(5), [0.0] * 3000, LAWS[3])[2] for _ in range(2))
    assert [a.words("noise", 0, 2).tolist() for a in first] == [b.words("noise", 0, 2).tolist() for b in second]


def test_too_many_runs_are_not_started():
    for law in (
        TruncatedNegativeBinomial(eta=1.0, gamma=1e-8),
        PoissonRuns(runs=1e8),
        TruncatedNegativeBinomial(eta=1e6, gamma=0.5),
    ):
        with pytest.raises(NumericalFailure, match="Ask for fewer runs"):
            law.draw(KeyedSource(0))


def test_the_selected_outcome_has_the_exact_law():
    """χ² over 1,000 releases of a run with three outcomes."""
    law, masses = TruncatedNegativeBinomial(eta=0.0, gamma=0.2), (0.5, 0.25, 0.25)
    source, counts = KeyedSource(11), [0, 0, 0]
    for _ in range(1000):

        def run(own):
            two = int(own.words("run", 0, 1)[0]) >> 30
            outcome = max(two - 1, 0)
            return float(outcome), outcome

        counts[Selection(Gaussian(noise_multiplier=1.0), law).release(run, randomness=source)[1]] += 1
    expected = [1000 * float(mass) for mass in best_of(law, masses)[:3]]
    assert sum((seen - mean) ** 2 / mean for seen, mean in zip(counts, expected, strict=True)) < 18.4  # 1e-4


def test_every_adjacency_is_that_of_the_run():
    tuned = Selection(Gaussian(noise_multiplier=4.0), LAWS[0])
    found = {a: tuned.renyi(a).divergence(3.0) for a in Adjacency}
    assert found[Adjacency.ZERO_OUT] == found[ADD_REMOVE] < found[REPLACE_ONE]


@pytest.mark.parametrize("score", [None, "8675309 hunter2", [1.0], 1j, 10**400])
def test_a_score_that_is_no_number_is_refused_and_not_shown(score):
    tuned = Selection(PureDP(epsilon=0.5, adjacency="add_remove"), TruncatedNegativeBinomial(eta=1.0, gamma=0.5))
    with pytest.raises(InvalidParameter, match="a run's score must be a number") as caught:
        tuned.release(lambda source: (score, "model"), randomness=KeyedSource(0))
    assert "hunter2" not in str(caught.value) and caught.value.__suppress_context__
