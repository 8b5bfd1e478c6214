"""The test bench of auditors: its laws are as private as they say, its rates are right, and it finds who is wrong."""

import dataclasses
import io
import shutil
import sys

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from audit import __main__ as cli
from audit import coverage as benches
from audit.core import bench_page, exact_rates
from audit.core import trials as trial_module
from audit.core.auditors import BoundAuditor, our_auditors
from audit.core.coverage_rows import remarks
from audit.core.law import Batch, laws
from audit.core.peers import peer_auditors
from audit.core.routes import _right_guesses, refuted
from audit.core.trials import Trial, asked_instead, largest_disagreement, milliseconds, question, trial, trials
from audit.coverage import Coverage, bench, gathered
from audit.laws.one_run import IsolatedGaussians, LevelDrawnOnce, ManyCanaries
from audit.laws.two_worlds import ConstantRatio, TwoWorlds
from audit.scores import GuessExtremes, IndependentRuns, OneRun, Stream
from mechanisms import InvalidParameter
from mechanisms.core import command_line

AUDITORS, LAWS = our_auditors(), laws()
TWO_WORLDS = [kind for kind in LAWS.values() if issubclass(kind, TwoWorlds)]
ONE_RUN = [kind for kind in LAWS.values() if issubclass(kind, ManyCanaries)]
ASKED = {"simulations": 40, "bounds": 0, "confidence": 0.95, "seed": 0}
CREDULOUS = BoundAuditor(
    name="credulous",
    guarantee="frequentist",
    null="privacy",
    designs=(IndependentRuns,),
    bound=lambda inside, outside, delta, confidence: 9.0,
)


def four_errors(rate, draws):
    return 4 * np.sqrt(rate * (1 - rate) / draws) + 1e-12


@pytest.mark.parametrize("design", [IndependentRuns, OneRun, Stream])
def test_every_design_has_six_laws(design):
    assert sum(kind.design is design for kind in LAWS.values()) >= 6


@pytest.mark.parametrize("kind", TWO_WORLDS)
def test_a_threshold_errs_as_often_as_its_law_says_and_within_what_is_claimed(kind):
    for epsilon in kind.epsilons:
        law = kind(epsilon=epsilon)
        batch = law.sample(np.random.default_rng(0), 60, 300)
        missed, alarm = law.error_rates(60)
        called = batch.values >= batch.guessing_rule.value
        assert abs(np.mean(~called[batch.membership]) - missed) <= four_errors(missed, 18_000)
        assert abs(np.mean(called[~batch.membership]) - alarm) <= four_errors(alarm, 18_000)
        for one, other in ((missed, alarm), (alarm, missed), (1 - missed, 1 - alarm), (1 - alarm, 1 - missed)):
            assert 1 - one <= np.exp(epsilon) * other + law.delta + 1e-9


@pytest.mark.parametrize("kind", [kind for kind in ONE_RUN if kind(epsilon=1.0).right(50) is not None])
def test_right_guesses_have_the_law_that_is_said(kind):
    for epsilon in kind.epsilons:
        law = kind(epsilon=epsilon)
        batch = law.sample(np.random.default_rng(1), 50, 1500)
        right = [batch.audit(number).correct for number in range(len(batch))]
        masses = law.right(50)
        assert masses.sum() == pytest.approx(1, abs=1e-9)
        counts = np.arange(len(masses))
        seen = np.bincount(right, minlength=len(masses)) / len(right)
        assert np.max(np.abs(np.cumsum(seen - masses))) <= np.sqrt(np.log(2e6) / (2 * len(right)))  # [Mas90]
        mean, spread = counts @ masses, np.sqrt((counts - counts @ masses) ** 2 @ masses)
        assert abs(np.mean(right) - mean) <= 4 * spread / np.sqrt(len(right)) + 1e-12


