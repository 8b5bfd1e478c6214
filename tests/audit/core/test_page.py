import dataclasses
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from audit import AuditReport, IndependentRuns, plots
from audit.core.page import page
from audit.core.plots import COLOURS
from audit.core.printed import DIGITS, quotient
from audit.core.rows import cheapest, facts, guessed, rows, summary
from audit.pictures import JawsPath, Pictures, RocCurve, ScoreHistogram, WealthPath
from audit.scores import Stream
from mechanisms.core.command_line import at_least

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
VOID = {"meta", "img", "br", "link"}
PHONE = 360
PICTURES = Pictures(
    histogram=ScoreHistogram(edges=(0.0, 1.0, 2.0), included=(1, 2), excluded=(2, 1)),
    roc=RocCurve(false_positive_rate=(0.0, 1.0), true_positive_rate=(0.5, 1.0), alpha=(0.0, 1.0), allowed=(0.6, 1.0)),
    jaws=JawsPath(steps=(1, 2), claimed=(1.0, float("inf")), evidence=(0.0, 0.5)),
    wealth=WealthPath(looks=(1, 2), log_wealth=(0.5, -float("inf")), epsilon=1.0, confidence=0.95),
)
# One frame for light and one for dark; what each shows is written into the page that holds them.
READER = """<!doctype html><meta charset="utf-8">
<iframe style="color-scheme: light; width: {width}px; height: 900px" src="report.html"></iframe>
<iframe style="color-scheme: dark; width: {width}px; height: 900px" src="report.html"></iframe>
<pre id="found"></pre>
<script>addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, verdict = page.getElementById("verdict");
    return {{ verdict: verdict.innerText, colour: frame.contentWindow.getComputedStyle(verdict).color,
             paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
             overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
             images: [...page.images].map(image => image.naturalWidth),
             shown: [...page.images].filter(image => image.offsetWidth).map(image => image.className) }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});</script>
"""


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures in them, for tests of their words."""
    monkeypatch.setattr("audit.core.page.png", lambda _: b"")


@pytest.fixture(scope="module")
def report():
    text = (Path(__file__).parents[1] / "report-1.json").read_text()
    return dataclasses.replace(AuditReport.from_json(text), data="<digits> & more")


@pytest.fixture
def violated(report):
    """A claim that one run violates, and many runs and a prior do too, with much more of it."""
    shown = dataclasses.replace(report.evidence, epsilon=4.5)
    many = dataclasses.replace(shown, method="clopper_pearson", design=IndependentRuns(runs=400), epsilon=9.0)
    few = dataclasses.replace(many, method="katz_log", design=IndependentRuns(runs=60), epsilon=8.0)
    believed = dataclasses.replace(shown, method="joint_beta", guarantee="credible", epsilon=9.0)
    return dataclasses.replace(report, evidence=shown, exploratory=(many, believed, few), verdict="violated")


class Read(HTMLParser):
    """Reads a page as strictly as it can: every tag closed in order, every reference kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.texts, self.tags = [], [], {}, set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.references += [value for name, value in attributes if name in ("src", "srcset", "href", "data", "poster")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag

    def handle_data(self, text):
        for tag, attributes in self.open:
            key = attributes.get("id", tag)
            self.texts[key] = self.texts.get(key, "") + text


@pytest.mark.parametrize(
    ("verdict", "tone"), [("consistent", "calm"), ("none", "neutral"), ("description refuted", "bad")]
)
def test_the_page_is_well_formed_needs_nothing_and_says_the_verdict(report, judged, verdict, tone, undrawn):
    text = page(judged(report, verdict), seconds=12.3)
    read = Read(text)
    assert not read.open
    assert read.texts["verdict"] == f"Verdict: {verdict}" and read.texts["title"] == f"Privacy audit: {verdict}"
    assert f'class="verdict {tone}"' in text
    assert read.references and all(one.startswith("data:image/png;base64,") for one in read.references)
    assert not read.tags & {"script", "link", "iframe", "object", "form", "a"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert "<digits> & more" in read.texts["td"]


def test_every_colour_of_the_page_is_known_in_light_and_dark(report, undrawn):
    style = Read(page(report, seconds=None)).texts["style"]
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    used = set(re.findall(r"var\((--\w+)\)", style))
    assert used == set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))


