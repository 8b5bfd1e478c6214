import dataclasses
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd import DPSGD
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer, check_flat_clipping
from mechanisms import BallsInBins, InvalidParameter, Poisson
from tests.dpsgd.schemes import config_of, evaluated

ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=4.0)
EVERY_CLIPPING = [
    Flat(),
    PerLayer(),
    PerLayer(shares={"2": 0.75, "0": 0.25}),
    Automatic(),
    Automatic(stability=2.0),
    Normalised(),
    ADAPTIVE,
]


@pytest.mark.parametrize("clipping", EVERY_CLIPPING, ids=repr)
def test_a_run_comes_back_from_json_and_from_its_repr(config, clipping):
    ours = dataclasses.replace(config, clipping=clipping)
    assert DPSGD.from_json(ours.to_json()) == ours
    assert evaluated(repr(ours)) == ours
    assert hash(ours.clipping) == hash(DPSGD.from_json(ours.to_json()).clipping)


@pytest.mark.parametrize("clipping", EVERY_CLIPPING, ids=repr)
def test_no_clipping_changes_the_process(config, clipping):
    assert dataclasses.replace(config, clipping=clipping).process() == config.process()


def test_files_from_before_there_were_other_clippings_load_as_flat(config):
    document = json.loads(config.to_json())
    assert document["config"].pop("clipping") == {"type": "Flat"}
    assert DPSGD.from_json(json.dumps(document)) == config
    assert config.clipping == Flat()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": "AutoS"}, "clipping type must be one of Flat, PerLayer, A.*'AutoS'"),
        ("Flat", "clipping type must be one of .* got 'Flat'"),
        ({"type": "Automatic"}, r"clipping must have the fields \['stability', 'type'\], got \['type'\]"),
        ({"type": "PerLayer", "shares": [["0", 0.5]]}, "shares must be 1 in sum, got 0.5"),
    ],
)
def test_json_of_another_clipping_is_refused_by_name(config, fields, text):
    document = json.loads(config.to_json())
    document["config"]["clipping"] = fields
    with pytest.raises(InvalidParameter, match=text):
        DPSGD.from_json(json.dumps(document))


class _Loose(Automatic):
    """A clipping that only says it is AUTO-S."""


@pytest.mark.parametrize("clipping", ["Flat", None, Automatic, _Loose()])
def test_what_is_no_clipping_is_refused(config, clipping):
    with pytest.raises(InvalidParameter, match="DPSGD: clipping must be one of Flat, PerLayer, Automatic, Norm"):
        dataclasses.replace(config, clipping=clipping)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({"0": 0.5, "1": 0.4}, r"shares must be 1 in sum, got 0\.9"),
        ({}, "shares must be 1 in sum, got 0"),
        ({"0": 1.5, "1": -0.5}, r"share of '1' must be above 0, got -0\.5"),
        ({"0": 1.0, "1": 0.0}, "share of '1' must be above 0"),
        ({"0": math.nan}, "share of '0' must be a number, got nan"),
        ({0: 1.0}, r"shares must give a number for a layer's name, got \(0, 1\.0\)"),
        ((0.5, 0.5), r"shares must give a number for a layer's name, got 0\.5"),
        ((("0", 0.5), ("0", 0.5)), "shares must name a layer once, got '0' again"),
        ("equal", "shares must be a sequence, got 'equal'"),
    ],
)
def test_shares_that_break_their_rule_are_refused(shares, text):
    with pytest.raises(InvalidParameter, match=f"PerLayer: {text}"):
        PerLayer(shares=shares)


@pytest.mark.parametrize("stability", [0.0, -1.0, math.inf, math.nan])
def test_a_stability_that_is_not_above_zero_is_refused(stability):
    with pytest.raises(InvalidParameter, match="Automatic: stability must"):
        Automatic(stability=stability)


@pytest.mark.parametrize(
    ("name", "value"),
    [("quantile", -0.1), ("quantile", 1.1), ("learning_rate", 0.0), ("count_noise_multiplier", math.inf)],
)
def test_an_adaptive_bound_names_what_breaks_its_rule(name, value):
    with pytest.raises(InvalidParameter, match=f"AdaptiveQuantile: {name} must"):
        dataclasses.replace(ADAPTIVE, **{name: value})


