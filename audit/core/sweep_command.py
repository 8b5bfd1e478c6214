"""The command `python -m audit sweep`: the main job for many configurations, on many cores or machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit.core.jobs import Job
from audit.core.run_config import RunConfig
from audit.sweeps import BACKENDS, PATIENCE, REPORT, MainJob
from audit.sweeps import sweep as swept
from mechanisms.core import validate


def sweep(
    configs: Annotated[list[Path], typer.Argument(help="Files like the config.json of `run`, one for each audit.")],
    seeds: Annotated[int | None, typer.Option(help="Run each under seeds 0 to this − 1, not its own.")] = None,
    backend: Annotated[str, typer.Option(help=f"{' or '.join(BACKENDS)}.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="Address of the Dask scheduler, tcp://host:port.")] = None,
    workers: Annotated[int, typer.Option(help="Processes of this machine, −1 for all cores.")] = -1,
    patience: Annotated[float, typer.Option(help="Seconds a scheduler may be silent, or have no workers.")] = PATIENCE,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, else $DPCALIPERS_DATA.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results; one that was used before goes on.")] = Path("sweep"),
) -> None:
    """Audit many runs, keep every result as it comes, and gather them; a killed sweep goes on.

    Exit code 3 says that some verdict was violated or refuted; if a job failed or a trainer was at fault, it is 1, 4 or
    2, as that job alone would give.
    """
    given = [RunConfig.read(path) for path in configs]
    if seeds is not None:
        validate.count("sweep", "seeds", seeds, least=1)
        given = [replace(config, seed=seed) for config in given for seed in range(seeds)]
    jobs = [Job(run=MainJob(directory=data_dir), config=config) for config in given]
    found = swept(
        jobs, folder=out, backend=backend, scheduler=scheduler, workers=workers, patience=patience, progress=True
    )
    print(f"{found.summary}\nwrote {out / REPORT}")
    if found.exit_status:
        raise typer.Exit(found.exit_status)
