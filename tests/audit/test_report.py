import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.markers import CARETRIGHT

from audit import AuditReport, FailedEstimator
from audit.core.claims import claimed_bounds
from audit.core.rows import ceiling_note, cheapest, facts, meaning, rows, shown
from audit.estimators.gaussian_pair import GaussianPair
from audit.report import verdict
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import Adjacency, Gaussian, InvalidParameter, Poisson, Sampled, __version__


@pytest.fixture(scope="module")
def report(honest_report):
    exploratory = dataclasses.replace(honest_report.evidence, method="one_run", epsilon=0.25)
    return dataclasses.replace(
        honest_report, exploratory=(exploratory,), data="<digits> & more", seed=0, accuracy=0.9471
    )


def test_json_comes_back_as_the_same_report(report):
    assert AuditReport.from_json(report.to_json()) == report


def test_pictures_of_a_whole_audit_come_back_and_count_every_canary(auditing, simulated):
    told = auditing(simulated())
    assert AuditReport.from_json(told.to_json()) == told
    seen = told.pictures.histogram
    assert sum(seen.included) + sum(seen.excluded) == 2_000
    assert 1_950 < sum(seen.expected_included) + sum(seen.expected_excluded) <= 2_000
    assert told.pictures.roc.alpha and len(told.to_json()) < 30_000


def test_the_first_report_ever_written_still_loads():
    text = (Path(__file__).parent / "report-1.json").read_text()
    report = AuditReport.from_json(text)
    assert report.verdict == "consistent"
    assert (report.evidence.about, report.refutation.about) == ("any computation", "the claimed family")


def test_the_first_report_of_guessed_candidates_still_loads():
    text = (Path(__file__).parent / "report-risk-1.json").read_text()
    report = AuditReport.from_json(text)
    assert report.verdict == "consistent" and report.risk.blind == 0.7 and report.risk.guesses.weights == (7, 3)
    assert report.risk.guesses.runs == report.guesses == 40 and report.pictures.risk.limit == report.risk.allowed
    assert report.risk.success < report.risk.allowed < report.risk.most
    assert AuditReport.from_json(report.to_json()) == report


def test_json_keeps_infinities_and_every_bit_of_a_float(report):
    odd = dataclasses.replace(
        report,
        evidence=dataclasses.replace(report.evidence, epsilon=0.1 + 0.2),
        refutation=dataclasses.replace(report.refutation, epsilon=np.inf),
        ceiling=np.inf,
        verdict="description refuted",
    )
    text = odd.to_json()
    assert '"inf"' in text and "0.30000000000000004" in text and "Infinity" not in text
    assert AuditReport.from_json(text) == odd


def test_json_says_its_schema_and_version_and_no_time_or_path(report):
    document = json.loads(report.to_json())
    assert (document["schema"], document["library"]) == ("dp-calipers/report/1", __version__)
    assert not re.search(r"second|elapsed|hostname|/tmp|/home|20\d\d-\d\d", report.to_json())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: d | {"schema": "dp-calipers/report/9"},
            "schema must be 'dp-calipers/report/1', got 'dp-calipers/report/9'",
        ),
        (lambda d: [d], "schema must be 'dp-calipers/report/1', got None"),
        (lambda d: d | {"report": 7}, "must hold a report, got int"),
        (lambda d: d | {"report": d["report"] | {"type": "Path"}}, "type must be one of AuditReport, .*, got 'Path'"),
        (lambda d: d | {"report": d["report"] | {"extra": 1}}, r"AuditReport must have the fields .*'extra'"),
        (lambda d: d | {"report": d["report"] | {"verdict": "fine"}}, "verdict must be one of 'consistent'"),
        (
            lambda d: d | {"report": d["report"] | {"verdict": "violated"}},
            "verdict must be 'consistent', which is what",
        ),
        (lambda d: d | {"report": d["report"] | {"verdict": "none"}}, "verdict must be 'consistent', which is what"),
    ],
)
def test_unknown_schemas_types_and_fields_are_refused_by_name(report, spoil, message):
    with pytest.raises(InvalidParameter, match=message):
        AuditReport.from_json(json.dumps(spoil(json.loads(report.to_json()))))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["evidence"].update(epsilon=d["evidence"]["epsilon"] / 2),
        lambda d: d["evidence"]["design"].update(canaries=17),
        lambda d: d["claim"].update(upper=400.0),
        lambda d: d["process"].update(times=1),
        lambda d: d.update(correct=d["guesses"]),
    ],
    ids=["evidence", "design", "claim", "process", "guesses"],
)
def test_a_report_that_was_edited_by_hand_is_refused_though_its_verdict_would_follow(report, edit):
    document = json.loads(report.to_json())
    edit(document["report"])
    with pytest.raises(InvalidParameter, match="the digest of its report, and has another: it was changed"):
        AuditReport.from_json(json.dumps(document))
    del document["digest"]
    AuditReport.from_json(json.dumps(document))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(InvalidParameter, match="JSON must be well formed"):
        AuditReport.from_json("{")


