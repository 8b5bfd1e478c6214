"""The main job, measured: what it must show on real training runs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import AuditReport, demo  # noqa: E402
from audit import __main__ as cli  # noqa: E402
from audit.core.run_config import RunConfig  # noqa: E402
from mechanisms import InvalidParameter  # noqa: E402
from mechanisms.core import command_line  # noqa: E402

CLAIM = 4.0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Run the whole command at seed 0, with fewer of the exploratory runs, which decide nothing."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "RUNS", 20)
        assert command_line.run(cli.app, ["run", "--seed", "0", "--out", str(folder)]) == 0
    return folder


def test_the_demo_at_seed_zero_shows_what_it_must(written):
    report = AuditReport.from_json((written / "report.json").read_text())
    assert report.verdict == "consistent"
    assert report.claim.upper == pytest.approx(CLAIM, abs=1e-4)
    assert report.evidence.epsilon >= 0.35 * CLAIM
    assert report.refutation.epsilon >= 0.8 * CLAIM
    assert report.accuracy >= 0.93
    assert report.noise_ratio == pytest.approx(1.0, abs=0.05)
    assert report.ceiling > report.claim.upper
    assert [bound.method for bound in report.exploratory] == ["clopper_pearson"]


def test_fresh_weights_follow_from_their_own_randomness_and_touch_nothing_else(monkeypatch):
    """`torch.manual_seed` would seed every CUDA device too, also for who has one in use."""

    def called(*_):
        raise AssertionError("a CUDA device")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", called)
    before = torch.get_rng_state()
    weights = [next(demo.initialised((4,), np.random.default_rng(seed)).parameters()) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.slow  # of an audit without a model tests/audit/test_harness.py asks it every day
def test_the_same_seed_writes_the_same_json_byte_for_byte(written, monkeypatch):
    monkeypatch.setattr(demo, "RUNS", 20)
    again = demo.run(RunConfig(seed=0), directory=None, log=lambda line: None)
    assert again.to_json().encode() == (written / "report.json").read_bytes()


def test_the_page_of_the_demo_stands_alone(written):
    page = (written / "report.html").read_text()
    assert "Verdict: consistent" in page and "http" not in page
    assert (written / "bracket.png").read_bytes().startswith(b"\x89PNG")


def test_a_quarter_of_the_noise_is_violated_and_refuted_in_one_run(digits_run):
    caught(digits_run, 0)


def test_without_subtracting_the_known_records_a_quarter_of_the_noise_passes_the_primary(digits_run):
    report, _ = digits_run(0, noise_factor=0.25, subtract=False)
    assert report.evidence.epsilon < report.claim.upper
    assert report.noise_ratio > 1.5 * 0.25**2  # the records' own gradients add as much again


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 12))
def test_a_quarter_of_the_noise_is_violated_and_refuted_at_more_seeds(digits_run, seed):
    caught(digits_run, seed)


@pytest.mark.slow
def test_nine_of_ten_other_seeds_show_what_seed_zero_shows(digits_run):
    good = 0
    for seed in range(1, 11):
        report, accuracy = digits_run(seed)
        shown = report.evidence.epsilon >= 0.35 * CLAIM and report.refutation.epsilon >= 0.8 * CLAIM
        noise_is_as_described = abs(report.noise_ratio - 1) <= 0.05
        good += report.verdict == "consistent" and shown and noise_is_as_described and accuracy >= 0.93
    assert good >= 9


def caught(digits_run, seed):
    report, _ = digits_run(seed, noise_factor=0.25)
    assert report.verdict == "violated"
    assert report.evidence.epsilon > report.claim.upper
    assert report.refutation.epsilon > report.claim.upper


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "lira"}, "attack 'lira' must be given itself"),
        ({"attack": "loss"}, "attack 'loss' must have InputCanaries, got SignedCoordinates"),
        ({"refuter": "one_run"}, "refuter must be a parametric estimator"),
        ({"attack": "whitened", "refuter": None}, "attack 'whitened' must be given turns, and is given none"),
    ],
)
def test_what_the_audit_would_refuse_is_refused_before_anything_runs(change, message, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the tiny models ran")

    monkeypatch.setattr(demo, "_two_worlds", never)
    with pytest.raises(InvalidParameter, match=message):
        demo.run(RunConfig(seed=0, **change), directory=None, log=lambda line: None)
