"""A training step as one CUDA graph.

Launching the kernels of a small model one by one takes more time than running them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WARM_UP_STEPS = 3
"""Number of steps before the capture. In these, torch compiles and libraries allocate their
workspaces."""


class CapturedStep:
    """A step on batches of one shape, recorded once and then replayed."""

    def __init__(
        self, take_step: Callable[[Tensor], Tensor], ids_BL: Tensor, state: Sequence[Tensor]
    ) -> None:
        """Record a step.

        No other thread may use the GPU meanwhile.

        Args:
            take_step: takes token ids, changes the tensors of `state`, and returns the loss. It
                must not wait for the GPU.
            ids_BL: token ids of any batch with the shape of the later ones, on the GPU.
            state: everything that a step changes; restored after the steps of the warm-up.
        """
        import torch

        self._ids_BL = ids_BL.clone()
        saved = [tensor.detach().clone() for tensor in state]
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side), warnings.catch_warnings():
            # The optimizer warns about steps that are not captured, such as these.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            for _ in range(WARM_UP_STEPS):
                take_step(self._ids_BL)
        current.wait_stream(side)
        with torch.no_grad():
            for tensor, before in zip(state, saved, strict=True):
                tensor.copy_(before)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = take_step(self._ids_BL)

    def replay(self, ids_BL: Tensor) -> Tensor:
        """Take a step on these token ids; return the loss, on the device."""
        self._ids_BL.copy_(ids_BL, non_blocking=True)
        self._graph.replay()
        return self._loss.clone()