def test_time_is_that_of_one_audit_among_many():
    law = ConstantRatio(epsilon=1.0)

    class AtOnce(type(AUDITORS["jeffreys"])):
        def rejects(self, data, question):
            raise AssertionError("asked one by one")

    at_once = AtOnce(estimator=AUDITORS["jeffreys"].estimator)
    assert 0 <= milliseconds(at_once, law, 20, audits=50, confidence=0.95, seed=0) < 100


def test_correlated_abstentions_leave_guesses_independent():
    law = LAWS["CorrelatedAbstentions"](epsilon=1.0)
    batch = law.sample(np.random.default_rng(2), 50, 2000)
    right = [batch.audit(number).correct for number in range(len(batch))]
    assert np.var(right) == pytest.approx(10 * stats.logistic.cdf(1) * stats.logistic.sf(1), rel=0.12)


def test_a_level_drawn_once_leaves_each_canary_what_an_isolated_one_has():
    """Right answers, over all sizes, are as frequent as for a normal score: Φ(μ/2)."""
    mu = 1 / IsolatedGaussians(epsilon=4.0).process.noise_multiplier
    batch = LevelDrawnOnce(epsilon=4.0).sample(np.random.default_rng(3), 20, 20_000)
    right = ((batch.values > 0) == batch.membership)[:, 0]
    assert abs(right.mean() - stats.norm.cdf(mu / 2)) <= four_errors(0.5, 20_000)


def test_a_summed_rate_is_the_share_of_simulated_audits():
    law, auditor = ConstantRatio(epsilon=1.0), AUDITORS["clopper_pearson"]
    summed = trial(auditor, law, 100, **ASKED)
    batch = law.sample(np.random.default_rng(4), 100, 4000)
    share = refuted(auditor, batch, question(auditor, law, 0.95)).mean()
    assert summed.simulations == 0 and 0.005 < summed.rate < 0.05
    assert abs(share - summed.rate) <= four_errors(summed.rate, 4000)


def pairs(every):
    return [
        pytest.param(auditor, kind, id=f"{name}-{kind.__name__}")
        for name, auditor in AUDITORS.items()
        for kind in LAWS.values()
        if kind.design in auditor.designs and name not in every
    ]


@pytest.mark.thinned(23)
@pytest.mark.parametrize(("auditor", "kind"), pairs(()))
def test_no_guarantee_fails_under_a_law_that_it_is_about(auditor, kind):
    for epsilon in kind.epsilons:
        found = trial(auditor, kind(epsilon=epsilon), 20, **ASKED)
        assert not found.fails(0.05), found


@pytest.mark.parametrize("name", AUDITORS)
@pytest.mark.thinned(11)
def test_asking_about_many_audits_is_asking_about_each(name):
    auditor = AUDITORS[name]
    kind = next(kind for kind in LAWS.values() if kind.design in auditor.designs and auditor.null in kind.holds)
    law = kind(epsilon=1.0)
    batch = law.sample(np.random.default_rng(5), 20, 12)
    asked = dataclasses.replace(question(auditor, law, 0.95), confidence=0.6)
    each = [auditor.rejects(batch.audit(number), asked) for number in range(len(batch))]
    assert refuted(auditor, batch, asked).tolist() == each


def losing(auditor):
    """The laws that the auditor's null is true of, but those of which each ε needs a calibration."""
    kinds = [kind for kind in LAWS.values() if kind.design in auditor.designs and auditor.null in kind.holds]
    return [kind for kind in kinds if kind.__name__ not in benches.SLOW_LAWS and 4.0 in kind.epsilons]


def said(auditor, kind, epsilon, batch, asked):
    return bool(refuted(auditor, batch, asked_instead(auditor, kind(epsilon=epsilon), asked))[0])


def check_inversion(auditor, kind, epsilon, n, confidence, seed):
    law = kind(epsilon=epsilon)
    batch, asked = law.sample(np.random.default_rng(seed), n, 1), question(auditor, law, confidence)
    bound = auditor.epsilon(batch.audit(0), asked)
    if 0 < bound < 30:
        assert said(auditor, kind, bound * (1 - 2e-6), batch, asked), bound
        assert not said(auditor, kind, bound * (1 + 2e-6), batch, asked), bound
    elif bound == 0:
        assert not said(auditor, kind, 1e-6, batch, asked) and not said(auditor, kind, 0.1, batch, asked)


