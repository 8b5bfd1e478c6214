"""Privacy cards as Markdown: one table of one screen."""

from __future__ import annotations

import math
from collections.abc import Iterator

from accountant import ErrorLine
from accountant.risk import true_positive_rate
from dpsgd.card import PrivacyCard
from dpsgd.clipping import AdaptiveQuantile
from dpsgd.core.forms import COLUMNS, GROUPED
from dpsgd.cyclic import Cyclic
from dpsgd.independent_laws import IndependentGaussian, LatticeGaussian, RoundedGaussian
from dpsgd.resolution import RESOLUTIONS
from mechanisms.core.command_line import at_least, at_most
from mechanisms.core.process import Adjacency

NEIGHBOURS = {
    Adjacency.ADD_REMOVE: "one {unit} more or less",
    Adjacency.REPLACE_ONE: "one {unit} replaced by another, their number being public",
    Adjacency.ZERO_OUT: "one {unit}'s contribution set to zero, their number being public",
}
UNITS = {"delta": "in δ", "epsilon": "in ε", "relative": "of δ"}
FALSE_ALARMS = 0.01
LAYERS = {
    None: "not stated whether layers draw numbers of their own",
    False: "layers drew nothing of their own for a record of zeros",
    True: (
        "layers draw masks or the like from torch's generators, begun in every step at numbers drawn from that key: a "
        "Mersenne Twister (on CUDA Philox, of 64 bits), made for no secrets, while ε takes what they draw to be secret"
    ),
}


def markdown(card: PrivacyCard) -> str:
    """Return the card as Markdown text."""
    rows = "\n".join(f"| {row[0]} | {_cell(row[1])} |" for row in _rows(card))
    return f"# Privacy card\n\n{_headline(card)}\n\n| | |\n|---|---|\n{rows}\n"


def _headline(card: PrivacyCard) -> str:
    claim, unit = card.claim, card.config.unit
    neighbours = f"neighbours by {claim.adjacency}: {NEIGHBOURS[claim.adjacency].format(unit=unit)}"
    bound = f"ε ≤ {at_most(float(claim.upper))} at δ = {claim.at!r}"
    if card.reproducible:
        return (
            "**Reproducible: not private.** Whoever knows the key of the noise can take it away. With a secret key it "
            f"would be {bound}, {neighbours}."
        )
    if math.isinf(float(claim.upper)):
        return f"**No guarantee: ε is infinite** at δ = {claim.at!r}, {neighbours}."
    return f"**{bound}**, {neighbours}."


def _rows(card: PrivacyCard) -> Iterator[tuple[str, str]]:
    claim = card.claim
    rate = at_most(100 * float(true_positive_rate(claim, false_positive_rate=FALSE_ALARMS).upper), 3)
    yield (
        "In words",
        "a test that tells two neighbours apart by all that is released, and raises a false alarm in 1 % of cases, "
        f"succeeds in at most {rate} %, by this ε and δ alone",
    )
    yield "Setting", "central: the trainer sees all records, and is trusted with them"
    yield "Unit", _unit(card)
    yield (
        "Covers",
        f"this one run: the noisy sums{' and counts' * _adaptive(card)} of all its steps and the weights after each, "
        "whoever sees them, and all that is made of them without the records",
    )
    yield "Mechanism", _mechanism(card)
    yield "Sampling", _sampling(card)
    yield "After the noise", _after(card)
    yield "Steps", _steps(card)
    yield "Accountant", f"{claim.method}, certified: ε in [{_ends(card)}]"
    yield "Errors counted", _errors(claim.ledger)
    yield "Noise in floats", _resolution(card)
    yield "Sums in floats", _sums(card)
    yield "Randomness", _randomness(card)
    yield "Weights began", "drawn afresh" if card.circumstances.fresh else "as those of a model that was given"
    yield "On public data first", card.public_data or "not stated"
    yield "Assumed", _assumed(card)
    yield "Not accounted", _not_accounted(card)
    yield "Not covered", "how long steps take, the memory they use, the operator's log, and the records themselves"
    yield "Versions", _versions(card)


