"""What training and measuring ask of a transformers causal language model, at a proxy's size.

A proxy of half a million parameters spends most of its time around the logits, so they are made
only where they are needed and a few rows at a time.

B rows, T tokens of a row, D width, P predicted tokens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from climb.errors import ConfigError, TrialError, one_line

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["auto", "float32", "bfloat16"]

LOGITS_AT_ONCE = {"cpu": 2**20, "cuda": 2**28}
"""Logits held at once. On a CPU 4 MB of them stay in the cache: training is 15 % faster than with
all of a batch (33 MB at a vocabulary of 2,048)."""


def hidden_states(
    model: Any, ids_BT: Tensor, mask_BTT: Tensor | None = None, positions_BT: Tensor | None = None
) -> Tensor:
    """Run the body of a model: what its output layer turns into logits, shape (B, T, D)."""
    output = model.base_model(
        input_ids=ids_BT, attention_mask=mask_BTT, position_ids=positions_BT, use_cache=False
    )
    states: Tensor = output.last_hidden_state
    return states


def token_nats(model: Any, hidden_PD: Tensor, ids_P: Tensor) -> Tensor:
    """-log likelihood of each token, in nats, shape (P,); without gradients."""
    import torch
    from torch.nn.functional import cross_entropy

    head = model.get_output_embeddings()
    size = _rows_at_once(model)
    nats = [
        cross_entropy(head(hidden).float(), ids, reduction="none")
        for hidden, ids in zip(hidden_PD.split(size), ids_P.split(size), strict=True)
    ]
    return torch.cat(nats)


def add_gradients(model: Any, ids_BT: Tensor) -> Tensor:
    """Add the gradients of the mean next-token loss to the parameters; return the loss, in nats."""
    import torch
    from torch.nn.functional import cross_entropy

    hidden_PD = hidden_states(model, ids_BT)[:, :-1].flatten(0, 1)
    ids_P = ids_BT[:, 1:].flatten()
    head, size = model.get_output_embeddings(), _rows_at_once(model)
    cut_PD = hidden_PD.detach().requires_grad_()
    total = torch.zeros((), device=ids_BT.device)
    for hidden, ids in zip(cut_PD.split(size), ids_P.split(size), strict=True):
        loss = cross_entropy(head(hidden).float(), ids, reduction="sum") / len(ids_P)
        loss.backward()
        total = total + loss.detach()
    hidden_PD.backward(cut_PD.grad)
    return total


def _rows_at_once(model: Any) -> int:
    return max(1, LOGITS_AT_ONCE[model.device.type] // int(model.config.vocab_size))


@contextlib.contextmanager
def reproducible(device: str, seed: int, precision: Precision) -> Iterator[None]:
    """Compute so that equal inputs give equal bits: one CPU thread, own random state.

    Everything that it changes is put back, since a worker process serves other code as well.
    """
    import torch

    cuda = device.startswith("cuda")
    if cuda:
        # cuBLAS asks for it, and reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, fills = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    half = precision == "bfloat16" or (precision == "auto" and cuda)
    try:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = (
            False  # nobody reads it; it costs time
        )
        kind = device.partition(":")[0]
        with (
            torch.random.fork_rng(devices=[device] if cuda else []),
            # Without the cache: it would hold the weights of the first step.
            torch.autocast(kind, dtype=torch.bfloat16, enabled=half, cache_enabled=False),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fills


@contextlib.contextmanager
def memory_errors(where: str) -> Iterator[None]:
    """Turn running out of memory into a failed trial: the next one may be smaller."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrialError(f"{where}: out of memory: {one_line(error)}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise TrialError(f"{where}: out of memory: {one_line(error)}") from error


def open_model(folder: str | Path, n_ids: int) -> Any:
    """Open a local checkpoint in float32, for a tokenizer of n_ids token ids.

    Raises:
        ConfigError: it is no causal language model that a proxy can be, or knows too few ids.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"model {folder} is no causal language model: {reason}") from error
    if model.config.vocab_size < n_ids:
        raise ConfigError(
            f"model {folder} knows {model.config.vocab_size} token ids, but the tokenizer has "
            f"{n_ids}; count.path must name the model's own tokenizer"
        )
    ids = torch.arange(2)[None]
    with torch.inference_mode():
        logits = model.get_output_embeddings()(hidden_states(model, ids))
        if not torch.allclose(model(input_ids=ids).logits, logits, atol=1e-3, rtol=1e-3):
            raise ConfigError(
                f"model {folder} ({model.config.model_type}) changes its logits after the output "
                "layer, which a proxy does not do; take another architecture"
            )
    return model
