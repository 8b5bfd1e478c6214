"""Documents of sweeps: what is written comes back, what somebody changed does not."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.core.jobs import Failure, Job, result_of, result_text
from audit.sweeps import SweepReport
from mechanisms import InvalidParameter
from tests.audit.sweep_jobs import TEMPLATE, Config, run

GOLDEN = (Path(__file__).parent / "sweep-1.json").read_text(encoding="utf-8")


def job(seed=0, **more):
    return Job(run=run, config=Config(seed=seed, **more))


@dataclass(frozen=True)
class Odd:
    seed: int
    numbers: dict
    names: tuple = ("ε", "a/b")


def test_a_sweep_comes_back_with_all_that_it_says_but_cannot_be_run():
    jobs = (job(0), job(1), Job(run=run, config=Odd(seed=2, numbers={10: 1.5, 9: [1e-320]})))
    outcomes = (TEMPLATE, Failure(kind="KeyError"), Failure(kind="InvalidParameter", reason="audit: “no”"))
    sweep = SweepReport(jobs=jobs, outcomes=outcomes)
    read = SweepReport.from_json(sweep.to_json())
    assert read.to_json() == sweep.to_json() and read.outcomes == sweep.outcomes
    assert (read.summary, read.exit_status, read.failures) == (sweep.summary, sweep.exit_status, sweep.failures)
    assert [one.name for one in read.jobs] == [one.name for one in jobs]
    assert SweepReport.from_json(read.to_json()) == read and not hasattr(read.jobs[0], "done")


def test_the_first_sweep_ever_written_still_loads():
    found = SweepReport.from_json(GOLDEN)
    assert [json.loads(one.config)["seed"] for one in found.jobs] == [0, 1, 2]
    assert [report.verdict for report in found.reports] == ["consistent", "none"]
    assert list(found.failures.values()) == [Failure(kind="InvalidParameter", reason="audit: seed must be another.")]
    assert found.jobs[2].name + " has no verdict: the trainer raised ValueError in training" in found.summary
    assert found.exit_status == 1


def changed(change):
    document = json.loads(GOLDEN)
    change(document["jobs"])
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON must be well formed"),
        (TEMPLATE.to_json(), "schema must be 'dp-calipers/sweep/1', got 'dp-calipers/report/1'"),
        (GOLDEN.replace('"jobs"', '"job"'), r"the document must have the fields of one, got \['job', 'library'"),
        ('{"schema": "dp-calipers/sweep/1", "jobs": 7}', "jobs must be a sequence"),
        (changed(lambda jobs: jobs[0].pop("config")), r"a job must have the fields \['config', 'library', 'name'"),
        (changed(lambda jobs: jobs.append("x")), "a job must have the fields .* got str"),
        (changed(lambda jobs: jobs[0].update(failure={})), "a job must have the fields .*'failure'"),
        (changed(lambda jobs: jobs[0].update(run=["os"])), "run must be text, got list"),
        (changed(lambda jobs: jobs[0].update(config=[1])), "config must be the text of a JSON object"),
        (changed(lambda jobs: jobs[0]["config"].update(seed=7)), "the name of this job must be .*: it was changed"),
        (changed(lambda jobs: jobs[1].update(failure={"kind": "a"})), "a failure must have the fields"),
        (
            changed(lambda jobs: jobs[1].update(failure={"kind": 1, "reason": ""})),
            "Failure: kind must be text, got int",
        ),
        (changed(lambda jobs: jobs[0]["report"]["report"].update(verdict="violated")), "verdict must be 'consistent'"),
        (changed(lambda jobs: jobs.append(jobs[0])), "jobs must be all different, and two are the same"),
    ],
)
def test_what_is_no_sweep_is_refused_by_name(text, message):
    with pytest.raises(InvalidParameter, match=message):
        SweepReport.from_json(text)


def test_a_sweep_with_one_byte_changed_is_read_or_refused_and_nothing_else():
    rng, read = random.Random(0), 0
    for _ in range(60):
        place = rng.randrange(len(GOLDEN))
        text = GOLDEN[:place] + rng.choice('0a"{}[],:-.e') + GOLDEN[place + 1 :]
        try:
            SweepReport.from_json(text)
            read += 1
        except InvalidParameter:
            pass
    assert read < 30
    for opened in ('{"a":', "["):
        with pytest.raises(InvalidParameter):
            SweepReport.from_json('{"schema": "dp-calipers/sweep/1", "jobs": ' + 900 * opened)


def test_a_result_changed_in_one_place_is_refused_whatever_it_still_says():
    one, rng = job(0), random.Random(0)
    text = result_text(one, run(one.config))
    assert result_of(one, text) == run(one.config)
    report = text.index('"report"')
    digits = [place for place in range(report, len(text)) if text[place] in "123456789"]
    for place in rng.sample(digits, 100):
        changed = text[:place] + ("2" if text[place] == "1" else "1") + text[place + 1 :]
        if json.loads(changed) != json.loads(text):  # some digits are beyond those of a float
            with pytest.raises(InvalidParameter, match="has another: it was changed"):
                result_of(one, changed)
    for place in rng.sample(range(len(text)), 100):
        with pytest.raises(InvalidParameter, match="sweep, result: JSON must"):
            result_of(one, text[:place])
    with pytest.raises(InvalidParameter, match="JSON must be well formed"):
        result_of(one, "1" * 5000)
