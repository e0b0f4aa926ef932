"""Two forward passes of sentence-transformers models: one on token ids, and the model's own.

The forward pass on token ids is for texts that climb has tokenised already. The model's own forward
pass tokenises the texts itself. `wrap_model` compares the vectors of both, and chooses one.

Axes: B texts of a batch, L tokens of each padded text, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.embed.batches import Wait
from climb.embed.device import fetch, launch_or_halve, pad_ids
from climb.embed.tokens import TokenEncoder, open_fast_tokenizer

CHECK_TEXTS = ("A cell divides.", "The court heard the oral argument on Tuesday, and adjourned.")
"""Texts of different length. Their vectors decide whether `wrap_model` chooses the forward pass on
token ids."""

CHECK_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Precision -> tolerance. `wrap_model` computes two vectors of a text: one with the forward pass on
token ids, and one with the model's own forward pass. They count as equal if their distance is at
most the tolerance."""

MIN_TOKENS = 16
"""Minimum number of tokens in a batch; in a smaller batch, the texts are repeated. A CPU adds up
products in another order if a matrix has only one to three rows. Without the repetition, the last
bits of a short text's vector would depend on whether the text is alone in its batch."""

BROADCAST_MASK_TYPES = ("bert", "roberta", "xlm-roberta")
"""Types of models that accept a mask of shape (B, 1, 1, L) and apply it to all attention scores.
Other models get a mask of shape (B, L). This is slower: they copy the mask for every query, and
wait for the GPU."""


