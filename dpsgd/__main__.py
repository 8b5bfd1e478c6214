"""The command line: `python -m dpsgd train` trains privately on a public dataset, by one process or under torchrun.

Exit codes: 0 done; 1 a bug; 2 bad input, an unsupported process, or a file that is not there; 4 numerical failure; 130
interrupted. Errors are one line on stderr.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dpsgd.config import DPSGD
from mechanisms import InvalidParameter, KeyedSource, SystemSource
from mechanisms.core import command_line, validate
from mechanisms.core.documents import document_text
from mechanisms.core.files import check_writable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
CHECKPOINT, CONFIG = "checkpoint.safetensors", "config.json"


@app.callback()
def main() -> None:
    """Train models with differential privacy.

    Exit codes: 0 done; 1 a bug; 2 bad input, an unsupported process, or a file that is not there; 4 a numerical
    failure; 130 interrupted.
    """


@app.command()
def train(
    data: Annotated[str, typer.Option(help="digits, fashion_mnist or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, else $DPCALIPERS_DATA.")] = None,
    model: Annotated[str, typer.Option(help="linear or mlp.")] = "mlp",
    hidden: Annotated[int, typer.Option(help="Width of the hidden layer of mlp.")] = 64,
    epsilon: Annotated[float | None, typer.Option(help="Privacy budget ε; 3 unless given.")] = None,
    delta: Annotated[float, typer.Option(help="δ of the budget and of the ε reported.")] = 1e-5,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Instead: passes in expectation; 20 unless given.")] = None,
    expected_batch_size: Annotated[float | None, typer.Option(help="Of Poisson samples; 256 unless given.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Clipping norm; 1 unless given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="2 unless given.")] = None,
    config: Annotated[Path | None, typer.Option(help="A config.json, instead of budget, steps and rates.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the run reproducible, and so not private.")] = None,
    out: Annotated[Path, typer.Option(help="Where weights, privacy card and config.json go.")] = Path("trained"),
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps from one checkpoint to the next.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there.")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compile clipped sums, on the CPU.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a model privately, print its ε and its accuracy on public test records; write weights and privacy card."""
    own = {
        "epsilon": epsilon,
        "steps": steps,
        "epochs": epochs,
        "expected_batch_size": expected_batch_size,
        "max_grad_norm": max_grad_norm,
        "learning_rate": learning_rate,
    }
    _check_out(out, resume)
    settings = _settings(config, own, data=data, delta=delta)
    _check_config(out, settings)
    seed = None if seed is None else validate.count("train", "seed", seed)
    import torch

    from dpsgd.checkpoint import Checkpoint
    from dpsgd.core import job
    from dpsgd.datasets import load

    network = job.model_of(model, data=data, hidden=hidden)
    records, public = load(data, directory=data_dir)
    every = 100 if checkpoint_every is None else checkpoint_every
    kept = resume or checkpoint_every is not None
    torch.set_num_threads(1)  # sums would depend on their number, and a run is to end the same wherever it is resumed
    found = job.run(
        network,
        records,
        public,
        settings,
        randomness=SystemSource() if seed is None else KeyedSource(seed),
        initialisation_seed=seed or 0,
        checkpoint=Checkpoint(path=out / CHECKPOINT, every=every) if kept else None,
        compiled=compiled,
        device=device,
        out=out,
        delta=delta,
    )
    if found is not None:
        job.print_found(found, delta=delta, out=out)


def _check_out(out: Path, resume: bool) -> None:
    check_writable("train", out)
    if (out / CHECKPOINT).exists():
        if not resume:
            raise InvalidParameter(
                f"train: --resume must be given to go on from the checkpoint in {out}; without it name another --out."
            )
        return
    from dpsgd.core import job

    left = [name for name in (job.WEIGHTS, *job.CARDS) if (out / name).exists()]
    if left:
        raise InvalidParameter(f"train: --out must hold no other run, got {out} with {left[0]}: name another --out.")


def _check_config(out: Path, settings: DPSGD) -> None:
    """Refuse to write over a configuration that this run did not leave: audits leave a file of the same name.

    Of a run that is resumed, its checkpoint tells what it is.

    Raises:
        InvalidParameter: naming the file.
    """
    path = out / CONFIG
    if not path.exists():
        return
    with contextlib.suppress(InvalidParameter, OSError, UnicodeDecodeError):
        if DPSGD.from_json(path.read_text(encoding="utf-8")) == settings or (out / CHECKPOINT).exists():
            return
    raise InvalidParameter(
        f"train: --out must hold no other {CONFIG} than of this run, got {path}: name another --out."
    )


def _settings(path: Path | None, own: dict[str, Any], *, data: str, delta: float) -> DPSGD:
    """Return the configuration in the file or, without one, the one calibrated for what was asked."""
    given = {name: value for name, value in own.items() if value is not None}
    if path is not None:
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InvalidParameter(f"train: with --config {options} must be left out: the file says it.")
        return DPSGD.from_json(document_text("train", path))
    from dpsgd.core import job

    defaults = {"epsilon": 3.0, "expected_batch_size": 256, "max_grad_norm": 1.0, "learning_rate": 2.0}
    return job.for_data(data, delta=delta, **{"steps": None, "epochs": None, **defaults, **given})


if __name__ == "__main__":
    sys.exit(command_line.run(app))