@pytest.mark.parametrize("name", AUDITORS)
def test_a_test_rejects_what_lies_below_its_bound_and_nothing_above(name):
    kinds = losing(AUDITORS[name])
    check_inversion(AUDITORS[name], kinds[0], 4.0, 30, 0.7, 7)
    check_inversion(AUDITORS[name], kinds[-1], 1.0, 20, 0.95, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", AUDITORS)
def test_every_test_is_inverted_by_its_bound_under_every_law(name):
    for number, kind in enumerate(losing(AUDITORS[name]) * 4):
        check_inversion(AUDITORS[name], kind, (1.0, 4.0)[number % 2], 50, (0.6, 0.95)[number % 3 > 0], number)


def test_a_disagreement_is_found():
    class Timid(type(AUDITORS["clopper_pearson"])):
        def epsilon(self, data, question):
            return 0.9 * super().epsilon(data, question)

    timid = Timid(estimator=AUDITORS["clopper_pearson"].estimator)
    found = largest_disagreement(timid, losing(timid), 50, cases=30, confidence=0.95, seed=0)
    assert 1e-4 < found < 1 / 0.9


def test_what_an_estimator_refutes_says_what_its_bound_is_about():
    for name, auditor in AUDITORS.items():
        family = auditor.null in ("gdp", "curve", "mechanism")
        assert auditor.estimator.about == ("the claimed family" if family else "any computation"), name


def test_right_guesses_among_equal_scores_are_those_of_the_rule():
    rng = np.random.default_rng(9)
    for included, excluded in ((3, 5), (0, 4), (6, 0), (7, 13)):
        batch = Batch(
            values=rng.integers(0, 6, (30, 20)) * 1.0,
            membership=rng.random((30, 20)) < 0.5,
            design=OneRun(canaries=20),
            guessing_rule=GuessExtremes(included=included, excluded=excluded),
        )
        assert _right_guesses(batch).tolist() == [batch.audit(number).correct for number in range(30)]


def test_auditors_tried_together_fare_as_each_alone(monkeypatch):
    monkeypatch.setattr(trial_module, "MOST_OUTSIDE", 7)
    law, names = ConstantRatio(epsilon=1.0), ("dkw", "clopper_pearson", "gaussian_pair", "maximal")
    asked = ASKED | {"simulations": 60, "confidence": 0.3}
    together = trials([AUDITORS[name] for name in names], law, 20, **asked)
    assert together == [trial(AUDITORS[name], law, 20, **asked) for name in names]
    assert [one.simulations for one in together] == [60, 0, 7, 60]  # few where it decides nothing
    assert 0 < together[0].rate < together[3].rate < 0.9


def test_counts_that_are_too_many_to_sum_over_are_drawn(monkeypatch):
    law, auditor = ConstantRatio(epsilon=1.0), AUDITORS["clopper_pearson"]
    summed = trial(auditor, law, 100, **ASKED)
    monkeypatch.setattr(exact_rates, "MOST_EXACT", 99)
    drawn = trial(auditor, law, 100, **ASKED | {"simulations": 20_000})
    assert drawn.simulations == 20_000 and abs(drawn.rate - summed.rate) <= four_errors(summed.rate, 20_000)


def test_power_is_measured_where_rules_of_all_thresholds_are_compared(tmp_path, monkeypatch):
    asked = {"sizes": (20,), "simulations": 2, "folder": tmp_path, "power": 3}
    found = bench([AUDITORS["dkw"], AUDITORS["gdp"]], **asked)
    powers = [one for one in found.trials if one.epsilon == 2.0]
    assert [(one.auditor, one.law, one.n, one.bounds) for one in powers] == [("dkw", "ConstantRatio", 1000, 3)]
    assert powers[0].simulations == 20 and 1.2 < powers[0].mean_bound < 2 and 0 < powers[0].spread < 0.3
    assert any(line.startswith("dkw shows 1.") for line in remarks(found))
    assert set(gathered(tmp_path).trials) == set(found.trials)
    monkeypatch.setattr(benches, "trials", lambda *_, **__: pytest.fail("was done already"))
    again = bench([AUDITORS["dkw"]], **asked | {"folder": tmp_path / "new"}, known=found.trials)
    assert set(again.trials) < set(found.trials)


def test_the_table_tells_what_was_not_tried(tmp_path):
    one = bench([AUDITORS["jeffreys"], AUDITORS["dkw"]], sizes=(20,), simulations=2, folder=tmp_path)
    other = bench([AUDITORS["dkw"]], sizes=(21,), simulations=3, folder=tmp_path)
    lines = remarks(other.over(one))
    assert lines[:2] == ["not tried at n = 21: jeffreys", "fewer than 3 audits for each law: dkw at 20"]


def test_the_bench_finds_an_auditor_that_claims_too_much(tmp_path):
    found = bench([CREDULOUS], sizes=(20,), simulations=5, folder=tmp_path)
    assert {one.law for one in found.failing} == {kind.__name__ for kind in TWO_WORLDS}
    assert all(one.rate == 1.0 for one in found.trials)


@pytest.mark.parametrize(("guarantee", "fails"), [("frequentist", True), ("parametric", True), ("credible", False)])
def test_only_guarantees_can_fail_and_only_under_their_laws(guarantee, fails):
    found = Trial(
        auditor="a", guarantee=guarantee, law="Tied", n=50, epsilon=1.0, delta=0.0, inside=True, rate=0.0501,
        simulations=0, mean_bound=None, bounds=0, entropy=(0,),
    )  # fmt: skip
    assert found.fails(0.05) is fails
    assert not dataclasses.replace(found, inside=False).fails(0.05)
    assert not dataclasses.replace(found, simulations=1000).fails(0.05)
    assert not dataclasses.replace(found, rate=None).fails(0.05)


def test_a_bench_goes_on_where_it_stopped(tmp_path, monkeypatch):
    asked = {"sizes": (20,), "folder": tmp_path}
    first = bench([AUDITORS["jeffreys"]], simulations=5, **asked)
    monkeypatch.setattr(benches, "trials", lambda *_, **__: pytest.fail("was done already"))
    assert bench([AUDITORS["jeffreys"]], simulations=3, **asked) == first
    (tmp_path / "jeffreys.Atom.20.json").write_text("{}")
    with pytest.raises(InvalidParameter, match=r"coverage, jeffreys\.Atom\.20\.json: schema must be"):
        bench([AUDITORS["jeffreys"]], simulations=5, **asked)


def test_the_command_goes_on_from_what_it_wrote_and_keeps_the_rest(tmp_path, monkeypatch, capsys):
    asked = f"coverage --size 20 --out {tmp_path} --estimator"
    assert command_line.run(cli.app, [*asked.split(), "jeffreys", "--simulations", "5"]) == 0
    shutil.rmtree(tmp_path / "cells")
    assert command_line.run(cli.app, [*asked.split(), "katz_log", "--simulations", "5"]) == 0
    monkeypatch.setattr(benches, "trials", lambda *_, **__: pytest.fail("was done already"))
    assert command_line.run(cli.app, [*asked.split(), "jeffreys", "--simulations", "4"]) == 0
    found = Coverage.load(tmp_path / "coverage.json")
    assert {one.auditor for one in found.trials} == set(found.milliseconds) == {"jeffreys", "katz_log"}
    assert command_line.run(cli.app, [*asked.split(), "jeffreys", "--simulations", "5", "--seed", "1"]) == 2
    assert "seed must be 0, as in coverage.json of that folder, got 1" in capsys.readouterr().err


def test_fewer_simulations_or_another_seed_are_not_enough(tmp_path):
    few = bench([CREDULOUS], sizes=(20,), simulations=2, folder=tmp_path / "few").trials
    for number, asked in enumerate(({"simulations": 3}, {"simulations": 2, "seed": 1})):
        found = bench([CREDULOUS], sizes=(20,), folder=tmp_path / str(number), known=few, **asked).trials
        assert not set(found) & set(few) and len(found) == len(few)


def test_findings_come_back_from_their_file(tmp_path):
    found = bench([AUDITORS["jeffreys"], CREDULOUS], sizes=(20,), simulations=2, folder=tmp_path / "cells")
    found.save(tmp_path / "coverage.json")
    assert Coverage.load(tmp_path / "coverage.json") == found
    so_far = gathered(tmp_path / "cells")
    assert set(so_far.trials) == set(found.trials) and so_far.milliseconds == found.milliseconds


def test_the_table_names_who_fails_and_fits_a_screen(tmp_path):
    found = bench([AUDITORS["katz_log"], CREDULOUS], sizes=(20,), simulations=2, folder=tmp_path / "cells")
    screen = io.StringIO()
    bench_page.show(found, Console(file=screen, width=bench_page.WIDTH))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines[:4])
    assert any(line.startswith("FAILS: credulous (frequentist) claims falsely in 100.00 %") for line in lines)
    bench_page.write(found, tmp_path)
    assert "| katz_log | approximate |" in (tmp_path / "coverage.md").read_text()
    assert (tmp_path / "coverage.png").stat().st_size > 10_000