def test_claim_and_evidence_must_be_about_the_same_delta(report):
    with pytest.raises(InvalidParameter, match="must be about the same δ and neighbours"):
        dataclasses.replace(report, evidence=dataclasses.replace(report.evidence, delta=1e-6))


def test_evidence_about_the_claimed_family_shows_no_violation(report):
    family = dataclasses.replace(report.evidence, about="the claimed family", method="one_run_fdp", epsilon=9.0)
    with pytest.raises(InvalidParameter, match="verdict must rest on evidence about any computation to be 'violated'"):
        dataclasses.replace(report, evidence=family, verdict="violated")
    told = dataclasses.replace(report, evidence=family, verdict="description refuted")
    assert "nor anything as private" in meaning(told) and "perhaps not at this ε and δ" in meaning(told)
    refuting = dataclasses.replace(told.refutation, epsilon=9.0)
    told = dataclasses.replace(told, evidence=report.evidence, refutation=refuting)
    assert meaning(told).endswith("another way of sampling.")


def test_a_bound_that_assumes_of_scores_what_no_claim_says_decides_nothing(report):
    """One step on Poisson samples: its in-scores are no normals, and would accuse a quarter of honest runs."""
    run, sigma, refuted = Sampled(Gaussian(noise_multiplier=0.5), Poisson(probability=0.5)), 0.5, 0
    claim = claimed_bounds(run, delta=1e-5, adjacency=Adjacency.ADD_REMOVE)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        membership = np.arange(1000) % 2 == 0
        values = membership * rng.binomial(1, 0.5, 1000) + sigma * rng.normal(size=1000)
        scores = Scores(values=values, design=OneRun(canaries=1000), guessing_rule=Threshold(value=0.5))
        bound = GaussianPair().lower_bound(
            LabelledScores(scores=scores, membership=membership),
            process=run,
            delta=1e-5,
            confidence=0.99,
            threat_model="",
        )
        refuted += bound.epsilon > claim.upper
        assert verdict(claim, dataclasses.replace(bound, epsilon=0.0), bound) == "none"
    assert refuted >= 3  # of 20, at an error of 1 %
    above = dataclasses.replace(bound, epsilon=2 * report.claim.upper, adjacency=report.claim.adjacency)
    accused = dataclasses.replace(report.refutation, epsilon=1.5 * report.claim.upper)
    told = dataclasses.replace(report, refutation=accused, exploratory=(above, accused), verdict="description refuted")
    assert [bound.method for _, bound in cheapest(told)] == ["accountant_inversion"] * 2


def test_table_page_and_json_say_what_evidence_is_about(report, tmp_path):
    family = dataclasses.replace(report.evidence, about="the claimed family", method="one_run_fdp")
    told = dataclasses.replace(report, evidence=family)
    assert [row.rests_on for row in rows(report)][-3:] == ["frequentist", "parametric, for the family", "frequentist"]
    assert [row.rests_on for row in rows(told) if row.role == "primary"] == ["frequentist, for the family"]
    assert dict(facts(told))["bounds are about"].startswith("one_run_fdp: the claimed family; accountant_inversion:")
    assert "ε is at least" in shown(report) and "must claim an ε of at least" in shown(told)
    assert not ceiling_note(report) and "No violation can be shown by one_run_fdp" in ceiling_note(told)
    told.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert shown(told) in page and "<td>frequentist, for the family</td>" in page
    assert AuditReport.from_json(told.to_json()) == told


