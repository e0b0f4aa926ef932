"""Batches on a device: padding, transfer, results, memory, and how many tokens fit.

Axes: B texts of a batch, L tokens of each padded text, D values of each text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.embed.batches import Batching, Wait
from climb.errors import ComponentError

Launch = Callable[[Sequence[Any]], Wait]

CPU_BATCH_TOKENS = 2_048
"""Maximum tokens of a batch on a CPU. With a batch of this size, the activations of a small model
fit into the cache."""

MAX_BATCH_TOKENS = 131_072
"""Maximum tokens of a batch if climb computes its size from the free memory of the GPU. A batch of
fewer tokens already keeps an H100 fully busy."""

PROBE_TOKENS = 8_192
"""Tokens of the batch with which the memory per token is measured."""

MEMORY_SHARE = 0.4
"""Share of the free memory that one batch may use. The rest is for the second batch, which is on
the device at the same time, and for fragments of memory that the allocator cannot use."""

GPU_MULTIPLE = 16
"""On a GPU, texts are padded to a multiple of this many tokens, because the attention kernels need
aligned rows."""


def pad_ids(
    ids_B: Sequence[NDArray[np.int32]], length: int, pad_id: int, side: str, device: str
) -> tuple[Any, Any]:
    """Copy token ids to the device, padded to one length.

    Args:
        ids_B: token ids of each text.
        length: L; at least the length of the longest text.
        pad_id: the padding token.
        side: "right" or "left": where the padding is.
        device: `cpu`, `cuda:0`, ...

    Returns:
        ids_BL and mask_BL, both int64. The mask is 1 at tokens and 0 at padding; it is None if
        nothing is padded. Both are on the device, or are still being copied to it.
    """
    import torch

    pins = device.startswith("cuda")  # the GPU copies from pinned memory while this thread goes on
    host_BL = torch.empty((len(ids_B), length), dtype=torch.int32, pin_memory=pins)
    rows_BL = host_BL.numpy()
    lengths_B = np.array([len(ids) for ids in ids_B], dtype=np.int32)
    if lengths_B.min() < length:
        rows_BL.fill(pad_id)
    for row, ids in enumerate(ids_B):
        start = length - len(ids) if side == "left" else 0
        rows_BL[row, start : start + len(ids)] = ids
    ids_BL = host_BL.to(device, non_blocking=True).long()
    if lengths_B.min() == length:
        return ids_BL, None
    host_B1 = torch.empty((len(ids_B), 1), dtype=torch.int32, pin_memory=pins)
    host_B1.numpy()[:, 0] = lengths_B
    lengths_B1 = host_B1.to(device, non_blocking=True)
    positions_L = torch.arange(length, device=device, dtype=torch.int32)
    if side == "left":
        return ids_BL, (positions_L >= length - lengths_B1).long()
    return ids_BL, (positions_L < lengths_B1).long()


def fetch(values_BD: Any) -> Wait:
    """Start to copy values to the host, and return a function that waits for the copy.

    Args:
        values_BD: a float32 tensor on any device.
    """
    import torch

    if values_BD.device.type != "cuda":
        array_BD: NDArray[np.float32] = values_BD.cpu().numpy()
        return lambda: array_BD
    host_BD = torch.empty(values_BD.shape, dtype=torch.float32, pin_memory=True)
    host_BD.copy_(values_BD, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(values_BD.device))

    def wait() -> NDArray[np.float32]:
        done.synchronize()
        # Return a copy, because pinned memory is scarce: torch reuses it for the next batch.
        copy_BD: NDArray[np.float32] = host_BD.numpy().copy()
        return copy_BD

    return wait


def launch_or_halve(launch: Launch, encoded: Sequence[Any]) -> Wait:
    """Launch a batch; if the GPU runs out of memory, launch the batch in halves, one by one.

    Raises:
        ComponentError: a single text does not fit into the GPU's memory.
    """
    import torch

    try:
        return launch(encoded)
    except torch.OutOfMemoryError as error:
        if len(encoded) == 1:
            raise ComponentError(
                f"GPU out of memory for a single document of {len(encoded[0])} tokens; "
                "lower max_tokens of the model"
            ) from error
    # This is outside of the handler. Inside it, the traceback would still reference the tensors of
    # the failed batch, so their memory would not be free.
    torch.cuda.empty_cache()
    half = len(encoded) // 2
    first_BD = launch_or_halve(launch, encoded[:half])()
    second = launch_or_halve(launch, encoded[half:])
    return lambda: np.concatenate([first_BD, second()])


def choose_batching(
    batch_tokens: int | None,
    device: str,
    max_tokens: int,
    forward: Callable[[int, int], Any] | None = None,
) -> Batching:
    """Choose how texts are divided into batches for a device.

    Args:
        batch_tokens: maximum tokens of a batch. None: on a GPU, a measurement decides how many fit
            into its memory; on a CPU, `CPU_BATCH_TOKENS`.
        device: `cpu`, `cuda:0`, ...
        max_tokens: maximum tokens of a text.
        forward: function of (number of texts, tokens of each text) that runs a padded batch of this
            size; needed on a GPU if `batch_tokens` is None.

    Returns:
        The division. On a CPU, only texts of equal length share a batch, so nothing is padded,
        which saves time. The batches are then smaller, but on a CPU, smaller batches are not
        slower.
    """
    if not device.startswith("cuda"):
        return Batching(batch_tokens or CPU_BATCH_TOKENS, exact=True)
    if batch_tokens is None:
        assert forward is not None, "a probe needs a forward pass"
        batch_tokens = probe_batch_tokens(device, max_tokens, forward)
    return Batching(batch_tokens, multiple=GPU_MULTIPLE)


def probe_batch_tokens(device: str, max_tokens: int, forward: Callable[[int, int], Any]) -> int:
    """Measure the memory that a token needs, and return how many tokens fit into the free memory.

    Args:
        device: a GPU.
        max_tokens: maximum tokens of a text.
        forward: function of (number of texts, tokens of each text) that runs a padded batch of this
            size.

    Returns:
        The number of tokens, rounded down to a power of two, so that small changes of the free
        memory rarely change the batches; or `max_tokens` if that is larger.

    Raises:
        ComponentError: a single text does not fit into the GPU's memory.
    """
    import torch

    n_texts = max(1, PROBE_TOKENS // max_tokens)
    while True:
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            forward(n_texts, max_tokens)
            break
        except torch.OutOfMemoryError as error:
            if n_texts == 1:
                raise ComponentError(
                    f"GPU out of memory for a single document of {max_tokens} tokens; "
                    "lower max_tokens of the model"
                ) from error
        n_texts //= 2
    used = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return fit_tokens(free, used / (n_texts * max_tokens), max_tokens)


def fit_tokens(free_bytes: int, bytes_per_token: float, max_tokens: int) -> int:
    """Compute the tokens of a batch that fit into free memory, as a power of two.

    Args:
        free_bytes: free memory of the GPU.
        bytes_per_token: memory that a batch needs for each of its tokens.
        max_tokens: maximum tokens of a text.

    Returns:
        The power of two, at most `MAX_BATCH_TOKENS`; `max_tokens` if that is larger.
    """
    tokens = int(MEMORY_SHARE * free_bytes / max(bytes_per_token, 1.0))
    power = 1 << max(0, tokens.bit_length() - 1)
    return max(max_tokens, min(MAX_BATCH_TOKENS, power))
