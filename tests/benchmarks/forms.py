"""The table of `dpsgd.core.convolutions`: what both forms of gradients take, for convolutions of several shapes.

python -m tests.benchmarks.forms [--tries N]
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from dpsgd.core.tuning import MOST_EXAMPLES, seconds_of

CASES = (
    (1, 16, 8, 2, 3, 28),
    (1, 8, 5, 1, 0, 28),
    (3, 32, 3, 1, 1, 32),
    (16, 32, 4, 2, 0, 13),
    (32, 32, 3, 1, 1, 32),
    (32, 64, 3, 1, 1, 16),
    (64, 64, 1, 1, 0, 16),
    (64, 128, 3, 1, 1, 8),
    (128, 128, 3, 1, 1, 8),
)
"""Channels in and out, width of the kernel, stride, padding and width of the image."""
ROW = "{:<12}{:<9}{:<8}{:<9}{:<6}{:>8}{:>11}"


@torch.no_grad()
def row(case: tuple[int, ...], tries: int) -> str:
    """Return one line of the table, in milliseconds of this thread."""
    inside, outside, kernel, stride, padding, width = case
    layer = nn.Conv2d(inside, outside, kernel, stride=stride, padding=padding)
    inputs = torch.randn(MOST_EXAMPLES, inside, width, width)
    taken = seconds_of(layer, inputs, torch.randn_like(layer(inputs)), tries=tries)
    columns, grouped = (f"{1e3 * taken[form]:.2g}" for form in ("columns", "grouped"))
    return ROW.format(
        f"{inside} -> {outside}", f"{kernel} x {kernel}", stride, padding, width, columns, grouped
    ).rstrip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.forms")
    parser.add_argument("--tries", type=int, default=9, help="of each form, in turns")
    tries = parser.parse_args(arguments).tries
    if tries < 1:
        parser.error(f"--tries must be at least 1, got {tries}.")
    torch.set_num_threads(1)
    print(ROW.format("channels", "kernel", "stride", "padding", "size", "columns", "grouped"))
    for case in CASES:
        print(row(case, tries), flush=True)


if __name__ == "__main__":
    main()
