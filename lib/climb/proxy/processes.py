"""The processes that train one model together: each computes a part of every batch.

Every process has the whole model, and computes the gradients of its own sequences. Their sums over
all processes are the gradients of the batch, so all processes take the same step of the optimizer.

    with join_processes("gloo"):                # torch.distributed; see climb.spark.training
        processes = find_processes(run)
        first, stop = processes.split(0, 16)    # the sequences of this process
        loss = processes.sum_gradients(model.parameters(), loss)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from climb.errors import InfrastructureError, one_line
from climb.proxy import ProxyRun
from climb.proxy.language_model import is_memory_error

if TYPE_CHECKING:
    from torch import Tensor

Backend = Literal["gloo", "nccl"]
"""Library of torch that sums over processes: gloo on CPUs, nccl on GPUs."""

BUCKET_ELEMENTS = 2**24
"""Maximum values that are summed in one call (64 MiB in float32); a tensor may be larger."""

TIMEOUT = timedelta(days=1)
"""Longest time that a process waits for another one. It is long because the other process may be
evaluating the model. A lost process ends the wait at once, and `proxy.hung_minutes` ends a run that
hangs."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, from the view of one of them."""

    rank: int = 0
    """Number of this process, from 0. The first one writes checkpoints, and measures the model."""

    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def split(self, first: int, stop: int) -> tuple[int, int]:
        """Return this process's part of the sequences from first to stop - 1; it may be empty."""
        n = stop - first
        return first + n * self.rank // self.count, first + n * (self.rank + 1) // self.count

    def sum_gradients(self, parameters: Iterable[Any], loss: Tensor) -> Tensor:
        """Replace the gradients by their sums over all processes.

        Args:
            parameters: parameters of the model; a missing gradient counts as zero.
            loss: loss of the sequences of this process.

        Returns:
            The sum of the losses of all processes.

        Raises:
            InfrastructureError: another process was lost.
        """
        import torch

        if self.count == 1:
            return loss
        total = loss.detach().reshape(1).clone()
        tensors = [total]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            tensors.append(parameter.grad)
        for bucket in _fill_buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with _convert_lost_process():
                torch.distributed.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, sums, strict=True):
                tensor.copy_(part.view_as(tensor))
        return total[0]

    def share(self, value: int, device: Any) -> int:
        """Return the value of the first process.

        Raises:
            InfrastructureError: another process was lost.
        """
        import torch

        if self.count == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.int64, device=device)
        with _convert_lost_process():
            torch.distributed.broadcast(tensor, 0)
            return int(tensor.item())

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch for a step, so that dropout differs between processes.

        A resumed run draws the same numbers as an uninterrupted one. A run of one process keeps its
        random state in its checkpoints instead.
        """
        import torch

        if self.count > 1:
            name = hashlib.sha256(f"{seed} {step} {self.rank}".encode()).digest()
            torch.manual_seed(int.from_bytes(name[:7], "big"))


ALONE = Processes()
"""A run of one process, which needs no torch.distributed."""


def find_processes(run: ProxyRun) -> Processes:
    """Return the processes of a run. If there are several, call `join_processes` first."""
    if run.processes == 1:
        return ALONE
    import torch.distributed as dist

    assert dist.is_initialized(), "a run of several processes starts with join_processes"
    processes = Processes(dist.get_rank(), dist.get_world_size())
    assert processes.count == run.processes, (processes.count, run.processes)
    return processes


@contextlib.contextmanager
def join_processes(backend: Backend) -> Iterator[int]:
    """Join the processes of a run, and yield the number of this one.

    Environment variables describe the processes: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    Raises:
        InfrastructureError: another process did not join, or was lost.
    """
    import torch.distributed as dist

    with _convert_lost_process(), _hide_output():
        dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def _fill_buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors in order; a group has at most BUCKET_ELEMENTS values, or one larger tensor."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    yield bucket


@contextlib.contextmanager
def _hide_output() -> Iterator[None]:
    """Hide what gloo writes to the standard output, which is the run log of the driver."""
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@contextlib.contextmanager
def _convert_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_memory_error(error):
            raise
        raise InfrastructureError(
            f"another process of the run was lost: {one_line(error)}"
        ) from error
