"""Processes as JSON: back bit for bit, for ever, and nothing unknown is guessed."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given

from mechanisms import (
    ZCDP,
    Allocated,
    ApproximateDP,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    Group,
    InvalidParameter,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
    __version__,
    available,
    from_json,
    to_json,
)
from mechanisms.core.serialise import NODES, SCHEMES, STOPPING
from mechanisms.selection import Selection
from tests.strategies import any_runs

GOLDEN = Path(__file__).resolve().parents[2] / "reference" / "process_v1.json"
GUARANTEES = GOLDEN.with_name("process_v1_guarantees.json")
GROUPS = GOLDEN.with_name("process_v1_groups.json")
CONCENTRATED = GOLDEN.with_name("process_v1_zcdp.json")
GAUSSIAN = Gaussian(noise_multiplier=0.1)
EVERYTHING = Compose(
    (
        Repeat(Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=256 / 60_000)), 14_062),
        Repeat(RandomizedResponse(epsilon=1.0986122886681098, categories=10), 2**70),
        Sampled(
            Compose((GAUSSIAN, Gaussian(noise_multiplier=5e-324))), TruncatedPoisson(probability=0.3, largest_batch=9)
        ),
        Sampled(GAUSSIAN, FixedSize(batch_size=10, records=1000)),
        Sampled(GAUSSIAN, WithReplacement(batch_size=10, records=1000)),
        Allocated(Repeat(GAUSSIAN, 3), Shuffled()),
        Allocated(Repeat(GAUSSIAN, 3), BallsInBins()),
    )
)
LATER = Compose(
    (
        Sampled(Laplace(noise_multiplier=0.1), Poisson(probability=0.3)),
        Repeat(PureDP(epsilon=0.1, adjacency="replace_one"), 3),
        ApproximateDP(epsilon=0.7, delta=1e-300, adjacency="add_remove"),
    )
)

OF_GROUPS = Compose(
    (
        Group(Repeat(Sampled(GAUSSIAN, Poisson(probability=0.3)), 7), 4),
        Sampled(GAUSSIAN, TruncatedPoisson(probability=0.3, largest_batch=9, records=20)),
    )
)


@given(any_runs())
def test_a_process_comes_back_from_json_as_it_was(process):
    assert from_json(to_json(process)) == process


@given(any_runs())
def test_json_is_strict_and_says_what_it_holds_and_who_wrote_it(process):
    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(to_json(process), parse_constant=refuse)
    assert (document["schema"], document["library"]) == ("dp-calipers/process/1", __version__)
    assert document["process"]["type"] == type(process).__name__


def test_the_golden_file_of_version_one_loads_for_ever():
    assert from_json(GOLDEN.read_text()) == EVERYTHING


def test_the_golden_file_of_guarantees_loads_for_ever():
    assert from_json(GUARANTEES.read_text()) == LATER


def test_the_golden_file_of_groups_loads_for_ever():
    assert from_json(GROUPS.read_text()) == OF_GROUPS


def test_the_golden_file_of_concentrated_guarantees_loads_for_ever():
    assert from_json(CONCENTRATED.read_text()) == Repeat(ZCDP(rho=0.1, adjacency="replace_one"), 3)


@pytest.mark.parametrize("path", sorted(GOLDEN.parent.glob("process_v1*.json")), ids=lambda path: path.stem)
def test_a_golden_file_loads_and_comes_back_from_what_is_written_now(path):
    process = from_json(path.read_text())
    assert from_json(to_json(process)) == process


def test_the_golden_files_hold_every_kind_of_node():
    text = "".join(path.read_text() for path in sorted(GOLDEN.parent.glob("process_v1*.json")))
    for kind in (*NODES, *SCHEMES, *STOPPING, Selection, *available().values()):
        assert f'"type": "{kind.__name__}"' in text, f"add {kind.__name__} to a golden file of its own"


def document(process, **changes):
    return json.dumps({"schema": "dp-calipers/process/1", "library": "0.1.0", "process": process} | changes)


ONE = {"type": "Gaussian", "noise_multiplier": 1.0}
REFUSED = [
    ("", "JSON must be well formed"),
    ("{", "JSON must be well formed"),
    ("[" * 100_000, "JSON must be well formed"),
    ("null", "schema must be 'dp-calipers/process/1', got None"),
    ("[]", "schema must be 'dp-calipers/process/1', got None"),
    (
        document(ONE, schema="dp-calipers/process/2"),
        "schema must be 'dp-calipers/process/1', got 'dp-calipers/process/2'",
    ),
    (document(ONE, schema=["dp-calipers/process/1"]), "schema must be"),
    (json.dumps({"schema": "dp-calipers/process/1"}), "NoneType is no process"),
    (document({"type": "Laplacian"}), "type must be one of .*Gaussian.*, got 'Laplacian'"),
    (document({"type": "os.system", "command": "true"}), "type must be one of .*, got 'os.system'"),
    (document({"type": ["Gaussian"]}), "type must be one of"),
    (document({"noise_multiplier": 1.0}), "type must be one of .*, got None"),
    (document({"type": "Gaussian"}), r"Gaussian must have the fields \['noise_multiplier'\], got \[\]"),
    (
        document(ONE | {"sigma": 2}),
        r"Gaussian must have the fields \['noise_multiplier'\], got \['noise_multiplier', 'sigma'\]",
    ),
    (document({"type": "RandomizedResponse", "epsilon": 1.0}), r"must have the fields \['categories', 'epsilon'\]"),
    (document({"type": "Poisson", "probability": 0.5}), "Poisson is no process"),
    (document([ONE]), "tuple is no process"),
    (document({"type": "Gaussian", "noise_multiplier": "inf"}), "noise_multiplier must be finite"),
    (document({"type": "Gaussian", "noise_multiplier": "1.0"}), "noise_multiplier must be a real number"),
    (document({"type": "Gaussian", "noise_multiplier": True}), "noise_multiplier must be a real number"),
    (document(ONE).replace("1.0}", "NaN}"), "NaN is no number of JSON"),
    (document({"type": "Repeat", "part": ONE, "times": 1.5}), "times must be a whole number"),
    (document({"type": "Repeat", "part": 1, "times": 1}), "every part must be a process"),
    (document({"type": "Sampled", "part": ONE, "sampling": ONE}), "sampling must be a sampling scheme"),
    (document({"type": "Sampled", "part": ONE, "sampling": {"type": "Shuffled"}}), "spans the steps of a run"),
    (document({"type": "Compose", "parts": ONE}), "parts must be a sequence"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_unknown_or_wrong_is_refused_by_name(text, message):
    with pytest.raises(InvalidParameter, match=message):
        from_json(text)


MISHANDLED = [
    document({"type": "Compose", "parts": 5}),
    document({"type": "Compose", "parts": None}),
    document({"type": "FixedSize", "batch_size": 10**400, "records": 1}),
    b"\xff",
    None,
]


@pytest.mark.parametrize("text", MISHANDLED)
def test_nothing_but_invalid_parameter_comes_out_of_a_bad_file(text):
    with pytest.raises(InvalidParameter):
        from_json(text)


def test_a_deep_file_is_read_or_refused():
    depth = 600
    inner = '{"type": "Repeat", "times": 1, "part": ' * depth + json.dumps(ONE) + "}" * depth
    text = f'{{"schema": "dp-calipers/process/1", "library": "0.1.0", "process": {inner}}}'
    with contextlib.suppress(InvalidParameter):
        from_json(text)
