"""The processes of one run: each sums the clipped gradients of its share of a batch, and the noise is added once.

Every rank holds the whole dataset, which a digest under the key tells, as in another order a record could be drawn by
two of them, and draws the same rows from the same key. Rank r of k takes every k-th of them from
the r-th on; the sums are added over the ranks, each rank adds the one noise of the step, and all go on with the result
of the first, bit for bit, so that machines that round differently cannot drift apart.

Clipped sums travel between the ranks before noise, and once, from the first, a secret key: neither gloo nor nccl
encrypts them. The network between the ranks must be one that nobody else can read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from dpsgd.core.batches import Rows
from dpsgd.core.population import Population
from mechanisms import InvalidParameter
from mechanisms.core import validate

FAILED = 2.0**32
"""More than ranks that ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those of the run.

    Args:
        rank: its number, from 0.
        count: of processes; 1 talks to nobody.
        device: where tensors must lie that are sent.
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def present(cls, *, device: torch.device) -> Ranks:
        """Return this process among those of torch.distributed's default group, or alone.

        Raises:
            InvalidParameter: if torchrun has started this process and there is no group: every process would train on
                all records by itself, and all their results together would cost the sum of their ε. Or if the group
                cannot send what lies on the device.
        """
        if distributed.is_available() and distributed.is_initialized():
            present = cls(rank=distributed.get_rank(), count=distributed.get_world_size(), device=device)
            if present.count > 1:
                _check_backend(device)
            return present
        if distributed.is_available() and distributed.is_torchelastic_launched():
            raise InvalidParameter(
                "train: the process group must be initialised under torchrun, and is not: every process would train "
                "by itself.\nCall torch.distributed.init_process_group(...) first."
            )
        return cls(rank=0, count=1, device=device)

    @property
    def first(self) -> bool:
        """Whether this is the rank that keeps files."""
        return self.rank == 0

    def share(self, population: Population) -> Population:
        """Return the same population, the sum over whose rows is worked out by all ranks together."""
        if self.count == 1:
            return population

        def sum_of(rows: Rows, position: int) -> Tensor:
            total = population.clipped_sum(rows[self.rank :: self.count], position)
            distributed.all_reduce(total)
            return total

        return Population(units=population.units, clipped_sum=sum_of)

    def added(self, value: float) -> float:
        """Return the sum of a number over all ranks: of multiples of 1/2, exactly."""
        if self.count == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total)

    def any(self, asks: Callable[[], bool]) -> bool:
        """Return whether any rank asks, on every rank.

        Raises:
            InvalidParameter: if `asks` ended with an error on another rank, which would otherwise be waited for.
        """
        if self.count == 1:
            return asks()
        try:
            own = float(asks())
        except BaseException:
            self.added(FAILED)
            raise
        total = self.added(own)
        if total >= FAILED:
            raise InvalidParameter("train: callbacks must not fail on any rank, and one did on another: see its error.")
        return total > 0

    def agree(self, values: Tensor) -> None:
        """Put the first rank's values in the place of every other's."""
        if self.count > 1:
            distributed.broadcast(values, src=0)

    def from_first(self, content: bytes) -> bytes:
        """Return the first rank's bytes."""
        if self.count == 1:
            return content
        length = torch.tensor([len(content)], device=self.device)
        self.agree(length)
        if not length:
            return b""
        sent = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.first:
            sent.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self.agree(sent)
        return sent.cpu().numpy().tobytes()

    def check_same(self, text: str, *, what: str) -> None:
        """Refuse, on every rank, what is not the same on all of them.

        Raises:
            InvalidParameter: naming `what`.
        """
        if self.count == 1:
            return
        own = torch.frombuffer(bytearray(hashlib.blake2b(text.encode()).digest()), dtype=torch.uint8).to(self.device)
        all_ = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(all_, own)
        if any(not torch.equal(other, own) for other in all_):
            raise InvalidParameter(f"train: {what} must be the same on every rank, and is not.")


def _check_backend(device: torch.device) -> None:
    backends = distributed.get_backend_config()  # such as cpu:gloo,cuda:nccl
    if device.type not in {pair.partition(":")[0] for pair in backends.split(",")}:
        raise InvalidParameter(
            f"train: the process group must send tensors of {device.type}, where the model lies, got {backends}.\n"
            "nccl sends those of CUDA alone: write model.to(torch.device('cuda', local_rank)). gloo sends both."
        )


@contextlib.contextmanager
def joined(kind: str) -> Iterator[torch.device]:
    """Return a context in which processes that torchrun started are ranks of one group, and the device of this one.

    Args:
        kind: "cpu", whose ranks talk by gloo, or "cuda", one device for each rank of a machine, by nccl.

    Raises:
        InvalidParameter: if there is no such device, or torch was built without nccl and there are ranks.

    >>> with joined("cpu") as device:
    ...     Ranks.present(device=device).count
    1
    """
    kind = validate.choice("train", "device", kind, ("cpu", "cuda"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidParameter("train: device must be 'cpu' where torch finds no CUDA, got 'cuda'.")
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    device = torch.device("cpu")
    if kind == "cuda":
        device = _own_device(distributed.get_node_local_rank() if launched else 0, launched=launched)
        torch.cuda.set_device(device)
    if not launched:
        yield device
        return
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _own_device(number: int, *, launched: bool) -> torch.device:
    """Return the CUDA device of the process of that number on its machine."""
    devices = torch.cuda.device_count()
    if number >= devices:
        raise InvalidParameter(
            f"train: every process of a machine must have a CUDA device of its own, got number {number} of {devices}.\n"
            f"Write torchrun --nproc-per-node={devices}."
        )
    if launched and not distributed.is_nccl_available():
        raise InvalidParameter("train: device must be 'cpu' for ranks where torch was built without nccl, got 'cuda'.")
    return torch.device("cuda", number)
