"""A step of the optimizer on a batch, in micro-batches that fit into memory.

Axes: B sequences of a batch, L tokens of a sequence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from climb.proxy.captured import CapturedStep
from climb.proxy.gradients import GradientModel
from climb.proxy.language_model import is_memory_error
from climb.proxy.processes import ALONE, Processes
from climb.proxy.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class Updater:
    """Takes the steps of a run: gradients of a batch, clipping, AdamW."""

    micro_batch: int
    """Sequences of a forward and backward pass."""

    def __init__(
        self, recipe: Recipe, model: Any, may_halve: bool, processes: Processes = ALONE
    ) -> None:
        """Create the optimizer.

        Args:
            recipe: optimizer and arithmetic.
            model: a transformers causal language model in float32, on its device.
            may_halve: whether a batch for which memory runs out is computed in smaller
                micro-batches; otherwise the error is raised.
            processes: the processes that share the batch; their gradients are added up.
        """
        import torch

        self._recipe, self._model, self._may_halve = recipe, model, may_halve
        self._is_cuda, self._processes = model.device.type == "cuda", processes
        n_rows = -(-recipe.batch // processes.count)
        self._planned = min(recipe.micro_batch or n_rows, n_rows)
        self.micro_batch = self._planned
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._numerics = recipe.resolve_numerics(model)
        if processes.count > 1 and self._numerics.compile == "step":
            # No CUDA graph: it would contain sums over processes, which wait for each other.
            self._numerics = replace(self._numerics, compile="layers")
        is_captured = self._numerics.compile == "step"
        self.optimizer = torch.optim.AdamW(
            groups, betas=(0.9, recipe.beta2), fused=True, capturable=is_captured
        )
        # A tensor, since a CUDA graph would record the value of a number.
        self._rate = torch.zeros((), device=model.device)
        self._gradients = GradientModel(model, self._numerics)
        self._captured: CapturedStep | None = None
        self._place_rate()

    def prepare(self, length: int) -> None:
        """Compile the model, and capture the step, if the arithmetic requires either.

        Call this before the first step. No other thread may use the GPU meanwhile.

        Args:
            length: L.
        """
        import torch

        self._gradients.compile((self.micro_batch, length))
        if self._numerics.compile != "step" or self._captured is not None:
            return
        ids_BL = torch.zeros(
            (self._recipe.batch, length), dtype=torch.int64, device=self._model.device
        )
        # If memory runs out here, the micro-batch is halved.
        self._compute_gradients(ids_BL, len(ids_BL))
        self._create_optimizer_state()
        state = [*self._model.parameters(), *self._list_optimizer_tensors()]
        self._captured = CapturedStep(self._take, ids_BL, state)
        self._gradients.refresh()

    def take(
        self,
        ids_BL: Tensor,
        rate: float,
        n_sequences: int | None = None,
        weights_B: Tensor | None = None,
    ) -> Tensor:
        """Take a step.

        Args:
            ids_BL: token ids of this process, shape (B, L), on the model's device.
            rate: learning rate.
            n_sequences: sequences of the batch, of all processes; None: B.
            weights_B: factor of the loss of each sequence, shape (B,); None: 1.

        Returns:
            The mean next-token loss before the step in nats, on the device.
        """
        if self._is_cuda:
            self._rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        is_whole = len(ids_BL) == self._recipe.batch
        if self._captured is not None and is_whole and weights_B is None:
            return self._captured.replay(ids_BL)
        return self._take(ids_BL, n_sequences, weights_B)

    @property
    def is_halved(self) -> bool:
        """Whether memory ran out and the micro-batch is smaller than the recipe's."""
        return self.micro_batch < self._planned

    def load(
        self, model: Mapping[str, Any], optimizer: dict[str, Any], micro_batch: int | None
    ) -> None:
        """Load the states of a checkpoint; to be called before the first step is taken.

        Args:
            model: state of the model.
            optimizer: state of the optimizer.
            micro_batch: sequences of a micro-batch if it was halved, else None.
        """
        self._model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.micro_batch = micro_batch or self._planned
        self._captured = None
        self._place_rate()
        self._gradients.refresh()

    def _place_rate(self) -> None:
        if self._is_cuda:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate

    def _take(
        self, ids_BL: Tensor, n_sequences: int | None = None, weights_B: Tensor | None = None
    ) -> Tensor:
        import torch

        loss = self._compute_gradients(ids_BL, n_sequences or len(ids_BL), weights_B)
        loss = self._processes.sum_gradients(self._model.parameters(), loss)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.max_gradient_norm)
        self.optimizer.step()
        self._gradients.refresh()
        return loss

    def _compute_gradients(
        self, ids_BL: Tensor, n_batch: int, weights_B: Tensor | None = None
    ) -> Tensor:
        """Compute the gradients of the sequences; halve the micro-batch while memory runs out."""
        while True:
            try:
                return self._accumulate(ids_BL, n_batch, weights_B)
            except (RuntimeError, MemoryError) as error:
                n_sequences = min(self.micro_batch, len(ids_BL))
                if not (self._may_halve and n_sequences > 1 and is_memory_error(error)):
                    raise
            # Not in the except clause: there, the error keeps the tensors of the failed pass alive.
            self._halve(n_sequences, ids_BL.shape[1])

    def _accumulate(self, ids_BL: Tensor, n_batch: int, weights_B: Tensor | None) -> Tensor:
        import torch

        self._gradients.clear()
        if not len(ids_BL):
            # With bfloat16 weights, `clear` leaves the previous batch's gradients in the model, and
            # the first backward pass replaces them. Without sequences, there is no backward pass.
            self.optimizer.zero_grad()
        n_predicted = n_batch * (ids_BL.shape[1] - 1)
        total = torch.zeros((), device=ids_BL.device)
        for first in range(0, len(ids_BL), self.micro_batch):
            rows = slice(first, first + self.micro_batch)
            weights = None if weights_B is None else weights_B[rows]
            total = total + self._gradients.accumulate(ids_BL[rows], n_predicted, weights)
        return total

    def _halve(self, n_sequences: int, length: int) -> None:
        import torch

        self._gradients.clear()
        self.micro_batch = -(-n_sequences // 2)
        logger.warning(
            "memory ran out with %d sequences of %d tokens; the batch of %d sequences is now "
            "computed in micro-batches of %d, which changes the rounding of its gradients",
            *(n_sequences, length, self._recipe.batch, self.micro_batch),
        )
        if self._is_cuda:
            torch.cuda.empty_cache()
        self._gradients.compile((self.micro_batch, length))

    def _create_optimizer_state(self) -> None:
        """Create the optimizer state before the capture: a graph records addresses of tensors."""
        import torch

        for parameter in self._model.parameters():
            if not self.optimizer.state[parameter]:
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    def _list_optimizer_tensors(self) -> list[Tensor]:
        return [
            tensor
            for parameter in self._model.parameters()
            for tensor in self.optimizer.state[parameter].values()
        ]
