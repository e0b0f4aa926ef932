"""Gradients of a model, computed by a copy that is compiled or has bfloat16 weights.

The model itself stays as it is: checkpoints, evaluation and the optimizer use its float32 weights.

The decoder layers are compiled one by one: all use one graph, so compiling takes a fraction of the
time of compiling the whole model. The output layer and the loss are one function, which never
stores the probabilities of the whole vocabulary.

Axes: B sequences of a micro-batch, T tokens of a sequence, D width.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from climb.errors import ConfigError, one_line
from climb.proxy.language_model import accumulate_gradients, compute_hidden_states
from climb.proxy.numerics import CAPTURED_ARCHITECTURES, Numerics

if TYPE_CHECKING:
    from torch import Tensor

BACKEND = "inductor"
"""Backend of torch.compile."""

MAX_COMPILED_LOGITS = 2**30
"""Maximum logits of a chunk in the compiled loss: 2 GB in bfloat16, and as much for gradients."""

IGNORED = -100
"""Target of the last position of a sequence, which has no next token: torch ignores it."""

CAUSAL_ATTENTION = "climb_causal_sdpa"
"""Name under which transformers' SDPA attention is registered, so that it is used without a mask.
Building the mask would wait for the GPU in every step."""

MAX_VARIANTS = 4
"""Maximum combinations of model, shape and arithmetic whose compiled code is kept in a process.
torch keeps 8 variants of a function (`recompile_limit`). With more, it silently stops compiling,
which changes the rounding."""

_variants: list[object] = []
"""What torch has compiled in this process."""


class GradientModel:
    """Computes the gradients of a model; with a copy of the model if the arithmetic needs one."""

    def __init__(self, model: Any, numerics: Numerics) -> None:
        """Copy the model if the numerics compile it, use bfloat16 weights or recompute activations.

        Args:
            model: a transformers causal language model in float32, on its device.
            numerics: the arithmetic.

        Raises:
            ConfigError: the architecture does not support activation checkpointing.
        """
        self._numerics = numerics
        self._has_weights = numerics.precision == "bfloat16_weights"
        self._is_compiled = numerics.compile != "eager"
        self._parameters = list(model.parameters())
        self._copy = _copy_model(model, self._has_weights) if self._needs_copy else model
        self._copies = list(self._copy.parameters())
        self._shape: tuple[int, ...] | None = None
        self._loss: Any = None
        self._is_first = True
        if numerics.checkpoint_activations:
            _checkpoint_activations(self._copy)
        self.refresh()

    @property
    def _needs_copy(self) -> bool:
        return self._has_weights or self._is_compiled or self._numerics.checkpoint_activations

    def compile(self, shape: tuple[int, int]) -> None:
        """Compile for micro-batches of this shape; other shapes run without compilation."""
        import torch

        if not self._is_compiled or shape == self._shape:
            return
        key = (self._copy.config.to_json_string(), self._numerics, shape)
        if key not in _variants:
            if len(_variants) >= MAX_VARIANTS:
                forget_compiled()
            _variants.append(key)
        settings: dict[str, Any] = {"dynamic": False, "backend": BACKEND}
        if BACKEND == "inductor" and self._numerics.deterministic:
            settings["options"] = _list_deterministic_options() or None
        for module in _find_compiled_modules(self._copy.base_model):
            module.compile(**settings)
        self._loss = torch.compile(_sum_losses, **settings)
        self._shape = shape

    def refresh(self) -> None:
        """Copy the model's weights to the bfloat16 weights, after a step of the optimizer."""
        import torch

        if self._has_weights:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._parameters)

    def clear(self) -> None:
        """Forget the gradients of the previous batch, before a batch.

        If the copy has bfloat16 weights, the gradients in the model's own parameters stay. The
        first micro-batch then replaces or removes them.
        """
        self._is_first = True
        for parameter in self._copies if self._has_weights else self._parameters:
            parameter.grad = None

    def accumulate(
        self, ids_BT: Tensor, n_predicted: int, weights_B: Tensor | None = None
    ) -> Tensor:
        """Add the gradients of a micro-batch to those of the model's parameters.

        Args:
            ids_BT: token ids, shape (B, T), on the model's device.
            n_predicted: predicted tokens of the whole batch, over all micro-batches and processes.
            weights_B: factor of the losses of each sequence; None: 1. Weighted losses are never
                compiled.

        Returns:
            The sum of the next-token losses divided by n_predicted, in nats, on the device.
        """
        import torch

        if not self._is_compiled:
            loss = accumulate_gradients(self._copy, ids_BT, n_predicted, weights_B)
        elif tuple(ids_BT.shape) == self._shape and weights_B is None:
            loss = self._accumulate_compiled(ids_BT, n_predicted)
        else:
            with torch.compiler.set_stance("force_eager"):
                loss = accumulate_gradients(self._copy, ids_BT, n_predicted, weights_B)
        if self._has_weights:
            self._move_gradients()
        return loss

    def _accumulate_compiled(self, ids_BT: Tensor, n_predicted: int) -> Tensor:
        import torch
        from torch.nn.functional import pad

        head, n_rows = self._copy.get_output_embeddings(), self._count_chunk_rows()
        hidden_BTD = compute_hidden_states(self._copy, ids_BT)
        targets_BT = pad(ids_BT[:, 1:], (0, 1), value=IGNORED)
        detached_BTD = hidden_BTD.detach().requires_grad_()
        total = torch.zeros((), device=ids_BT.device)
        for hidden, targets in zip(
            detached_BTD.split(n_rows), targets_BT.split(n_rows), strict=True
        ):
            loss = self._loss(head, hidden, targets) / n_predicted
            loss.backward()
            total = total + loss.detach()
        hidden_BTD.backward(detached_BTD.grad)
        return total

    def _count_chunk_rows(self) -> int:
        """Return the sequences per chunk. Chunks of one size need only one compiled loss."""
        assert self._shape is not None
        n_rows, length = self._shape
        limit = MAX_COMPILED_LOGITS // (length * int(self._copy.config.vocab_size))
        return next(n for n in range(min(n_rows, max(1, limit)), 0, -1) if n_rows % n == 0)

    def _move_gradients(self) -> None:
        """Move the copy's gradients to the model's parameters, where they add up in float32."""
        import torch

        pairs = [
            (parameter, twin.grad)
            for parameter, twin in zip(self._parameters, self._copies, strict=True)
            if twin.grad is not None
        ]
        if self._is_first:
            # The parameters may have gradients of the previous batch. New gradients replace them
            # below. If a parameter has no new gradient, its old one is removed here.
            for parameter, twin in zip(self._parameters, self._copies, strict=True):
                if twin.grad is None:
                    parameter.grad = None
        for parameter, _ in pairs:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter, _ in pairs]
        move = torch._foreach_copy_ if self._is_first else torch._foreach_add_
        move(gradients, [gradient for _, gradient in pairs])
        self._is_first = False
        for twin in self._copies:
            twin.grad = None