def test_the_page_says_the_verdict_and_needs_nothing_from_outside(report, tmp_path):
    report.save(tmp_path / "report.html", seconds=12.3)
    page = (tmp_path / "report.html").read_text()
    assert (
        "Verdict: consistent" in page
        and "reproducible: not private" in page
        and "The run took 12 s of processor time" in page
    )
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert page.count("data:image/png;base64,") == 2
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_the_page_escapes_what_comes_from_outside(report, tmp_path):
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;digits&gt; &amp; more" in page and "<digits>" not in page


@pytest.mark.parametrize("ending", ["html", "md", "json", "png"])
def test_the_same_report_is_saved_as_the_same_bytes(report, tmp_path, ending):
    for name in ("a", "b"):
        report.save(tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_other_endings_are_refused(report, tmp_path):
    with pytest.raises(
        InvalidParameter, match=r"the ending of path must be one of '.html', '.md', '.json', '.png', got '.pdf'"
    ):
        report.save(tmp_path / "report.pdf")


def test_a_folder_that_is_not_there_is_named_and_no_temporary_file(report, tmp_path):
    with pytest.raises(InvalidParameter, match=r"directory of path must exist, got .*none/report\.json\.\nMake it"):
        report.save(tmp_path / "none" / "report.json")


def test_the_figure_names_its_axis_and_every_accountant_and_estimator(report):
    figure = report.plot()
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert axes.get_xlabel() == "privacy loss ε at δ = 1e-05, add_remove neighbours"
    assert {"basic", "contour", "rdp", "one_run\n(primary, frequentist)"} <= set(labels)
    assert not axes.get_title()


def test_an_arrow_at_zero_touches_no_label(report, judged):
    figure = judged(report, "none").plot()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    arrows = [line for line in axes.lines if line.get_marker() == CARETRIGHT and line.get_xdata()[0] == 0]
    begins = axes.bbox.x0 - 0.75 * arrows[0].get_markersize() * figure.dpi / 72  # the head is .75 of its size long
    assert len(arrows) == 2 and all(label.get_window_extent().x1 < begins for label in axes.get_yticklabels())


@pytest.mark.thinned(2)
@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 25.0, 1e6, np.inf])
def test_any_evidence_can_be_drawn_and_told(report, epsilon, tmp_path):
    shown = dataclasses.replace(report.evidence, epsilon=epsilon)
    odd = dataclasses.replace(report, evidence=shown, verdict="violated" if epsilon > 4 else "consistent")
    odd.save(tmp_path / "report.html")
    assert [row.name for row in rows(odd)] == [row.name for row in rows(report)]


def test_the_table_has_the_ratio_to_the_claim_for_evidence_only(report):
    told = {(row.name, row.role): row for row in rows(report)}
    assert told["contour", "claim"].ratio == "" and told["basic", "accountant"].level == ""
    assert told["one_run", "primary"].ratio == f"{report.evidence.epsilon / report.claim.upper:.2f}"
    assert told["accountant_inversion", "refuter"].rests_on == "parametric, for the family"


def test_the_threat_model_is_told_by_estimator_where_they_saw_different_things(report):
    assert dict(facts(report))["threat model"] == report.evidence.threat_model
    more = dataclasses.replace(report.refutation, threat_model="grey box")
    told = dict(facts(dataclasses.replace(report, refutation=more)))["threat model"]
    assert "accountant_inversion: grey box" in told and f"one_run: {report.evidence.threat_model}" in told


def test_facts_leave_out_what_is_not_known(report):
    assert dict(facts(report))["accuracy on test records"] == "94.7%"
    bare = dataclasses.replace(report, accuracy=None, data=None, seed=None, reproducible=False)
    assert "accuracy on test records" not in dict(facts(bare))
    assert dict(facts(bare))["randomness"] == "drawn by the operating system, known to nobody"


def test_a_ceiling_below_the_claim_is_told(report):
    assert not ceiling_note(report)
    assert "No violation can be shown with" in ceiling_note(dataclasses.replace(report, ceiling=3.0))


@pytest.mark.parametrize(
    ("given", "text"),
    [({"method": 3}, "method must be text, got int"), ({"reason": None}, "reason must be text, got NoneType")],
)
def test_a_failed_estimator_is_told_in_words(given, text):
    with pytest.raises(InvalidParameter, match=f"FailedEstimator: {text}"):
        FailedEstimator(**{"method": "one_run", "reason": "NumericalFailure"} | given)