@settings(deadline=None, max_examples=300)
@given(total=st.floats(1e-6, 1e6), over=st.one_of(st.floats(1e-15, 1e-3), st.floats(1e-3, 1e6)))
def test_sum_and_count_together_cost_the_noise_multiplier_and_no_more(total, over):
    count = total * (1.0 + over)
    if count == total:
        return
    ours = dataclasses.replace(ADAPTIVE, count_noise_multiplier=count)
    z = ours.sum_noise_multiplier(total)
    whole, shown = 1 / Fraction(total) ** 2, 1 / Fraction(z) ** 2 + 1 / Fraction(count) ** 2
    assert shown <= whole
    assert whole - shown <= Fraction(1, 10**14) * whole


def test_without_noise_the_sum_has_none_either(config):
    assert ADAPTIVE.sum_noise_multiplier(0.0) == 0.0
    dataclasses.replace(config, noise_multiplier=0.0, clipping=ADAPTIVE)


@pytest.mark.parametrize("noise_multiplier", [4.0, 5.0, 1e300])
def test_too_little_noise_on_the_count_is_refused(config, noise_multiplier):
    text = f"DPSGD: count_noise_multiplier must be above noise_multiplier = {noise_multiplier}, got 4.0".replace(
        "+", r"\+"
    )
    with pytest.raises(InvalidParameter, match=text):
        dataclasses.replace(config, clipping=ADAPTIVE, noise_multiplier=noise_multiplier)


@pytest.mark.parametrize("max_grad_norm", [1e-31, 1e31])
def test_an_adaptive_bound_begins_where_it_can_move(config, max_grad_norm):
    with pytest.raises(InvalidParameter, match=r"max_grad_norm must lie in \[1e-30, 1e30\] for AdaptiveQuantile"):
        dataclasses.replace(config, clipping=ADAPTIVE, max_grad_norm=max_grad_norm)


def test_the_bound_falls_where_more_than_the_quantile_lie_below_it_and_keeps_its_range():
    def moved(log_ratio, noisy_count):
        return ADAPTIVE.moved(log_ratio, noisy_count=noisy_count, expected_batch_size=10.0)

    assert moved(1.0, 0.0) == 1.0
    assert moved(1.0, 5.0) == pytest.approx(0.9) and moved(1.0, -5.0) == pytest.approx(1.1)
    assert moved(1.0, math.inf) == -20 * math.log(2) and moved(1.0, -1e300) == 20 * math.log(2)


def test_a_budget_is_of_sum_and_count_together():
    fields = {"max_grad_norm": 1.0, "expected_batch_size": 50, "steps": 100, "learning_rate": 0.5}
    budget = {"epsilon": 2.0, "delta": 1e-5, "sampling": Poisson(probability=0.05), **fields}
    flat, adaptive = DPSGD.for_budget(**budget), DPSGD.for_budget(**budget, clipping=ADAPTIVE)
    assert adaptive == dataclasses.replace(flat, clipping=ADAPTIVE)
    assert ADAPTIVE.sum_noise_multiplier(adaptive.noise_multiplier) > flat.noise_multiplier
    quiet = dataclasses.replace(ADAPTIVE, count_noise_multiplier=0.1)
    with pytest.raises(InvalidParameter, match="count_noise_multiplier must be above noise_multiplier = "):
        DPSGD.for_budget(**budget, clipping=quiet)


def test_noise_is_searched_above_that_of_the_count_as_well():
    config = config_of(BallsInBins(), steps=1, steps_per_epoch=1, clipping=ADAPTIVE)
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del fields["noise_multiplier"]
    assert DPSGD.for_budget(epsilon=2.0, delta=1e-5, **fields).noise_multiplier < 4.0


def test_prescribed_records_ask_for_flat_clipping():
    check_flat_clipping("audit", Flat())
    with pytest.raises(InvalidParameter, match=r"audit: clipping must be Flat\(\) where .* got Normalised\(\)"):
        check_flat_clipping("audit", Normalised())