@pytest.mark.parametrize(
    ("share", "shown"), [(0.996, "0.99"), (1 - 2.0**-53, "0.99"), (1.0, "1.00"), (0.0, "0.00"), (12.3456, "12.34")]
)
def test_a_ratio_and_a_confidence_are_never_shown_above_what_they_are(report, judged, share, shown):
    bound = dataclasses.replace(report.evidence, epsilon=share * report.claim.upper, confidence=0.99996)
    found = dataclasses.replace(judged(report, "none"), exploratory=(bound,))
    row = rows(found)[-1]
    assert (row.ratio, row.level) == (shown, "0.9999") and row.epsilon == f"≥ {at_least(bound.epsilon, DIGITS)}"
    assert " at 0.9999 (" in dict(summary(found))["exploratory, decides nothing"]
    assert plots._lines(found, COLOURS["light"])[-1].value.endswith(" at 0.9999")


def test_the_confidence_of_guesses_of_candidates_is_never_shown_above_what_it_is():
    golden = AuditReport.from_json((Path(__file__).parents[1] / "report-risk-1.json").read_text(encoding="utf-8"))
    assert ", each at 0.9999; the claim allows" in guessed(dataclasses.replace(golden.risk, confidence=0.99996))


def test_no_float_below_the_claim_has_a_ratio_of_one():
    claims = np.random.default_rng(0).uniform(0.1, 50, size=200)
    assert {quotient(float(np.nextafter(claim, 0)), float(claim)) for claim in claims} == {"0.99"}
    assert any(np.floor(100 * np.nextafter(claim, 0) / claim) == 100 for claim in claims)  # as in floats


def test_delta_is_shown_in_all_its_digits(report):
    delta = 1.2345678e-5
    claim, evidence = dataclasses.replace(report.claim, at=delta), dataclasses.replace(report.evidence, delta=delta)
    found = dataclasses.replace(report, claim=claim, evidence=evidence, refutation=None, exploratory=(), accountants=())
    assert dict(facts(found))["δ and neighbours"] == "1.2345678e-05, add_remove"


def test_evidence_that_is_infinite_is_infinitely_above_the_claim(report, judged):
    bound = dataclasses.replace(report.evidence, epsilon=float("inf"))
    assert rows(dataclasses.replace(judged(report, "none"), exploratory=(bound,)))[-1].ratio == "∞"


