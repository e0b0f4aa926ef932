"""BERT encoders with random weights and a new tokenizer; speed does not depend on the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MAX_TOKENS = 512


@dataclass(frozen=True)
class Shape:
    """Shape of a BERT encoder, and the bar for the ratio of speeds."""

    hidden: int
    layers: int
    heads: int
    bar: float


def train_tokenizer(texts: Sequence[str], size: int) -> Any:
    """Train a WordPiece tokenizer, as BERT uses."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(texts, vocab_size=size, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=MAX_TOKENS)


def build_model(folder: Path, shape: Shape, tokenizer: Any, device: str) -> Path:
    """Save a random BERT with mean pooling in the folder format of sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
    )
    with torch.device(device):
        BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    transformer = modules.Transformer(str(folder / "bert"), max_seq_length=MAX_TOKENS)
    pooling = modules.Pooling(shape.hidden, "mean")
    saved = SentenceTransformer(modules=[transformer, pooling, modules.Normalize()], device="cpu")
    saved.save(str(folder / "model"))
    return folder / "model"
