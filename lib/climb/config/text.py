"""The sections from text to domains. No defaults here: every value stands in conf/default.yaml."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from climb.config.section import PluginSpec, Section


class IngestConfig(Section):
    """Which text is read, and what is kept of it."""

    inputs: tuple[str, ...]
    """Files, folders or globs: .parquet, .jsonl(.gz, .zst), .txt and .md (one document a file)."""

    text_column: str
    source_column: str | None
    """Column copied into `documents.source` and hashed into doc_id; null leaves source empty."""

    metadata_columns: tuple[str, ...]
    """Columns kept as metadata; no later decision looks at them."""

    min_chars: PositiveInt
    """Shorter documents, white space stripped, are rejected."""

    max_chars: PositiveInt
    """Longer documents are rejected."""

    max_invalid_share: float = Field(ge=0, le=1)
    """Invalid bytes or lone surrogates up to this share are replaced by U+FFFD; above, rejected."""

    skip_corrupt: bool
    """List unreadable files in `rejected` instead of stopping."""


class EmbedConfig(Section):
    """How a document becomes a vector."""

    embedder: PluginSpec
    batch_tokens: PositiveInt
    """Tokens of a batch, padding counted, where the embedder works in batches. Speed only: lower
    it where a GPU runs out of memory."""


class CountConfig(Section):
    """The tokenizer that token counts, shards and proxies share."""

    path: str | None
    """A tokenizer.json or a folder that holds one; null trains a byte-level BPE on the corpus."""

    vocab_size: PositiveInt
    """Vocabulary of the trained BPE. 1-2 k: the softmax dominates small proxies."""

    sample_documents: PositiveInt
    """Documents, lowest hash first, that the BPE is trained on."""


class ScorerTraining(Section):
    """How job train_scorer makes a scorer from labels."""

    labels: str | None
    """.parquet, .jsonl or .csv file with texts (or doc_ids of documents) and labels."""

    text_column: str
    label_column: str
    """Column of numbers, higher is better. CLIMB: 0 to 5."""

    trainer: PluginSpec
    output: str | None
    """Folder of the model; null means scorer/ beside the other files of the run."""


class ScoreConfig(Section):
    """Quality scores per document."""

    scorers: tuple[PluginSpec, ...]
    training: ScorerTraining


class ClusterConfig(Section):
    """K-means over the embeddings. CLIMB: K = 1000."""

    clusterer: PluginSpec
    k: PositiveInt
    sample_per_cluster: PositiveInt | None
    """Fit on a hash-sample of this many documents a cluster (>= 256); null fits on all."""

    seed: int


class PruneConfig(Section):
    """Which clusters go, and how the rest become domains."""

    thresholds: dict[str, float]
    """Score name -> smallest mean over a cluster's documents; a cluster below any of them goes."""

    keep_token_share: float | None = Field(gt=0, le=1)
    """Instead of thresholds: keep the best clusters by mean score up to this share of tokens."""

    merge_height: PositiveFloat | None
    """Ward height at which the dendrogram of kept centroids is cut. CLIMB, recipe: 1.5."""

    domains: PositiveInt | None
    """Wanted number of domains, instead of a height. CLIMB: 16 web domains."""

    weighted: bool
    """Weight centroids by the cluster's documents in the linkage; the recipe ignores sizes."""

    terms: PositiveInt
    """Distinctive terms listed per domain."""

    sample_documents: PositiveInt
    """Documents per cluster, lowest hash first, that terms and examples are taken from."""

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if (self.merge_height is None) == (self.domains is None):
            raise ValueError("set exactly one of merge_height and domains; the other is null")
        if self.keep_token_share is not None and self.thresholds:
            raise ValueError("set thresholds or keep_token_share, not both")
        return self