@pytest.mark.parametrize("place", [0, 1])
def test_every_text_stands_out_from_its_paper(report, place, undrawn):
    """Contrast of 4.5 to 1, by the formula of WCAG 2."""
    style = Read(page(report, seconds=None)).texts["style"]
    told = dict(re.findall(r"(--\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)[place]))

    def luminance(colour):
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("--ink", "--faint", "--calm", "--bad", "--neutral"):
        dark, bright = sorted((luminance(told[name]), luminance(told["--paper"])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, name


def test_a_violated_claim_names_the_cheapest_evidence_first(violated):
    assert [(role, bound.method) for role, bound in cheapest(violated)] == [
        ("primary", "one_run"),
        ("exploratory", "katz_log"),
        ("exploratory", "clopper_pearson"),
    ]
    (told,) = (value for name, value in summary(violated) if name == "shown by, fewest runs first")
    assert told.startswith("ε ≥ 4.5 at 0.96 (one_run), primary, one run, 2,000 canaries; ε ≥ 8 at")
    names = [name for name, _ in summary(violated)]
    assert names.index("shown by, fewest runs first") < names.index("primary evidence")


def test_a_cheaper_estimator_stands_before_the_primary(violated):
    swapped = dataclasses.replace(violated, evidence=violated.exploratory[0], exploratory=(violated.evidence,))
    assert [bound.method for _, bound in cheapest(swapped)] == ["one_run", "clopper_pearson"]


def test_nothing_shows_a_verdict_that_accuses_nobody(report, violated, judged):
    assert not cheapest(report) and not cheapest(judged(violated, "none"))
    assert "shown by, fewest runs first" not in dict(summary(report))


def test_evidence_about_the_family_shows_a_refuted_description_and_no_violation(report, violated):
    loud = dataclasses.replace(violated, refutation=dataclasses.replace(violated.refutation, epsilon=7.0))
    assert "accountant_inversion" not in [bound.method for _, bound in cheapest(loud)]
    refuted = dataclasses.replace(loud, evidence=report.evidence, verdict="description refuted")
    assert "accountant_inversion" in [bound.method for _, bound in cheapest(refuted)]


def test_a_page_about_a_trainer_at_fault_says_nothing_was_shown_and_no_guess_was_made(report, undrawn):
    without = {"verdict": "none", "guesses": 0, "correct": 0, "exploratory": ()}
    faulty = dataclasses.replace(report, faults=("the trainer raised",), **without)
    text = page(faulty, seconds=None)
    assert "≥" not in text and "ratio of evidence" not in text
    assert text.count("<td>not asked</td>") == 1 + (report.refutation is not None)
    assert "Nothing was shown of it." in text and "Shown by the primary" not in text and "right guesses" not in text
    assert "right guesses" in page(report, seconds=None)


def test_a_page_about_a_stream_says_that_it_is_about_one_step(report, undrawn):
    streamed = dataclasses.replace(report.evidence, design=Stream(looks=7))
    text = page(dataclasses.replace(report, evidence=streamed), seconds=None)
    assert "about one step, for a record that takes part in it" in text
    assert "about one step" not in page(report, seconds=None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium, google-chrome or chromium-browser on PATH")
def test_a_browser_reads_the_verdict_in_light_and_dark_on_a_phone(violated, tmp_path):
    (tmp_path / "report.html").write_text(page(violated, seconds=None))
    (tmp_path / "reader.html").write_text(READER.format(width=PHONE))
    options = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", str(tmp_path / "reader.html")],
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
    )
    light, dark = json.loads(Read(done.stdout).texts["found"])
    assert light["verdict"] == dark["verdict"] == "Verdict: violated"
    assert (light["colour"], dark["colour"]) == ("rgb(176, 58, 0)", "rgb(255, 154, 77)")
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")
    assert light["overflow"] == dark["overflow"] == 0
    assert light["images"] and all(light["images"] + dark["images"])
    assert (set(light["shown"]), set(dark["shown"])) == ({"by-day"}, {"by-night"})


@pytest.mark.skipif(BROWSER is None, reason="no chromium, google-chrome or chromium-browser on PATH")
@pytest.mark.slow
def test_paper_is_light_where_the_screen_is_dark(report, tmp_path):
    """Whatever the screen prefers, the same is printed; on the screen the pages differ."""
    (tmp_path / "report.html").write_text(page(dataclasses.replace(report, pictures=PICTURES), seconds=None))
    printed, seen = {}, {}
    for scheme in (0, 1):
        options = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        options += ["--no-pdf-header-footer", f"--blink-settings=preferredColorScheme={scheme}"]
        for what, found in (("print-to-pdf", printed), ("screenshot", seen)):
            file = tmp_path / f"{what}-{scheme}.png"
            asked = [BROWSER, *options, f"--{what}={file}", str(tmp_path / "report.html")]
            subprocess.run(asked, capture_output=True, timeout=400, check=True)
            found[scheme] = re.sub(rb"/(Creation|Mod)Date \(.*?\)|/ID \[.*?\]", b"", file.read_bytes(), flags=re.DOTALL)
    assert printed[0] == printed[1] and seen[0] != seen[1]


def test_the_page_shows_every_picture_that_the_report_carries_with_its_words(report, undrawn):
    told = dataclasses.replace(report, pictures=PICTURES)
    read = Read(page(told, seconds=None))
    assert not read.open and len(read.references) == 2 * 6
    assert read.texts["figcaption"].count(".") >= 6 and "it is no evidence" in read.texts["figcaption"]
    assert AuditReport.from_json(told.to_json()) == told
    assert len(Read(page(report, seconds=None)).references) == 2


def test_a_picture_that_cannot_be_drawn_is_named_in_its_place(report, monkeypatch):
    def fail(*_, **__):
        raise ValueError("record 17")

    monkeypatch.setattr("audit.core.plots.roc", fail)
    monkeypatch.setattr("audit.core.page.png", lambda _: b"")
    shown = page(dataclasses.replace(report, pictures=PICTURES), seconds=None)
    assert shown.count("A picture could not be drawn (ValueError): ") == 2 and "record 17" not in shown
    assert shown.count("<figure>") == 4