def _unit(card: PrivacyCard) -> str:
    if card.config.unit == "user":
        return f"one user with all that it owns, of which the first {card.config.examples_per_user} examples count"
    return "one record; a person who has several is protected less"


def _sampling(card: PrivacyCard) -> str:
    sampling, epoch = card.config.sampling, card.config.steps_per_epoch
    spread = "" if epoch is None else f", {epoch} steps an epoch"
    if isinstance(sampling, Cyclic):
        return f"{sampling!r}{spread}: fixed batches, whose turns may be known"
    secret = (
        "whoever knows the key knows who takes part when" if card.reproducible else "who takes part when stays secret"
    )
    return f"{sampling!r}{spread}: drawn just as accounted for; {secret}"


def _adaptive(card: PrivacyCard) -> bool:
    return isinstance(card.config.clipping, AdaptiveQuantile)


def _mechanism(card: PrivacyCard) -> str:
    config, copies, clipping = card.config, card.circumstances.copies, card.config.clipping
    bound, noise = f"norm {config.max_grad_norm!r}", f"of multiplier {config.noise_multiplier!r}"
    if isinstance(clipping, AdaptiveQuantile):
        of_sum = at_least(clipping.sum_noise_multiplier(config.noise_multiplier))
        bound = f"a norm that begins at {config.max_grad_norm!r} and moves by noisy counts"
        noise = f"of multiplier {of_sum} beside that on counts, both together {config.noise_multiplier!r},"
    rows = "" if copies is None else f"; a record counts by the mean of {copies} random copies"
    rows += "" if config.unit == "record" else "; a user's records give one gradient, that of their mean loss"
    return (
        f"DP-SGD: noise {config.noise!r} {noise} on sums of gradients, each {config.unit}'s clipped once to {bound} by "
        f"{clipping!r}, then divided by the public {config.expected_batch_size!r}{rows}"
    )


def _after(card: PrivacyCard) -> str:
    """Return what made weights of noisy sums, which costs nothing."""
    here = card.circumstances
    parts = [here.optimizer or "an optimizer that is not stated"]
    parts += ["a schedule of learning rates"] * here.schedule + [f"{here.average} of the weights"] * bool(here.average)
    return f"{', '.join(parts)}: made of noisy sums and public numbers, at no cost"


def _assumed(card: PrivacyCard) -> str:
    """Return what the claim takes on trust, as no program can tell."""
    here = card.circumstances
    public = ["loss", "optimizer"] + ["schedule"] * here.schedule + ["the making of copies"] * bool(here.copies)
    parts = [f"{', '.join(public)} read no records but those they are given, one at a time"]
    if here.checkpointed:
        parts.append(
            "wherever the run was taken up again, loss, copies and prescribed gradients were those it began with"
        )
    parts += [] if here.fresh else ["the weights that were given hold nothing of the records"]
    return "; ".join([*parts, "configuration and model were chosen without the records, or see below"])


def _steps(card: PrivacyCard) -> str:
    budget = card.circumstances.budget
    kept = "" if budget is None else f"; planned are those within ε = {budget.epsilon!r} at δ = {budget.delta!r}"
    kept += "" if budget is None else f" ({budget.adjacency})"
    if card.executed == card.config.steps:
        return f"{card.executed} planned, all taken{kept}"
    stopped = "what it showed stopped the run, and ε is that of all"
    return f"{card.executed} taken of {card.config.steps} planned: {stopped}{kept}"


def _ends(card: PrivacyCard) -> str:
    return f"{at_least(float(card.claim.lower))}, {at_most(float(card.claim.upper))}"


def _errors(ledger: tuple[ErrorLine, ...]) -> str:
    lines = [f"{line.source}: ≤ {at_most(line.bound, 2)} {UNITS[line.unit]}, {line.basis}" for line in ledger]
    return "; ".join(lines) or "rounding of floats only, outward"


