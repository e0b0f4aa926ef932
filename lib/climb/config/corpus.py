"""Sections from text to domains. They have no defaults: values are in conf/default.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from climb.config.section import PluginSpec, Section
from climb.tokenizer import name_recipe


class IngestConfig(Section):
    """Which text is read, and which documents are kept."""

    inputs: tuple[str, ...]
    """Files, folders, globs or URIs of Parquet, JSON Lines, CSV, TSV, Arrow, .txt and .md (one
    document a file); Delta tables by folder, or as `delta:PATH` or `delta:catalog.schema.table`."""

    format: Literal["parquet", "jsonl", "csv", "tsv", "arrow", "text"] | None
    """Format of all files; null: by the ending of their names."""

    text_column: str
    """Column of the text: a name, or a path into structs such as `doc.text`."""

    paragraph_separator: str
    """Joins the paragraphs of a text column of lists."""

    source_column: str | None
    """Column copied to `documents.source` and hashed into doc_id; null: source is empty."""

    metadata_columns: tuple[str, ...]
    """Columns kept as metadata; no later step reads them. Parts of folder names (`lang=en/`) are
    columns too."""

    min_chars: PositiveInt
    """Documents with fewer characters, after stripping white space, are rejected."""

    max_chars: PositiveInt
    """Documents with more characters are rejected."""

    max_invalid_share: float = Field(ge=0, le=1)
    """Invalid bytes and lone surrogates up to this share are replaced by U+FFFD; a document with
    more is rejected."""

    skip_corrupt: bool
    """Record unreadable files in table `rejected` instead of stopping."""

    remove_missing: bool
    """Remove documents that are no longer in the inputs, and all that was computed from them."""

    zstd_window_log: int = Field(ge=10, le=31)
    """Largest window of a Zstandard file, as a power of two of bytes; a task may need as much
    memory for it."""


class EmbedConfig(Section):
    """How documents are embedded."""

    embedder: PluginSpec
    batch_tokens: PositiveInt | None
    """Tokens of a batch including padding, for embedders that work in batches; null: as many as fit
    the device. Changes the speed, and on a GPU the last bits of a transformer's vectors."""


class CountConfig(Section):
    """The tokenizer that token counts, shards and proxies share."""

    path: str | None
    """A tokenizer.json or a folder with one; null trains a byte-level BPE on the corpus."""

    vocab_size: PositiveInt
    """Vocabulary of the trained BPE. Small proxies use 1-2 k: the softmax dominates their cost."""

    sample_documents: PositiveInt
    """Number of documents, lowest hash first, that the BPE is trained on."""

    end_of_text: str | None
    """Token that ends every document in shards; null: `<|endoftext|>`, `</s>` or another usual
    one (`climb.tokenizer.USUAL_ENDS`)."""

    @property
    def recipe(self) -> str:
        """Name of the tokenizer: the key of its counts; see `climb.tokenizer.name_recipe`."""
        return name_recipe(self.path, self.vocab_size, self.sample_documents)


class ScorerTraining(Section):
    """How job train_scorer trains a scorer from labels."""

    labels: str | None
    """.parquet, .jsonl or .csv file with texts (or doc_ids of documents) and labels."""

    text_column: str
    label_column: str
    """Column of numbers, higher is better. CLIMB: 0 to 5."""

    trainer: PluginSpec
    output: str | None
    """Folder of the model; null: scorer/ in storage.files (or root)."""


class ScoreConfig(Section):
    """Quality scores per document."""

    scorers: tuple[PluginSpec, ...]
    training: ScorerTraining


class ClusterConfig(Section):
    """K-means over the embeddings. CLIMB: K = 1000."""

    clusterer: PluginSpec
    k: PositiveInt
    sample_per_cluster: PositiveInt | None
    """Documents per cluster in the sample, chosen by hash, to which centroids are fitted (256 or
    more are recommended); null: all documents."""

    seed: int


class PruneConfig(Section):
    """Which clusters are pruned, and how the others are merged into domains."""

    thresholds: dict[str, float]
    """Score name -> smallest mean over a cluster's documents. A cluster below any is pruned."""

    keep_token_share: float | None = Field(gt=0, le=1)
    """Instead of thresholds: keep the clusters with the best mean scores, until they contain at
    least this share of all tokens."""

    merge_height: PositiveFloat | None
    """Ward height at which the dendrogram of kept centroids is cut. CLIMB and
    NVIDIA's recipe: 1.5."""

    domains: PositiveInt | None
    """Number of domains, instead of a height. CLIMB: 16 web domains."""

    min_domain_documents: PositiveInt
    """Minimum number of documents of a domain; a smaller group is merged into the nearest one."""

    names: str | None
    """YAML file of own names: a mapping from the generated name of a domain to the new one; null:
    none."""

    weighted: bool
    """Weight centroids in the linkage by the cluster's documents; NVIDIA's recipe
    ignores sizes."""

    terms: PositiveInt
    """Distinctive terms listed per domain."""

    sample_documents: PositiveInt
    """Documents per cluster, lowest hash first, that provide terms and examples."""

    @model_validator(mode="after")
    def _check_alternatives(self) -> Self:
        if (self.merge_height is None) == (self.domains is None):
            raise ValueError(
                "set one of merge_height and domains to a number, and the other to null"
            )
        if self.keep_token_share is not None and self.thresholds:
            raise ValueError("set thresholds or keep_token_share, not both")
        return self
