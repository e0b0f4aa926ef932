"""Read the batches of a run; for a GPU, a thread reads them ahead into pinned memory."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from climb.errors import ComponentError
from climb.proxy.data import Stream
from climb.proxy.processes import ALONE, Processes

if TYPE_CHECKING:
    from torch import Tensor

AHEAD = 3
"""Number of batches that are read ahead for a GPU."""


class Batches:
    """The batches of a stream, by step."""

    def __init__(
        self,
        stream: Stream,
        batch: int,
        n_ids: int,
        tokenizer: str,
        device: Any,
        processes: Processes = ALONE,
    ) -> None:
        """Prepare reading. For a GPU, the first call of `read` starts a thread.

        Args:
            stream: S sequences of L tokens.
            batch: sequences per step; the last step may have fewer.
            n_ids: number of token ids of the tokenizer.
            tokenizer: path of the tokenizer, for error messages.
            device: torch device that the batches are for.
            processes: the sequences of a step are divided among them.
        """
        self._stream, self._batch, self._n_ids = stream, batch, n_ids
        self._tokenizer, self._device, self._processes = tokenizer, device, processes
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        return -(-len(self._stream) // self._batch)

    def read(self, step: int) -> Tensor:
        """Return this process's token ids of a step (counted from 0), on the device.

        They are int64 of shape (B, L); B may be 0 if there are several processes.

        Raises:
            ComponentError: a shard contains a token id that the tokenizer does not have.
        """
        if self._device.type != "cuda":
            return self._prepare(step)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1)
        for ahead in range(step, min(step + 1 + AHEAD, len(self))):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._pool.submit(self._prepare, ahead)
        ids_BL = self._waiting.pop(step).result()
        return ids_BL.to(self._device, non_blocking=True)

    def count_sequences(self, step: int) -> int:
        """Count the sequences of a step over all processes."""
        first, stop = self._find_bounds(step)
        return stop - first

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._waiting = None, {}

    def _prepare(self, step: int) -> Tensor:
        """Read and check a batch; for a GPU, copy it into pinned memory."""
        import torch

        ids_BL = self._stream.read_batch(*self._processes.split(*self._find_bounds(step)))
        if ids_BL.max(initial=0) >= self._n_ids:
            raise ComponentError(
                f"step {step + 1}: a shard contains token id {ids_BL.max()}, but the largest id "
                f"of {self._tokenizer} is {self._n_ids - 1}; run `climb pack` again"
            )
        ids = torch.from_numpy(ids_BL)
        if self._device.type != "cuda":
            return ids
        with torch.cuda.device(self._device):
            return ids.pin_memory()

    def _find_bounds(self, step: int) -> tuple[int, int]:
        first = step * self._batch
        return first, min(first + self._batch, len(self._stream))