def _resolution(card: PrivacyCard) -> str:
    """Return what of the noise is not as accountants price it."""
    law, here = card.config.noise, card.circumstances
    count = "; that on the count is exact" * _adaptive(card)
    if not card.config.noise_multiplier:
        return "there is none"
    if isinstance(law, (RoundedGaussian, LatticeGaussian)):
        return "exact, on sums in whole numbers: floats leave nothing open"
    if not isinstance(law, IndependentGaussian):
        return "made of float64 normals: what their last digits tell, and those of the sums, no claim covers"
    resolution = RESOLUTIONS[here.dtype]
    failure = resolution.failure_within(coordinates=here.dimension, steps=card.config.steps)
    return (
        f"{here.dtype}, within {at_most(resolution.error, 2)} standard deviations of normals in all {here.dimension} "
        f"coordinates of all steps, but with probability {at_most(failure, 2)}: ε holds for readers of no finer "
        f"digits, and what last digits of noise and sums tell is not covered{count}"
    )


def _sums(card: PrivacyCard) -> str:
    """Return what of the sums is not as accountants take it: one unit more or less moves them by the bound at most."""
    unit, here = card.config.unit, card.circumstances
    if isinstance(card.config.noise, (RoundedGaussian, LatticeGaussian)):
        exactly = f"which one {unit} moves by at most the bound, exactly{_masks(card)}"
        return f"none: whole numbers, made of each {unit} alone, {exactly}"
    roundoff = "2^-24" if here.dtype == "float32" else "2^-53"
    kept = f"what each {unit} adds keeps the bound in floats; adding up rounds, by {roundoff} of each sum on the way"
    if here.alone:
        alone = f"each {unit} goes alone, and no other moves its gradient{_masks(card)}"
        return f"{kept}, which ε does not cover; {alone}{_forms(card)}"
    return (
        f"{kept}, and gradients that are computed together round otherwise beside others, by last digits of what they "
        f"are made of, a larger share of those that nearly cancel: ε covers neither{_forms(card)}"
    )


def _forms(card: PrivacyCard) -> str:
    """Return in which forms convolutions had gradients of examples, which round otherwise, nothing without any."""
    forms, told = dict(card.circumstances.forms), {COLUMNS: "columns", GROUPED: "grouped convolutions"}
    named = {form: ", ".join(repr(name) for name in forms if forms[name] == form) for form in told}
    parts = [f"{told[form]} for {names}" for form, names in named.items() if names]
    return f"; gradients of convolutions came from {' and from '.join(parts)}" if parts else ""


def _masks(card: PrivacyCard) -> str:
    """Return by what one unit still moves what others add: layers draw for the units of a step in turn."""
    unit = card.config.unit
    return f", but by what layers draw after it: one {unit} more gives others other masks" * _layers_draw(card)


def _layers_draw(card: PrivacyCard) -> bool:
    return card.circumstances.layers_draw is True


def _randomness(card: PrivacyCard) -> str:
    return f"{_of_noise(card)}; {LAYERS[card.circumstances.layers_draw]}"


def _of_noise(card: PrivacyCard) -> str:
    here = card.circumstances
    if card.reproducible:
        return "AES-CTR under a key that was given: reproducible, not private"
    shared = f", shared by {here.ranks} processes" if here.ranks > 1 else ""
    kept = ", in a file of its owner's until the run is complete" if here.checkpointed else ""
    return f"AES-CTR under a key drawn from the operating system{shared}{kept}; whoever has it can take the noise away"


def _not_accounted(card: PrivacyCard) -> str:
    if card.not_accounted is None:
        return "not stated: tuning, preprocessing and other runs on these records would add to ε"
    return "; ".join(card.not_accounted) or "nothing, as the operator states"


def _versions(card: PrivacyCard) -> str:
    """Return what computed the run, and by which way its sums."""
    ways = {
        None: "not stated whether sums and noise were compiled",
        False: "sums and noise not compiled",
        True: "clipped sums, and noise where it is of independent float32, compiled by torch's inductor",
    }
    names = ", ".join(f"{name} {version}" for name, version in dict(card.versions).items())
    return f"{names}; {ways[card.circumstances.compiled]}"


def _cell(text: str) -> str:
    """Return text that stays within one cell, whatever it holds."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
