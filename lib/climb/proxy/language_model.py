"""Causal language models of transformers: losses, gradients, reproducible computation.

A proxy of half a million parameters spends most of its time on the logits. So logits are computed
only where they are needed, and in chunks of a few rows.

Axes: B rows, T tokens of a row, D width, P predicted tokens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from climb.errors import OUT_OF_MEMORY, ConfigError, ResourceError, one_line
from climb.proxy.numerics import Precision, resolve_precision

if TYPE_CHECKING:
    from torch import Tensor

MAX_CHUNK_LOGITS = {"cpu": 2**20, "cuda": 2**28}
"""Maximum logits of a chunk. On a CPU, 4 MB of logits fit into the cache. Training is then 15 %
faster than with the logits of a whole batch (33 MB for 4,096 tokens and a vocabulary of 2,048)."""


def compute_hidden_states(
    model: Any, ids_BT: Tensor, mask_BTT: Tensor | None = None, positions_BT: Tensor | None = None
) -> Tensor:
    """Compute the last hidden states, the input of a model's output layer, shape (B, T, D)."""
    output = model.base_model(
        input_ids=ids_BT, attention_mask=mask_BTT, position_ids=positions_BT, use_cache=False
    )
    states: Tensor = output.last_hidden_state
    return states


def compute_token_losses(model: Any, hidden_PD: Tensor, ids_P: Tensor) -> Tensor:
    """Compute -log likelihood of each token in nats, shape (P,). The caller disables gradients."""
    import torch
    from torch.nn.functional import cross_entropy

    head = model.get_output_embeddings()
    size = _compute_chunk_rows(model)
    nats = [
        cross_entropy(head(hidden).float(), ids, reduction="none")
        for hidden, ids in zip(hidden_PD.split(size), ids_P.split(size), strict=True)
    ]
    return torch.cat(nats)


def compute_next_token_losses(model: Any, ids_BT: Tensor) -> Tensor:
    """Compute -log likelihood of each token except the first, in nats, shape (B, T - 1)."""
    hidden_PD = compute_hidden_states(model, ids_BT)[:, :-1].flatten(0, 1)
    nats_P = compute_token_losses(model, hidden_PD, ids_BT[:, 1:].flatten())
    return nats_P.view(len(ids_BT), -1)


def accumulate_gradients(
    model: Any, ids_BT: Tensor, n_predicted: int | None = None, weights_B: Tensor | None = None
) -> Tensor:
    """Add the gradients of the next-token loss to the parameters; return the loss in nats.

    Args:
        model: a transformers causal language model, on its device.
        ids_BT: token ids, shape (B, T).
        n_predicted: the sum of the losses is divided by this; None: by the number of predicted
            tokens of ids_BT, so that the loss is a mean.
        weights_B: factor of the losses of each row, shape (B,); None: 1.
    """
    import torch
    from torch.nn.functional import cross_entropy

    hidden_PD = compute_hidden_states(model, ids_BT)[:, :-1].flatten(0, 1)
    ids_P = ids_BT[:, 1:].flatten()
    head, size = model.get_output_embeddings(), _compute_chunk_rows(model)
    n_predicted = n_predicted or len(ids_P)
    detached_PD = hidden_PD.detach().requires_grad_()
    total = torch.zeros((), device=ids_BT.device)
    if weights_B is not None:
        weights_P = weights_B.repeat_interleave(ids_BT.shape[1] - 1)
    for i, (hidden, ids) in enumerate(zip(detached_PD.split(size), ids_P.split(size), strict=True)):
        if weights_B is None:
            loss = cross_entropy(head(hidden).float(), ids, reduction="sum")
        else:
            nats = cross_entropy(head(hidden).float(), ids, reduction="none")
            loss = (nats * weights_P[i * size : i * size + len(ids)]).sum()
        loss = loss / n_predicted
        loss.backward()
        total = total + loss.detach()
    hidden_PD.backward(detached_PD.grad)
    return total


def _compute_chunk_rows(model: Any) -> int:
    return max(1, MAX_CHUNK_LOGITS[model.device.type] // int(model.config.vocab_size))


@contextlib.contextmanager
def make_reproducible(
    device: str, seed: int, precision: Precision, deterministic: bool = True
) -> Iterator[None]:
    """Make torch deterministic in a `with` block: one CPU thread, and a random state of its own.

    All settings of torch are restored at the end, since other code runs in the same process.

    Args:
        device: `cpu`, `cuda:0`, ...
        seed: seed of torch's random state in the block.
        precision: precision of matrix products.
        deterministic: false allows, on a GPU, faster kernels whose results differ between runs.
    """
    import torch

    cuda = device.startswith("cuda")
    is_half = resolve_precision(precision, device) != "float32"
    with (
        _set_determinism(cuda, deterministic),
        torch.cuda.device(device) if cuda else contextlib.nullcontext(),
        torch.random.fork_rng(devices=[device] if cuda else []),
        _prefer_cudnn_attention(cuda and not deterministic),
        # Without the cache, which would keep the weights of the first step.
        torch.autocast(
            device.partition(":")[0], dtype=torch.bfloat16, enabled=is_half, cache_enabled=False
        ),
    ):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _set_determinism(cuda: bool, deterministic: bool) -> Iterator[None]:
    import torch

    if cuda:
        # cuBLAS needs this variable for deterministic results, and reads it when first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, fills = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_num_threads(1)
        # Not `warn_only` on a GPU: attention's backward pass would only warn, and use atomic adds.
        torch.use_deterministic_algorithms(deterministic or not cuda, warn_only=not cuda)
        # Filling costs time, and no code here reads uninitialized memory.
        torch.utils.deterministic.fill_uninitialized_memory = False
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def _prefer_cudnn_attention(is_allowed: bool) -> contextlib.AbstractContextManager[Any]:
    """Prefer cuDNN's attention to the flash kernel, if `is_allowed`.

    The backward pass of cuDNN's attention is not deterministic.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if not is_allowed:
        return contextlib.nullcontext()
    order = ["CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"]
    kernels: contextlib.AbstractContextManager[Any] = sdpa_kernel(
        [getattr(SDPBackend, name) for name in order], set_priority=True
    )
    return kernels


def is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or in the process."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)


@contextlib.contextmanager
def convert_errors(where: str) -> Iterator[None]:
    """Convert errors of torch that have a cause outside the code.

    Raises:
        ResourceError: memory ran out: the run may succeed alone on its machine.
        ConfigError: an operation has no deterministic kernel, or compiling failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_memory_error(error):
            raise ResourceError(f"{where}: out of memory: {one_line(error)}") from error
        if "deterministic" in str(error):
            raise ConfigError(
                f"{where}: {one_line(error)}; set `deterministic: false` in the proxy's recipe"
            ) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise ConfigError(
                f"{where}: torch.compile failed: {one_line(error)}; install a C compiler and the "
                "headers of Python, or set `compile: eager` in the proxy's recipe"
            ) from error
        raise