def forget_compiled() -> None:
    """Drop what torch has compiled in this process; it is compiled again at its next use."""
    import torch

    torch._dynamo.reset()
    _variants.clear()


def _copy_model(model: Any, has_weights: bool) -> Any:
    """Copy a model; the copy has bfloat16 weights, or shares the model's parameters."""
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    shared = {} if has_weights else {id(parameter): parameter for parameter in model.parameters()}
    twin = copy.deepcopy(model, shared)
    if has_weights:
        for parameter in twin.parameters():  # not the buffers: RoPE's frequencies need float32
            parameter.data = parameter.data.to(torch.bfloat16)
    if twin.config.model_type in CAPTURED_ARCHITECTURES:
        AttentionInterface.register(CAUSAL_ATTENTION, sdpa_attention_forward)
        twin.config._attn_implementation = CAUSAL_ATTENTION
    return twin


def _checkpoint_activations(model: Any) -> None:
    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"checkpoint_activations is true, but {one_line(error)}; set checkpoint_activations to "
            "false"
        ) from error


def _find_compiled_modules(base_model: Any) -> list[Any]:
    """Return the decoder layers (the longest list of modules of one type), and the final norm."""
    from torch.nn import ModuleList

    lists = [
        list(module)
        for module in base_model.modules()
        if isinstance(module, ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    norm = getattr(base_model, "norm", None)
    return [*max(lists, key=len, default=[]), *([] if norm is None else [norm])]


def _sum_losses(head: Any, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
    from torch.nn.functional import cross_entropy

    logits = head(hidden_BTD.flatten(0, 1)).float()
    return cross_entropy(logits, targets_BT.flatten(), ignore_index=IGNORED, reduction="sum")


def _list_deterministic_options() -> dict[str, Any]:
    """Return inductor's option not to choose kernels by their measured time.

    Such choices may differ between runs and change the rounding.
    """
    import torch._inductor.config as config

    return {"deterministic": True} if hasattr(config, "deterministic") else {}
