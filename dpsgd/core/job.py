"""What the command line trains: public data, a model, a configuration, and the files that are left of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from accountant import available
from dpsgd.card import PrivacyCard
from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.core.ranks import Ranks, joined
from dpsgd.core.saved import Saved
from dpsgd.datasets import Dataset
from dpsgd.models import mlp
from dpsgd.training import TrainResult, train
from mechanisms import InvalidParameter, Poisson, Source, UnsupportedProcess
from mechanisms.core import validate
from mechanisms.core.command_line import Interrupted, at_most
from mechanisms.core.counting import drawing
from mechanisms.core.files import write_atomically
from mechanisms.core.process import Adjacency

RECORDS = {"digits": 1_438, "fashion_mnist": 60_000, "mnist": 60_000}
"""Published numbers of training records, which sampling probabilities come from: never those of a dataset at hand."""
PIXELS = {"digits": 64, "fashion_mnist": 784, "mnist": 784}
CLASSES = 10
MODELS = ("linear", "mlp")
WEIGHTS, CARDS = "weights.safetensors", ("card.json", "card.md")
PUBLIC = "nothing; test records, which are public, are looked at after the last step alone"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a run has come to.

    Args:
        result: the model and what it cost.
        card: of the run.
        accuracy: on public test records, in [0, 1].
    """

    result: TrainResult
    card: PrivacyCard
    accuracy: float


def model_of(name: str, *, data: str, hidden: int) -> nn.Module:
    """Return a model for one of the datasets: softmax regression, or with a hidden layer before it.

    >>> model_of("mlp", data="digits", hidden=96)[0]
    Linear(in_features=64, out_features=96, bias=True)
    """
    widths = (validate.count("train", "hidden", hidden, least=1),)
    name, data = validate.choice("train", "model", name, MODELS), validate.choice("train", "data", data, tuple(PIXELS))
    return mlp(PIXELS[data], widths if name == "mlp" else (), CLASSES)


def for_data(
    data: str,
    *,
    epsilon: float,
    delta: float,
    steps: int | None,
    epochs: float | None,
    expected_batch_size: float,
    max_grad_norm: float,
    learning_rate: float,
) -> DPSGD:
    """Return the configuration with the least noise within the budget, on Poisson samples of one of the datasets.

    Args:
        data: its name.
        epsilon: budget, > 0, for neighbours by "add_remove".
        delta: in (0, 1).
        steps: number of steps, or None.
        epochs: instead, how often a record takes part in expectation; 20 where both are None.
        expected_batch_size: of samples, at most the published number of records.
        max_grad_norm: see `DPSGD`.
        learning_rate: see `DPSGD`.

    Raises:
        InvalidParameter: if a value breaks its rule, or both steps and epochs are given.
    """
    records = RECORDS[validate.choice("train", "data", data, tuple(RECORDS))]
    size = validate.positive("train", "expected_batch_size", expected_batch_size)
    if size > records:
        raise InvalidParameter(f"train: expected_batch_size must be at most {records} for {data}, got {size:g}.")
    if steps is not None and epochs is not None:
        raise InvalidParameter(f"train: one of steps and epochs must be left out, got {steps} and {epochs}.")
    if steps is None:
        passes = validate.positive("train", "epochs", 20 if epochs is None else epochs)
        steps = max(1, round(passes * records / size))
    return DPSGD.for_budget(
        epsilon=epsilon,
        delta=delta,
        max_grad_norm=max_grad_norm,
        sampling=Poisson(probability=size / records),
        expected_batch_size=size,
        steps=steps,
        learning_rate=learning_rate,
    )


