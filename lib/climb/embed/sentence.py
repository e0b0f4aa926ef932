"""Embed with a local sentence-transformers model, in batches with little padding.

Axes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import ModelPath
from climb.embed import Embed
from climb.errors import ComponentError, ConfigError, PreflightError, one_line
from climb.files import resolve

Forward = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedder:
    """Sentence vectors of norm 1. CLIMB uses NovaSearch/stella_en_400M_v5, dim 1024, 512 tokens.

    Vectors of equal texts agree to about 1e-6 in float32 and to three digits in half precision,
    because the other texts of a batch change the last bits. So two partitionings of a table may
    assign a text near a cluster border differently; decisions about whole clusters do not change.
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "sentence_transformers")
    """Packages that `load` imports."""

    model: ModelPath
    """Folder of the model. Nothing is downloaded."""

    dim: int
    max_tokens: int
    """Maximum tokens of a document; the rest of a longer document is ignored."""

    precision: Literal["float32", "bfloat16", "float16"]
    """Data type of the weights. It changes the third digit of the vectors, so it is part of the
    recipe. Half precision is faster on GPUs and on CPUs with avx512_bf16."""

    batch_tokens: int = field(metadata={"speed_only": True})
    """Maximum tokens of a batch, padding included."""

    prompt: str = ""
    """Prefix of every text, for models that were trained with one (`passage: `)."""

    trust_remote_code: bool = False
    """Run the Python code in the model's folder, which some models need (stella does)."""

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ConfigError: a limit is below 1.
        """
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"SentenceEmbedder: {name} is {getattr(self, name)}; it must be at least 1"
                )

    def load(self, device: str) -> Embed:
        """Load the weights. Only executors need torch, so it is imported here.

        Raises:
            PreflightError: the folder is missing or contains no sentence-transformers model.
            ComponentError: `dim` differs from the model's width, or `max_tokens` exceeds its
                maximum input.
        """
        model = _load_model(self, device)

        def forward(texts: Sequence[str]) -> NDArray[np.float32]:
            return _forward(model, texts, device)

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            vectors_ND = np.empty((len(texts), self.dim), dtype=np.float32)
            prompted = [self.prompt + text for text in texts]
            for rows in split_batches(_count_tokens(model, prompted), self.batch_tokens):
                vectors_ND[rows] = run_with_halving(forward, [prompted[row] for row in rows])
            return vectors_ND

        return embed


def split_batches(lengths_N: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Split rows into batches of similar length, longest first, each within a token budget.

    Args:
        lengths_N: tokens of each text.
        batch_tokens: maximum tokens of a batch with all its texts padded to the longest one. A
            single text above this makes a batch of one.

    Returns:
        Rows of each batch; every row is in exactly one. Texts of equal length keep their order.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    batches, start = [], 0
    while start < len(order_N):
        longest = max(1, int(lengths_N[order_N[start]]))
        size = max(1, batch_tokens // longest)
        batches.append(order_N[start : start + size])
        start += size
    return batches


def run_with_halving(forward: Forward, texts: Sequence[str]) -> NDArray[np.float32]:
    """Run a batch; if the GPU runs out of memory, run its two halves.

    Raises:
        ComponentError: a single text does not fit into the GPU's memory.
    """
    import torch

    try:
        return forward(texts)
    except torch.OutOfMemoryError as error:
        if len(texts) == 1:
            raise ComponentError(
                "GPU out of memory for a single document; "
                f"lower max_tokens of the model (text: {texts[0][:80]!r})"
            ) from error
    # Outside the handler, where the traceback no longer references the failed batch's tensors.
    torch.cuda.empty_cache()
    half = len(texts) // 2
    halves = (texts[:half], texts[half:])
    return np.concatenate([run_with_halving(forward, part) for part in halves])


def _load_model(spec: SentenceEmbedder, device: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # every worker would print one
    folder = resolve(spec.model)
    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        text = one_line(error)
        raise PreflightError(
            f"model path {spec.model!r} contains no sentence-transformers model: {text}"
        ) from error
    model.eval().to(getattr(torch, spec.precision))
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and spec.max_tokens > longest:
        raise ComponentError(
            f"embed.embedder.max_tokens is {spec.max_tokens}; "
            f"{spec.model!r} accepts at most {longest} tokens"
        )
    model.max_seq_length = spec.max_tokens
    # sentence-transformers 6 renamed this method.
    get_width = getattr(model, "get_embedding_dimension", None)
    width = int((get_width or model.get_sentence_embedding_dimension)())
    if width != spec.dim:
        raise ComponentError(
            f"{spec.model!r} returns vectors of width {width}; embed.embedder.dim is {spec.dim}"
        )
    return model


def _count_tokens(model: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    if not texts:
        return np.empty(0, dtype=np.int64)  # the tokenizers do not accept an empty batch
    encoded = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)
    return np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)


def _forward(model: Any, texts: Sequence[str], device: str) -> NDArray[np.float32]:
    import torch

    prepare = model.preprocess if hasattr(model, "preprocess") else model.tokenize
    with torch.inference_mode():
        features = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in prepare(list(texts)).items()
        }
        vectors_ND = model(features)["sentence_embedding"].float()
        # Normalized in float32 for every precision, so that the norm is 1 to six digits.
        unit_ND = torch.nn.functional.normalize(vectors_ND, p=2, dim=1)
        result: NDArray[np.float32] = unit_ND.cpu().numpy()
    return result