@dataclass(frozen=True)
class TokenModel:
    """A model whose first module takes token ids, and whose other modules pool."""

    model: Any
    encoder: TokenEncoder
    width: int
    device: str
    prompt_tokens: int = 0
    """Tokens of the prompt, which some models exclude from pooling."""

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of a text."""
        return self.encoder.max_tokens

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokenise texts."""
        return self.encoder(texts)

    def launch(self, encoded: Sequence[NDArray[np.int32]], length: int) -> Wait:
        """Start a batch, each text padded to `length` tokens."""
        return launch_or_halve(lambda part: fetch(self.forward(part, length)), encoded)

    def forward(self, ids_B: Sequence[NDArray[np.int32]], length: int) -> Any:
        """Compute vectors_BD, float32, norm 1, on the device; zero for a text without tokens."""
        import torch

        tokenizer = self.model.tokenizer
        pad_id = tokenizer.pad_token_id or 0
        n_texts = len(ids_B)
        ids_B = [*ids_B] * -(-MIN_TOKENS // (n_texts * length))
        with torch.inference_mode():
            ids_BL, mask_BL = pad_ids(ids_B, length, pad_id, tokenizer.padding_side, self.device)
            vectors_BD = normalize(self._pool(ids_BL, mask_BL))
            if empty := [row for row, ids in enumerate(ids_B) if len(ids) == 0]:
                vectors_BD[empty] = 0.0
            return vectors_BD[:n_texts]

    def _pool(self, ids_BL: Any, mask_BL: Any) -> Any:
        import torch

        transformer, *others = self.model
        features: dict[str, Any] = {"input_ids": ids_BL}
        if mask_BL is not None:
            features["attention_mask"] = self._shape_mask(mask_BL)
        features = transformer(features)
        features["attention_mask"] = torch.ones_like(ids_BL) if mask_BL is None else mask_BL
        if self.prompt_tokens:
            features["prompt_length"] = self.prompt_tokens
        for module in others:
            if type(module).__name__ != "Normalize":  # `forward` normalizes in float32
                features = module(features)
        return features["sentence_embedding"]

    def _shape_mask(self, mask_BL: Any) -> Any:
        config = self.model[0].auto_model.config
        uses_sdpa = getattr(config, "_attn_implementation", None) == "sdpa"
        if uses_sdpa and config.model_type in BROADCAST_MASK_TYPES:
            return mask_BL[:, None, None, :].bool()
        return mask_BL


@dataclass(frozen=True)
class _CountedText:
    """A text whose `len` is its number of tokens."""

    text: str
    n_tokens: int

    def __len__(self) -> int:
        return self.n_tokens


@dataclass(frozen=True)
class WholeModel:
    """A model that tokenises and pools in its own way; texts are tokenised again for each batch."""

    model: Any
    width: int
    device: str
    max_tokens: int
    prompt_tokens: int = 0
    """Tokens of the prompt, which some models exclude from pooling."""

    def encode(self, texts: Sequence[str]) -> list[_CountedText]:
        """Count the tokens of texts, or their characters where the model has no tokenizer."""
        tokenizer = getattr(self.model, "tokenizer", None)
        if callable(tokenizer) and texts:
            ids = tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
            lengths = [len(row) for row in ids]
        else:
            lengths = [min(len(text), self.max_tokens) for text in texts]
        return [_CountedText(*pair) for pair in zip(texts, lengths, strict=True)]

    def launch(self, encoded: Sequence[_CountedText], length: int) -> Wait:
        """Start a batch; the model pads it itself."""
        return launch_or_halve(
            lambda part: fetch(self.forward([each.text for each in part])), encoded
        )

    def forward(self, texts: Sequence[str]) -> Any:
        """Compute vectors_BD, float32, norm 1, on the device."""
        import torch

        with torch.inference_mode():
            features = {
                name: value.to(self.device) if isinstance(value, torch.Tensor) else value
                for name, value in _prepare(self.model, texts).items()
            }
            if self.prompt_tokens:
                features["prompt_length"] = self.prompt_tokens
            return normalize(self.model(features)["sentence_embedding"])


def _prepare(model: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Tokenise and pad texts with the model's own function."""
    prepare = model.preprocess if hasattr(model, "preprocess") else model.tokenize
    return dict(prepare(list(texts)))


def count_prompt_tokens(model: Any, prompt: str) -> int:
    """Count the tokens of a prompt as sentence-transformers does, without a final special token.

    Args:
        model: the loaded sentence-transformers model.
        prompt: may be empty.

    Returns:
        The number of tokens; 0 if the prompt is empty, or if the model does not read token ids.
    """
    ids_BL = _prepare(model, [prompt]).get("input_ids") if prompt else None
    if ids_BL is None or ids_BL.ndim != 2 or not ids_BL.numel():
        return 0
    special = getattr(getattr(model, "tokenizer", None), "all_special_ids", ())
    return int(ids_BL.shape[1]) - (int(ids_BL[0, -1]) in special)


def normalize(vectors_BD: Any) -> Any:
    """Scale vectors to norm 1, always in float32, so that six digits of the norm are correct."""
    import torch

    return torch.nn.functional.normalize(vectors_BD.float(), p=2, dim=1)


def wrap_model(
    model: Any, width: int, max_tokens: int, device: str, precision: str
) -> TokenModel | WholeModel:
    """Choose the forward pass on token ids, or the model's own forward pass.

    The forward pass on token ids is chosen if both give the same vectors.

    Args:
        model: the loaded sentence-transformers model.
        width: D.
        max_tokens: maximum tokens of a text.
        device: where the model is.
        precision: a key of `CHECK_TOLERANCE`.
    """
    whole = WholeModel(model, width, device, max_tokens)
    encoder = open_fast_tokenizer(getattr(model, "tokenizer", None), max_tokens)
    if encoder is None or not hasattr(model[0], "auto_model"):
        return whole
    tokens = TokenModel(model, encoder, width, device)
    return tokens if _agree(tokens, whole, CHECK_TOLERANCE[precision]) else whole


def _agree(tokens: TokenModel, whole: WholeModel, tolerance: float) -> bool:
    """Whether the vectors of both forward passes agree, with and without padding.

    On a GPU, one of the texts has the maximum length. In some models, a mask changes only the
    vectors of long texts. So if the two forward passes use different masks, only a long text shows
    this.
    """
    from torch import OutOfMemoryError

    is_fast = tokens.device.startswith("cuda")
    texts = (*CHECK_TEXTS, *([" ".join(CHECK_TEXTS) * tokens.max_tokens] if is_fast else []))
    expected_BD = whole.forward(texts).cpu().numpy()
    try:
        ids_B = tokens.encode(texts)
        padded_BD = tokens.forward(ids_B, max(map(len, ids_B))).cpu().numpy()
        alone = [tokens.forward([ids], len(ids)).cpu().numpy() for ids in ids_B]
    except OutOfMemoryError:
        raise  # a kind of RuntimeError, but it does not mean that the model rejects the inputs
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError):
        return False  # the model does not accept the inputs that most models accept
    distances_2B = [
        np.linalg.norm(found_BD - expected_BD, axis=1) for found_BD in (padded_BD, np.vstack(alone))
    ]
    return bool(np.max(distances_2B) <= tolerance)


def compile_layers(model: TokenModel | WholeModel) -> None:
    """Compile each layer of the transformer; equal layers share the compiled code."""
    from torch.nn import ModuleList

    lists = [module for module in model.model.modules() if isinstance(module, ModuleList)]
    for layer in max(lists, key=len, default=[]):
        layer.compile(dynamic=True)


def run_probe(model: TokenModel | WholeModel) -> Callable[[int, int], Any]:
    """Return a function (number of texts, tokens of each text) that runs a batch of this size."""

    def forward(n_texts: int, length: int) -> Any:
        if isinstance(model, WholeModel):
            return model.forward([" ".join(CHECK_TEXTS) * length] * n_texts)
        ids = np.full(length, model.model.tokenizer.pad_token_id or 0, dtype=np.int32)
        return model.forward([*([ids] * (n_texts - 1)), ids[: max(1, length - 1)]], length)

    return forward
