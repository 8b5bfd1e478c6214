import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from accountant import Claim, ErrorLine, compute_epsilon
from dpsgd import (
    DPSGD,
    STOP,
    AdaptiveQuantile,
    Augmentation,
    Budget,
    Checkpoint,
    Cosine,
    Cyclic,
    Dataset,
    DPAdam,
    IndependentGaussian,
    LatticeGaussian,
    MatrixGaussian,
    RoundedGaussian,
    TailAverage,
    mlp,
    train,
)
from dpsgd.card import Circumstances, PrivacyCard
from dpsgd.core import compiled, compiled_noise
from mechanisms import FixedSize, InvalidParameter, KeyedSource, Poisson, SystemSource
from mechanisms.core.process import Adjacency
from tests.dpsgd.schemes import config_of

EVERY = config_of(Poisson(probability=1.0), steps=20)  # whose price is had at once
GOLDEN = Path(__file__).with_name("card_v1.json")
CARD = PrivacyCard(
    config=DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.01),
        expected_batch_size=600,
        steps=1000,
        learning_rate=0.5,
    ),
    claim=Claim(
        lower=1.8282366665133076,
        upper=1.8282366665198473,
        quantity="epsilon",
        at=1e-5,
        adjacency=Adjacency.ADD_REMOVE,
        method="contour",
        ledger=(ErrorLine(source="truncation", bound=2.97e-19, unit="delta", basis="proved"),),
    ),
    executed=700,
    reproducible=False,
    circumstances=Circumstances(
        dimension=203_530, dtype="float32", fresh=True, ranks=2, budget=Budget(epsilon=2.0, delta=1e-5)
    ),
    versions={"dp-calipers": "0.1.0", "torch": "2.13.0"},
    public_data="nothing",
    not_accounted=("12 runs for the learning rate", "pixels scaled by their largest"),
)


def _data(records=8):
    return Dataset(features=torch.linspace(-1, 1, 5 * records).reshape(records, 5), targets=torch.arange(records) % 3)


def _train(config, data=None, *, randomness=None, **options):
    loss = nn.CrossEntropyLoss(reduction="none")
    randomness = randomness or SystemSource()
    return train(mlp(5, (4,), 3), data or _data(), config, loss=loss, randomness=randomness, **options)


def _with(**changes):
    return dataclasses.replace(CARD, **changes)


def test_the_price_on_the_card_is_that_of_what_ran():
    config = EVERY
    result = _train(config, initialisation_seed=0)
    card = result.card(delta=1e-6, adjacency="replace_one")
    assert card.config == config and card.config.process() == result.process
    assert card.claim.upper == result.epsilon(delta=1e-6, adjacency="replace_one")
    assert card.claim.upper == compute_epsilon(result.process, delta=1e-6, adjacency="replace_one")
    assert (card.claim.delta, card.claim.adjacency) == (1e-6, "replace_one")
    assert (card.executed, card.reproducible) == (20, False)
    assert card.circumstances == Circumstances(
        dimension=39,
        dtype="float32",
        fresh=True,
        optimizer="plain steps",
        compiled=False,
        alone=False,
        layers_draw=False,
    )
    assert dict(card.versions)["torch"] == torch.__version__


def test_the_card_tells_how_the_run_was_carried_out(tmp_path):
    config, budget = EVERY, Budget(epsilon=16.0, delta=1e-5)
    checkpoint = Checkpoint(path=tmp_path / "run.safetensors", every=5)
    card = _train(config, budget=budget, checkpoint=checkpoint).card(delta=1e-5)
    assert card.config.steps == budget.steps_within(config) < config.steps and card.claim.upper <= 16.0
    assert card.circumstances.budget == budget and card.circumstances.checkpointed and not card.circumstances.fresh
    assert "within ε = 16.0 at δ = 1e-05" in card.markdown and "in a file of its owner's" in card.markdown
    assert "taken up again, loss, copies and prescribed gradients were those it began with" in card.markdown
    assert "taken up again" not in _train(config).card(delta=1e-5).markdown