def test_without_matplotlib_the_picture_alone_is_left_out(tmp_path, monkeypatch):
    found = bench([CREDULOUS], sizes=(20,), simulations=2, folder=tmp_path / "cells")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(bench_page.importlib.util, "find_spec", lambda name: None)
    bench_page.write(found, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("coverage.*")) == ["coverage.json", "coverage.md"]


@pytest.mark.parametrize(("found", "code"), [(CREDULOUS, 3), (AUDITORS["clopper_pearson"], 0)])
def test_the_exit_code_says_whether_a_guarantee_failed(found, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_page, "our_auditors", lambda: {found.name: found})
    arguments = f"coverage --estimator {found.name} --simulations 2 --size 20 --out {tmp_path}"
    assert command_line.run(cli.app, arguments.split()) == code
    assert ("FAILS" in capsys.readouterr().out) == (code == 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--estimator oracle", "estimator must be one of"),
        ("--simulations 0", "simulations must be at least 1, got 0"),
        ("--size 3", "size must be at least 20, got 3"),
        ("--seed=-1", "seed must be at least 0, got -1"),
        ("--cases=-1", "cases must be at least 0, got -1"),
    ],
)
def test_bad_input_is_refused(arguments, message, tmp_path, capsys):
    asked = ["coverage", *arguments.split(), "--out", str(tmp_path)]
    assert command_line.run(cli.app, asked) == 2
    assert message in capsys.readouterr().err


def test_peers_that_are_installed_are_tried():
    pytest.importorskip("jax_privacy", reason="jax-privacy is not installed")
    found = trial(peer_auditors()["jax.clopper_pearson"], ConstantRatio(epsilon=1.0), 50, **ASKED)
    assert found.rate <= 0.2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "must be JSON text, and is none"),
        (b'{"schema": "dp-calipers/coverage/1"}', "has lost something: KeyError"),
        (b'{"schema": "dp-calipers/coverage/1", "trials": 3, "milliseconds": {}, "disagreements": {}, '
         b'"confidence": 0.95, "seed": 0, "cases": 0}', "has lost something: TypeError"),
    ],
)  # fmt: skip
def test_a_bench_that_was_damaged_is_refused_in_a_line(content, message, tmp_path, capsys):
    (tmp_path / "coverage.json").write_bytes(content)
    assert command_line.run(cli.app, ["coverage", "--estimator", "jeffreys", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
