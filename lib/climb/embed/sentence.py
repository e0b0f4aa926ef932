"""Any sentence-transformers model by path, in batches that hold little padding.

Legend: N texts, D width.
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
    """Vectors of length 1; CLIMB uses NovaSearch/stella_en_400M_v5, dim 1024, 512 tokens.

    The same text gives the same vector to about 1e-6 in float32, and to three digits in half
    precision: what a batch holds beside it moves the last bits. So labels near a border, but no
    decision about whole clusters, may differ between two cuts of a table into batches.
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "sentence_transformers")
    """Packages that it imports when it is used."""

    model: ModelPath
    """Folder of the model. Nothing is ever downloaded."""

    dim: int
    max_tokens: int
    """Tokens of a document that are read, from its beginning."""

    precision: Literal["float32", "bfloat16", "float16"]
    """What the weights are computed in. It changes vectors in the third digit, so it is part of
    the recipe, and you set it: half precision is faster on GPUs and on CPUs with avx512_bf16."""

    batch_tokens: int = field(metadata={"speed_only": True})
    """Tokens of a batch, padding counted."""

    prompt: str = ""
    """Put before every text, for models that were trained with one (`passage: `)."""

    trust_remote_code: bool = False
    """Run the Python code that some models bring along in their folder (stella does)."""

    def __post_init__(self) -> None:
        """Refuse limits that read nothing."""
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"SentenceEmbedder: {name} is {getattr(self, name)}; at least 1")

    def load(self, device: str) -> Embed:
        """Load the weights. Only executors need torch, so it is imported here.

        Raises:
            PreflightError: the folder is missing or holds no such model.
            ComponentError: the model's width or longest input is not what was configured.
        """
        model = _load_model(self, device)

        def forward(texts: Sequence[str]) -> NDArray[np.float32]:
            return _forward(model, texts, device)

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            vectors_ND = np.empty((len(texts), self.dim), dtype=np.float32)
            prompted = [self.prompt + text for text in texts]
            for rows in batches(_n_tokens(model, prompted), self.batch_tokens):
                vectors_ND[rows] = halving(forward, [prompted[row] for row in rows])
            return vectors_ND

        return embed


def batches(lengths_N: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Split rows into batches of similar length, longest first, each within a budget of tokens.

    Args:
        lengths_N: tokens of each text.
        batch_tokens: most tokens of a batch when all its texts are padded to the longest; a text
            that is longer by itself makes a batch of one.

    Returns:
        Rows of each batch; every row stands in exactly one. Texts of equal length keep their order.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    found, start = [], 0
    while start < len(order_N):
        longest = max(1, int(lengths_N[order_N[start]]))
        size = max(1, batch_tokens // longest)
        found.append(order_N[start : start + size])
        start += size
    return found


def halving(forward: Forward, texts: Sequence[str]) -> NDArray[np.float32]:
    """Run a batch; where the GPU's memory is too small for it, run its halves.

    Raises:
        ComponentError: one text alone does not fit.
    """
    import torch

    try:
        return forward(texts)
    except torch.OutOfMemoryError as error:
        if len(texts) == 1:
            raise ComponentError(
                "one document does not fit the GPU's memory; "
                f"lower the model's max_tokens (text: {texts[0][:80]!r})"
            ) from error
    torch.cuda.empty_cache()  # outside the handler: the traceback held the failed batch's tensors
    half = len(texts) // 2
    return np.concatenate([halving(forward, texts[:half]), halving(forward, texts[half:])])


def _load_model(spec: SentenceEmbedder, device: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # every worker would draw its own
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
            f"model path {spec.model!r} holds no sentence-transformers model: {text}"
        ) from error
    model.eval().to(getattr(torch, spec.precision))
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and spec.max_tokens > longest:
        raise ComponentError(
            f"embed.embedder.max_tokens is {spec.max_tokens}; "
            f"{spec.model!r} reads at most {longest}"
        )
    model.max_seq_length = spec.max_tokens
    # Version 6 of sentence-transformers renamed it.
    renamed = getattr(model, "get_embedding_dimension", None)
    width = int((renamed or model.get_sentence_embedding_dimension)())
    if width != spec.dim:
        raise ComponentError(
            f"{spec.model!r} makes vectors of width {width}; embed.embedder.dim is {spec.dim}"
        )
    return model


def _n_tokens(model: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    if not texts:
        return np.empty(0, dtype=np.int64)  # the library's tokenizers take no empty batch
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
        # Normalised in float32 whatever the weights are in: a length must be 1 to six digits.
        unit_ND = torch.nn.functional.normalize(vectors_ND, p=2, dim=1)
        result: NDArray[np.float32] = unit_ND.cpu().numpy()
    return result