def test_the_card_tells_of_copies_optimizer_schedule_and_average_and_what_is_assumed_of_them():
    copies = Augmentation(make=lambda x, u: x + u[0], copies=3, draws=1)
    options = {"augmentation": copies, "schedule": Cosine(steps=20), "average": TailAverage(steps=5)}
    card = _train(EVERY, optimizer=DPAdam, **options).card(delta=1e-5)
    assert "each record's clipped once to norm 1.0 by Flat(), " in card.markdown
    assert "; a record counts by the mean of 3 random copies |" in card.markdown
    [after] = [line for line in card.markdown.splitlines() if line.startswith("| After the noise |")]
    assert "dpsgd.optimizers.DPAdam(betas=(0.9, 0.999), " in after and f"lr={EVERY.learning_rate}" in after
    assert "a schedule of learning rates, TailAverage(steps=5) of the weights: made of noisy sums" in after
    [assumed] = [line for line in card.markdown.splitlines() if line.startswith("| Assumed |")]
    assert "loss, optimizer, schedule, the making of copies read no records but those they are given" in assumed
    assert "the weights that were given hold nothing of the records" in assumed
    assert PrivacyCard.from_json(card.to_json()) == card
    plain = _train(EVERY, initialisation_seed=0).card(delta=1e-5).markdown
    assert "| After the noise | plain steps: made of" in plain and "copies" not in plain
    assert "weights that were given" not in plain and "chosen without the records, or see below" in plain


def test_the_card_of_an_adaptive_bound_tells_of_counts_and_of_the_noise_that_the_sum_has():
    clipping = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)
    text = _train(dataclasses.replace(EVERY, noise_multiplier=3.0, clipping=clipping)).card(delta=1e-5).markdown
    assert "of multiplier 3.750000 beside that on counts, both together 3.0, on sums" in text
    assert "clipped once to a norm that begins at 1.0 and moves by noisy counts by Adaptive" in text
    assert "the noisy sums and counts of all its steps" in text


def test_the_card_of_users_clips_users_and_of_no_noise_has_none():
    config = dataclasses.replace(EVERY, unit="user", examples_per_user=2, noise_multiplier=0.0)
    data = Dataset(features=_data().features, targets=_data().targets, owners=torch.arange(8) // 2)
    text = _train(config, data, randomness=KeyedSource(0)).card(delta=1e-5).markdown
    assert "each user's clipped once to norm 1.0" in text and "a user's records give one gradient" in text
    assert "| Noise in floats | there is none |" in text and "whoever knows the key knows who takes part" in text


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (None, "torch 2.13.0; not stated whether sums and noise were compiled |"),
        (False, "torch 2.13.0; sums and noise not compiled |"),
        (
            True,
            "torch 2.13.0; clipped sums, and noise where it is of independent float32, compiled by torch's inductor |",
        ),
    ],
)
def test_the_card_says_whether_sums_were_compiled(said, sentence):
    card = _with(circumstances=dataclasses.replace(CARD.circumstances, compiled=said))
    assert sentence in card.markdown.splitlines()[-1]
    assert json.loads(card.to_json())["card"]["circumstances"]["compiled"] is said
    assert PrivacyCard.from_json(card.to_json()) == card


def test_a_compiled_run_says_so_on_its_card(monkeypatch):
    monkeypatch.setattr(compiled, "Once", lambda function: function)  # what would have been compiled runs as written
    monkeypatch.setattr(compiled_noise, "kernel", lambda size: lambda given: [compiled_noise.add_noise(*given)])
    assert "compiled by torch's inductor" in _train(EVERY, compiled=True).card(delta=1e-5).markdown
    assert "sums and noise not compiled" in _train(EVERY).card(delta=1e-5).markdown


def test_a_run_that_was_stopped_by_what_it_showed_pays_for_all_its_steps():
    config = EVERY
    result = _train(config, callbacks=[lambda release: STOP if release.step == 3 else None])
    card = result.card(delta=1e-5)
    assert card.executed == 4 and card.claim.upper == compute_epsilon(config.process(), delta=1e-5)
    assert "4 taken of 20 planned: what it showed stopped the run, and ε is that of all" in card.markdown


def test_a_run_with_a_known_key_is_called_not_private_before_anything_else():
    text = _train(EVERY, randomness=KeyedSource(0)).card(delta=1e-5).markdown
    assert text.splitlines()[2].startswith("**Reproducible: not private.**")
    assert "With a secret key it would be ε ≤" in text


def test_nothing_private_is_on_the_card():
    cards = set()
    for records in (0, 1, 8, 50):
        data = _data(records)
        data.features[:1] = float("nan")
        card = _train(EVERY, data, initialisation_seed=0).card(delta=1e-5, not_accounted=())
        cards.add((card.markdown, card.to_json()))
    assert len(cards) == 1


def test_a_run_without_noise_guarantees_nothing_and_says_so():
    card = _train(dataclasses.replace(EVERY, noise_multiplier=0.0)).card(delta=1e-5)
    assert card.claim.upper == math.inf and "**No guarantee: ε is infinite** at δ = 1e-05" in card.markdown
    assert '"upper": "inf"' in card.to_json() and PrivacyCard.from_json(card.to_json()) == card


def test_what_nobody_has_said_is_not_said_to_be_nothing(config):
    assert "| Not accounted | not stated: tuning" in _with(not_accounted=None).markdown
    assert "| Not accounted | nothing, as the operator states |" in _with(not_accounted=[]).markdown
    assert "| Not accounted | 12 runs for the learning rate; pixels" in CARD.markdown
    assert "| On public data first | not stated |" in _with(public_data=None).markdown