def run(
    model: nn.Module,
    records: Dataset,
    public: Dataset,
    config: DPSGD,
    *,
    randomness: Source,
    initialisation_seed: int,
    checkpoint: Checkpoint | None,
    compiled: bool,
    device: str,
    out: Path,
    delta: float,
) -> Outcome | None:
    """Train, write config.json, weights.safetensors, card.json and card.md, and return the outcome.

    The first rank alone writes and returns something, once the last step is taken: a run that is refused or killed
    leaves no file that would stand beside those of another. Nothing is trained whose price has no theorem.

    Args:
        model: what to train.
        records: the private records.
        public: test records, which are not private.
        config: what to run.
        randomness: see `train`.
        initialisation_seed: see `train`.
        checkpoint: see `train`.
        compiled: see `train`.
        device: see `joined`.
        out: folder of the files; it is made.
        delta: of the card's ε.

    Raises:
        Interrupted: on the first rank, if the user interrupts the run: it says what is left of it.
    """
    adjacency = neighbours_of(config)
    with joined(device) as place:
        first = Ranks.present(device=place).first
        if first:
            out.mkdir(parents=True, exist_ok=True)
        with _told(checkpoint, config, first=first):
            result = train(
                model.to(place),
                _moved(records, place),
                config,
                loss=nn.CrossEntropyLoss(reduction="none"),
                randomness=randomness,
                initialisation_seed=initialisation_seed,
                checkpoint=checkpoint,
                compiled=compiled,
                progress=first and sys.stderr.isatty(),
            )
            if not first:
                return None
            card = result.card(delta=delta, adjacency=adjacency, public_data=PUBLIC)
            write_atomically(out / "config.json", f"{config.to_json()}\n".encode())
            write_weights(out / WEIGHTS, result, config)
            for name in CARDS:
                card.save(out / name)
            return Outcome(result=result, card=card, accuracy=accuracy(result.model, _moved(public, place)))


@contextlib.contextmanager
def _told(checkpoint: Checkpoint | None, config: DPSGD, *, first: bool) -> Iterator[None]:
    """Return a context in which the first rank, if the user interrupts it, says what is left of the run."""
    try:
        yield
    except KeyboardInterrupt:
        if not first:
            raise
        raise Interrupted(f"train: interrupted: {_left(checkpoint, config)}") from None


def _left(checkpoint: Checkpoint | None, config: DPSGD) -> str:
    """Return in words what is left of a run that was interrupted, and how it goes on."""
    if checkpoint is None:
        return "the run kept nothing to go on from. With --checkpoint-every one does."
    content = checkpoint.read()
    if not content:
        return "no step was taken. The same command begins anew."
    taken = Saved.from_bytes(content, name=str(checkpoint.path)).steps_taken
    return f"{checkpoint.path} holds the run after {taken} of {config.steps} steps. With --resume it goes on."


def neighbours_of(config: DPSGD) -> str:
    """Return the first of add_remove, replace_one and zero_out for which the run can be priced.

    Raises:
        UnsupportedProcess: if there is none.

    >>> from mechanisms import FixedSize
    >>> neighbours_of(DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=FixedSize(batch_size=2, records=9),
    ...                     expected_batch_size=2, steps=1, learning_rate=1.0))
    'replace_one'
    """
    process = config.process()
    declared = any(getattr(node.sampling, "records", None) is not None for node in drawing(process))
    for adjacency in Adjacency:
        shown = declared and adjacency is Adjacency.ADD_REMOVE
        if not shown and available()["tightest"]().supports(process, adjacency):
            return adjacency.value
    raise UnsupportedProcess(f"train: config must have a theorem for its price, and there is none for {process!r}.")


def stamp(result: TrainResult) -> str:
    """Return in words whether others may know the noise."""
    return "reproducible: not private" if result.reproducible else "drawn by the operating system, known to nobody"


def print_found(found: Outcome, *, delta: float, out: Path) -> None:
    """Print what a run has cost, how good its model is, and where its card lies."""
    claim = found.card.claim
    print(f"ε           at most {at_most(float(claim.upper))} at δ = {delta:g}, {claim.adjacency} neighbours")
    print(f"accuracy    {found.accuracy:.4f} on public test records")
    print(f"randomness  {stamp(found.result)}")
    print(f"card        {out / 'card.md'}")


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset) -> float:
    """Return which share of the records the model puts into the class that they belong to; on public records only.

    >>> accuracy(nn.Identity(), Dataset(features=torch.eye(2), targets=torch.tensor([0, 0])))
    0.5
    """
    guesses = model.eval()(data.features).argmax(1)
    return float((guesses == data.targets).double().mean())


def _moved(data: Dataset, device: torch.device) -> Dataset:
    """Return the records on a device."""
    return Dataset(features=data.features.to(device), targets=data.targets.to(device))


def write_weights(path: Path, result: TrainResult, config: DPSGD) -> None:
    """Write the weights in safetensors' format; its header says by which configuration and what noise they came."""
    weights = {name: value.detach().cpu().contiguous() for name, value in result.model.state_dict().items()}
    write_atomically(path, save(weights, {"config": config.to_json(), "randomness": stamp(result)}))
