import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpsgd.core import saved
from dpsgd.core.history import History
from dpsgd.core.saved import Saved
from mechanisms import InvalidParameter
from tests.dpsgd.schemes import EVERY_SCHEME

GOLDEN = Path(__file__).with_name("checkpoint-1.safetensors")
EXAMPLE = Saved(
    config=EVERY_SCHEME["Shuffled"],
    steps_taken=3,
    run=2**70,
    fingerprint="ab" * 32,
    reproducible=True,
    model={"": 'Linear("checksum":"' + "0" * 64 + '")', "weight": "torch.float32 (1, 2)"},
    states={
        "weights": {"flat": torch.tensor([1.5, -2.0])},
        "updates": {"time": 3, "rate": 0.1, "most": math.inf, "moment/weight": torch.tensor([[1, 2]])},
        "idle": {},
    },
    conduct={"optimizer": "plain steps"},
    stopped=True,
    history=History(fresh=True, ranks=2, versions={"torch": "1.0, then 2.0"}),
    library="0.0",
    draws=7,
    forms={"0": "columns", "body.2": "grouped"},
)


def _read(content):
    return Saved.from_bytes(content, name="some/file")


def _assert_equal(a, b):
    for field in dataclasses.fields(Saved):
        if field.name != "states":
            assert getattr(a, field.name) == getattr(b, field.name)
    assert set(a.states) == set(b.states)
    for part in a.states:
        assert set(a.states[part]) == set(b.states[part])
        for name, value in a.states[part].items():
            other = b.states[part][name]
            assert type(value) is type(other)
            if isinstance(value, torch.Tensor):
                assert value.dtype == other.dtype and value.shape == other.shape
                assert torch.equal(value.view(torch.uint8), other.view(torch.uint8))
            else:
                assert value == other or (value != value and other != other)


def test_what_is_written_is_read():
    _assert_equal(_read(EXAMPLE.to_bytes()), EXAMPLE)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
TENSORS = st.builds(
    lambda values, dtype: torch.tensor(values).to(dtype),
    st.lists(st.integers(-5, 5), min_size=1, max_size=5),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
)


@given(st.dictionaries(NAMES, st.integers() | st.floats() | TENSORS, max_size=5))
def test_states_of_every_kind_come_back_bit_for_bit(state):
    changed = dataclasses.replace(EXAMPLE, states={**EXAMPLE.states, "more": state})
    _assert_equal(_read(changed.to_bytes()), changed)


def test_views_of_one_storage_are_kept_apart():
    flat = torch.arange(6.0)
    views = dataclasses.replace(
        EXAMPLE, states={"weights": {"flat": flat, "head": flat[:2], "turned": flat.view(2, 3).T}}
    )
    state = _read(views.to_bytes()).states["weights"]
    assert torch.equal(state["head"], flat[:2]) and torch.equal(state["turned"], flat.view(2, 3).T)


def test_one_flipped_bit_anywhere_is_refused_by_name():
    content, bits = EXAMPLE.to_bytes(), random.Random(0)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bits.randrange(8)
        with pytest.raises(InvalidParameter, match="some/file must be as it was written"):
            _read(bytes(flipped))


def test_a_file_cut_short_anywhere_or_continued_is_refused_by_name():
    content = EXAMPLE.to_bytes()
    for length in range(0, len(content), 5):
        with pytest.raises(InvalidParameter, match="some/file must be as it was written"):
            _read(content[:length])
    with pytest.raises(InvalidParameter, match="its checksum is another"):
        _read(content + b"\0")


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\xff" * 40, b"\2" + bytes(7) + b"{}", b"\2" + bytes(7) + b"[]"])
def test_what_is_no_checkpoint_is_refused_by_name(content):
    with pytest.raises(InvalidParameter, match="some/file must be as it was written, but its header cannot be read"):
        _read(content)


def test_another_schema_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(saved, "SCHEMA", "dp-calipers/checkpoint/9")
    content = EXAMPLE.to_bytes()
    monkeypatch.undo()
    with pytest.raises(
        InvalidParameter, match="schema must be 'dp-calipers/checkpoint/1', got 'dp-calipers/checkpoint/9'"
    ):
        _read(content)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("scalars", [1], "some/file must be as it was written, but it holds no checkpoint"),
        ("scalars", {"part/time": 1}, "some/file must be as it was written, but it holds no checkpoint"),
        ("scalars", {"name without a part": 1}, "some/file must be as it was written, but it holds no checkpoint"),
        ("steps_taken", 1.5, r"steps_taken must be a whole number, got 1.5.\nThis is what some/file holds"),
        ("config", "{}", r"schema must be 'dp-calipers/config/1', got None.\nThis is what some/file holds"),
        ("stopped", 1, "some/file must be as it was written, but it holds no checkpoint"),
        ("reproducible", "no", "some/file must be as it was written, but it holds no checkpoint"),
        ("draws", -1, "draws must be at least 0, got -1.\nThis is what some/file holds"),
        (
            "forms",
            {"0": "fast"},
            "forms must be 'columns' or 'grouped', got 'fast' of '0'.\nThis is what some/file holds",
        ),
        ("forms", {"0": ["columns"]}, "some/file must be as it was written, but it holds no checkpoint"),
        ("forms", ["columns"], "some/file must be as it was written, but it holds no checkpoint"),
        ("conduct", [1], "some/file must be as it was written, but it holds no checkpoint"),
        ("more", 1, "some/file must have the fields"),
    ],
)
def test_files_that_only_look_like_checkpoints_are_refused_by_name(field, value, text):
    content = EXAMPLE.to_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    entries = json.loads(header)
    document = {**json.loads(entries["__metadata__"]["checkpoint"]), field: value}
    entries["__metadata__"] = {"checkpoint": json.dumps(document), "checksum": saved.BLANK}
    crafted = json.dumps(entries, separators=(",", ":")).encode()
    content = saved._sealed(len(crafted).to_bytes(8, "little") + crafted + content[8 + len(header) :])
    with pytest.raises(InvalidParameter, match=text):
        _read(content)


def test_more_steps_than_there_are_are_refused():
    with pytest.raises(InvalidParameter, match="steps_taken must be at most 12, got 13"):
        _read(dataclasses.replace(EXAMPLE, steps_taken=13).to_bytes())


def test_files_of_the_first_kind_load_for_ever():
    first = dataclasses.replace(
        EXAMPLE, conduct={}, stopped=False, history=None, draws=1, forms={}
    )  # which said nothing of these
    _assert_equal(Saved.from_bytes(GOLDEN.read_bytes(), name=str(GOLDEN)), first)