def _law(**changes):
    return config_of(Poisson(probability=0.3), **changes)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (CARD.config, "float32, within 0.000016 standard deviations of normals in all 203530 coordinates"),
        (_law(noise=RoundedGaussian()), "exact, on sums in whole numbers"),
        (
            config_of(FixedSize(batch_size=2, records=8), noise=LatticeGaussian(dimension=39)),
            "exact, on sums in whole numbers",
        ),
        (
            config_of(Cyclic(), steps_per_epoch=3, noise=MatrixGaussian(coefficients=(1.0, 0.5))),
            "made of float64 normals",
        ),
        (
            _law(clipping=AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=9.0)),
            "that on the count is exact",
        ),
    ],
)
def test_the_card_says_what_floats_leave_open(config, sentence):
    claim = dataclasses.replace(CARD.claim, adjacency=Adjacency.REPLACE_ONE)
    text = _with(config=config, claim=claim, executed=config.steps).markdown
    [line] = [line for line in text.splitlines() if line.startswith("| Noise in floats |")]
    assert sentence in line


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "computed together round otherwise beside others"),
        ({"largest_physical_batch": 1}, "ε does not cover; each record goes alone"),
        ({"largest_physical_batch": 2}, "computed together round otherwise beside others"),
        ({"largest_physical_batch": 1, "checkpoint": True}, "computed together round otherwise beside others"),
        ({"noise": RoundedGaussian()}, "none: whole numbers, made of each record alone"),
        ({"unit": "user", "examples_per_user": 2}, "2^-24 of each sum on the way, and gradients"),
    ],
)
def test_the_card_says_what_sums_in_floats_leave_open(options, sentence, tmp_path):
    ofs, data = {name: options[name] for name in ("noise", "unit", "examples_per_user") if name in options}, _data()
    ask = {name: value for name, value in options.items() if name not in ofs}
    if ask.get("checkpoint"):
        ask["checkpoint"] = Checkpoint(path=tmp_path / "run")
    if "unit" in ofs:
        data = Dataset(features=data.features, targets=data.targets, owners=torch.arange(8) // 2)
    card = _train(dataclasses.replace(EVERY, **ofs), data, **ask).card(delta=0.5)
    [line] = [line for line in card.markdown.splitlines() if line.startswith("| Sums in floats |")]
    assert sentence in line


def _row(card, name):
    [line] = [line for line in card.markdown.splitlines() if line.startswith(f"| {name} |")]
    return line


@pytest.mark.parametrize("noise", [IndependentGaussian(), RoundedGaussian()], ids=["floats", "whole"])
@pytest.mark.parametrize("masks", [nn.Dropout(0.5), nn.Identity()], ids=["masks", "none"])
def test_the_card_says_what_layers_draw_for_themselves_and_what_that_leaves_open(noise, masks):
    model, config = nn.Sequential(nn.Linear(5, 4), masks, nn.Linear(4, 3)), dataclasses.replace(EVERY, noise=noise)
    loss, options = nn.CrossEntropyLoss(reduction="none"), {"largest_physical_batch": 1}
    card = train(model, _data(), config, loss=loss, randomness=SystemSource(), **options).card(delta=0.5)
    draws = isinstance(masks, nn.Dropout)
    assert card.circumstances.layers_draw is draws and PrivacyCard.from_json(card.to_json()) == card
    assert ("Mersenne Twister" in _row(card, "Randomness")) == draws
    assert ("made for no secrets" in _row(card, "Randomness")) == draws
    assert ("layers drew nothing" in _row(card, "Randomness")) != draws
    assert ("but by what layers draw after it" in _row(card, "Sums in floats")) == draws


def test_a_card_on_which_nobody_has_said_whether_layers_draw_says_that():
    assert "not stated whether layers draw numbers" in _row(CARD, "Randomness")


def test_the_card_of_a_complete_run_still_says_that_layers_drew(tmp_path):
    model, loss = (
        nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)),
        nn.CrossEntropyLoss(reduction="none"),
    )
    options = {"loss": loss, "checkpoint": Checkpoint(path=tmp_path / "run")}
    cards = [train(model, _data(), EVERY, randomness=SystemSource(), **options).card(delta=0.5) for _ in range(2)]
    assert cards[0] == cards[1] and cards[1].circumstances.layers_draw is True


def test_the_failure_of_floats_is_that_of_all_coordinates_of_all_steps():
    assert 1.6e-16 < 203_530 * 1000 * 2.0**-80 < 1.7e-16
    assert "with probability 1.7E-16: ε holds" in CARD.markdown


