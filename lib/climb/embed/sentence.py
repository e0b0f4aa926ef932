"""Embed with a local sentence-transformers model, in batches with little padding.

Axes: N texts, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import ModelPath
from climb.embed.batches import Batching, run_model, stream_model
from climb.embed.device import choose_batching
from climb.embed.limits import check_max_tokens
from climb.embed.transformer import (
    TokenModel,
    WholeModel,
    compile_layers,
    count_prompt_tokens,
    run_probe,
    wrap_model,
)
from climb.errors import ComponentError, ConfigError, PreflightError, one_line
from climb.files import resolve


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedder:
    """Sentence vectors of norm 1.

    The paper of CLIMB (arXiv 2504.13161) uses the model NovaSearch/stella_en_400M_v5 with
    `dim: 1024` and `max_tokens: 512`.

    On a GPU, a vector depends slightly on the other texts of its batch: they change it by about
    1e-6 in float32, and in the third digit in half precision. So with another partitioning of a
    table, a text near the border of two clusters may be assigned to the other cluster. Job
    `prune` decides which clusters are kept and which are merged. These decisions depend on means
    and sums over all texts of a cluster. A few texts hardly change these means and sums. On a CPU,
    only texts of equal length share a batch, and a vector does not depend on the other texts
    (exceptions: docs/decisions/embedding.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "sentence_transformers")
    """Packages that `load` imports."""

    extra: ClassVar[str] = "embed"
    """Extra of climb-mixture that installs them."""

    model: ModelPath
    """Folder of the model. Nothing is downloaded."""

    dim: int
    max_tokens: int
    """Maximum tokens of a document; the rest of a longer document is ignored."""

    precision: Literal["float32", "bfloat16", "float16"]
    """Data type of the weights. It changes the third digit of the vectors, so it is part of the
    recipe (`climb.config.recipe_of`). Half precision is faster on GPUs and on CPUs with
    avx512_bf16."""

    batch_tokens: int | None = field(default=None, metadata={"speed_only": True})
    """Maximum tokens of a batch, padding included; None: as many as suit the device."""

    compile: bool = field(default=False, metadata={"speed_only": True})
    """Compile the layers on a GPU. The model is then faster, but every worker waits for the
    compilation and needs a C compiler."""

    prompt: str = ""
    """Prefix of every text, for models that were trained with one (`passage: `). Models whose
    pooling has `include_prompt: false` leave the tokens of the prompt out of the mean."""

    trust_remote_code: bool = False
    """Run the Python code in the model's folder, which some models need (stella does)."""

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ConfigError: a limit is below 1.
        """
        for name in ("max_tokens", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"SentenceEmbedder: {name} is {value}; it must be at least 1")

    def load(self, device: str) -> SentenceEmbed:
        """Load the weights. Only executors need torch, so it is imported here.

        Raises:
            PreflightError: the folder is missing or contains no sentence-transformers model.
            ComponentError: `dim` differs from the model's width, `max_tokens` exceeds the model's
                maximum input, or the memory of a GPU is too small for one text.
        """
        model = wrap_model(
            _load_model(self, device), self.dim, self.max_tokens, device, self.precision
        )
        if self.compile and device.startswith("cuda"):
            compile_layers(model)
        model = replace(model, prompt_tokens=count_prompt_tokens(model.model, self.prompt))
        batching = choose_batching(self.batch_tokens, device, self.max_tokens, run_probe(model))
        return SentenceEmbed(model, batching, self.prompt)


@dataclass(frozen=True)
class SentenceEmbed:
    """A loaded model, and how texts are divided into batches for it."""

    model: TokenModel | WholeModel
    batching: Batching
    prompt: str

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> vectors_ND, float32, norm 1."""
        return run_model(self.model, self._add_prompt(texts), self.batching)

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[NDArray[np.float32]]:
        """Yield vectors_ND of each batch, in the order of the batches; read batches ahead."""
        return stream_model(self.model, map(self._add_prompt, batches), self.batching)

    def _add_prompt(self, texts: Sequence[str]) -> Sequence[str]:
        return [self.prompt + text for text in texts] if self.prompt else texts


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
    transformer = getattr(model[0], "auto_model", None)
    check_max_tokens("embed.embedder.max_tokens", spec.max_tokens, spec.model, transformer)
    with contextlib.suppress(AttributeError):  # a static model has no limit to set
        model.max_seq_length = spec.max_tokens
    # sentence-transformers 6 renamed get_sentence_embedding_dimension.
    get_width = getattr(model, "get_embedding_dimension", None)
    width = int((get_width or model.get_sentence_embedding_dimension)())
    if width != spec.dim:
        raise ComponentError(
            f"{spec.model!r} returns vectors of width {width}; embed.embedder.dim is {spec.dim}"
        )
    return model