def test_users_are_named_with_the_bound_on_their_examples():
    config = dataclasses.replace(CARD.config, unit="user", examples_per_user=3)
    text = _with(config=config).markdown
    assert "one user more or less" in text and "of which the first 3 examples count" in text


def test_a_card_is_one_screen_and_no_text_breaks_its_table():
    text = _with(public_data="a | b\n\n# Privacy card\n**ε ≤ 0.1** <b>`x`", not_accounted=("|", "\\|\n")).markdown
    assert len(text.splitlines()) <= 25 and text.count("\n# ") == 0
    assert "| On public data first | a \\| b # Privacy card **ε ≤ 0.1** &lt;b>\\`x\\` |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") == 3 for line in rows)


def test_upper_ends_are_rounded_up_and_lower_ends_down():
    assert "**ε ≤ 1.828237 at δ = 1e-05**" in CARD.markdown and "ε in [1.828236, 1.828237]" in CARD.markdown


def test_json_brings_every_card_back():
    for card in (CARD, _with(not_accounted=None), _with(not_accounted=()), _train(EVERY).card(delta=0.5)):
        assert PrivacyCard.from_json(card.to_json()) == card
        assert PrivacyCard.from_json(card.to_json()).claim.ledger == card.claim.ledger


def test_the_first_cards_that_were_written_load_for_ever():
    card = PrivacyCard.from_json(GOLDEN.read_text())
    assert card == CARD and card.claim.ledger == CARD.claim.ledger and card.markdown == CARD.markdown


def test_a_card_is_saved_by_the_ending_of_its_name(tmp_path):
    CARD.save(tmp_path / "card.json")
    CARD.save(str(tmp_path / "card.md"))
    assert PrivacyCard.from_json((tmp_path / "card.json").read_text()) == CARD
    assert (tmp_path / "card.md").read_text() == CARD.markdown
    with pytest.raises(InvalidParameter, match=r"PrivacyCard: path must end in \.md or \.json, got '.*card\.txt'"):
        CARD.save(tmp_path / "card.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "card.md"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"executed": 1001}, "executed must be at most steps = 1000, got 1001"),
        ({"executed": -1}, "executed must be at least 0, got -1"),
        ({"reproducible": 1}, "reproducible must be True or False, got 1"),
        ({"claim": 1.8}, "claim must bound an epsilon from 0 on, got 1.8"),
        ({"claim": dataclasses.replace(CARD.claim, quantity="delta")}, "claim must bound an epsilon"),
        ({"public_data": ""}, "public_data must be in words, got ''"),
        ({"not_accounted": "tuning"}, "not_accounted must be a sequence, got 'tuning'"),
        ({"not_accounted": (1,)}, "not_accounted must be in words, got 1"),
        ({"config": config_of(FixedSize(batch_size=2, records=8)), "executed": 2}, "adjacency must be 'replace_one'"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes, text):
    with pytest.raises(InvalidParameter, match=text):
        _with(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64', got 'float16'"),
        ({"fresh": None}, "fresh must be True or False"),
        ({"ranks": 0}, "ranks must be at least 1"),
        ({"copies": 0}, "copies must be at least 1"),
        ({"schedule": 1}, "schedule must be True or False"),
        ({"optimizer": None}, "optimizer must be text"),
        ({"compiled": "yes"}, "compiled must be True or False, got 'yes'"),
        ({"budget": 3.0}, "budget must be a Budget or None"),
    ],
)
def test_circumstances_that_cannot_be_are_refused(changes, text):
    with pytest.raises(InvalidParameter, match=f"Circumstances: {text}"):
        dataclasses.replace(CARD.circumstances, **changes)


def _changed(change):
    document = json.loads(CARD.to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON must be well formed"),
        ("[]", "schema must be 'dp-calipers/card/1', got None"),
        (_changed(lambda d: d.update(schema="dp-calipers/card/2")), "got 'dp-calipers/card/2'"),
        (_changed(lambda d: d["card"].pop("executed")), "card must have the fields"),
        (_changed(lambda d: d["card"].update(records=60_000)), "card must have the fields .*'records'"),
        (_changed(lambda d: d["card"]["claim"].update(upper="high")), "must have a number here, or 'inf', got 'high'"),
        (_changed(lambda d: d["card"]["claim"].update(ledger=[3])), "ledger must be a JSON object, got 3"),
        (_changed(lambda d: d["card"]["config"].update(schema="x/9")), "DPSGD: schema must be .* got 'x/9'"),
        (_changed(lambda d: d["card"].update(versions=None)), "versions must be a JSON object"),
    ],
)
def test_json_that_is_no_card_is_refused_by_name(text, message):
    with pytest.raises(InvalidParameter, match=message):
        PrivacyCard.from_json(text)
