"""Configuration sections of the jobs `ingest` to `prune`. Their values are in conf/default.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from climb.config.section import PluginSpec, Section, check_path, check_plain_path
from climb.tokenizer import name_recipe


class IngestConfig(Section):
    """Which text is read, and which documents are kept."""

    inputs: tuple[str, ...]
    """Files, folders, globs or URIs of Parquet, JSON Lines, CSV, TSV, Arrow, .txt and .md (one
    document per file), and Delta tables: a folder, `delta:PATH` or `delta:catalog.schema.table`."""

    format: Literal["parquet", "jsonl", "csv", "tsv", "arrow", "text"] | None
    """Format of all files; null: by the file name extension."""

    text_column: str
    """Column of the text: a name, or the path of a field in structs, such as `doc.text`."""

    paragraph_separator: str
    """String between paragraphs if the text column contains lists of paragraphs."""

    source_column: str | None
    """Column copied to `documents.source` and hashed into doc_id; null: source is empty."""

    metadata_columns: tuple[str, ...]
    """Columns kept as metadata; no later job reads them. A partition in folder names (`lang=en/`)
    is a column too."""

    min_chars: PositiveInt
    """Documents with fewer characters, after stripping white space, are rejected."""

    max_chars: PositiveInt
    """Documents with more characters are rejected."""

    max_invalid_share: float = Field(ge=0, le=1)
    """Largest share of invalid bytes and lone surrogates in a document. They are replaced by
    U+FFFD; a document with a larger share is rejected."""

    skip_corrupt: bool
    """Whether an unreadable file is recorded in table `rejected`; false: it is an error."""

    remove_missing: bool
    """Whether documents that are no longer in the inputs are removed, with their rows in other
    tables."""

    zstd_window_log: int = Field(ge=10, le=31)
    """Base-2 logarithm of the largest accepted window of a Zstandard file, in bytes. A task may
    need as much memory as this window."""

    @field_validator("inputs")
    @classmethod
    def _check_inputs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_path(path) or path for path in value)


class EmbedConfig(Section):
    """How documents are embedded."""

    embedder: PluginSpec
    batch_tokens: PositiveInt | None
    """Maximum tokens of a batch, padding included. Embedders without this field ignore it. null: on
    a GPU, as many as fit into its memory; on a CPU, a fixed number. Changes the speed; on a GPU,
    also the last bits of a transformer's vectors."""


class CountConfig(Section):
    """The tokenizer that token counts, shards and proxies share."""

    path: str | None
    """A tokenizer.json, or a folder with one; null: a byte-level BPE is trained on the corpus."""

    vocab_size: PositiveInt
    """Vocabulary size of the trained BPE. For small proxies, use 1,000 to 2,000: the softmax
    dominates their cost."""

    sample_documents: PositiveInt
    """Number of documents that the BPE is trained on: those with the lowest hashes."""

    end_of_text: str | None
    """Token at the end of every document in shards. null: the first of
    `climb.tokenizer.USUAL_ENDS` (`<|endoftext|>`, `</s>`, ...) that is a special token of the
    tokenizer. If none is a special token, the first that is in the vocabulary."""

    @property
    def recipe(self) -> str:
        """Name of the tokenizer, the key of its token counts; see `climb.tokenizer.name_recipe`."""
        return name_recipe(self.path, self.vocab_size, self.sample_documents)


class ScorerTraining(Section):
    """How job train_scorer trains a scorer from labels."""

    labels: str | None
    """.parquet, .jsonl or .csv file with labels, and with texts or the doc_ids of documents."""

    text_column: str
    label_column: str
    """Column of numbers, higher is better. CLIMB: 0 to 5."""

    trainer: PluginSpec
    output: str | None
    """Folder of the model; null: scorer/ in storage.files (or root)."""

    _check_output = field_validator("output")(check_plain_path)


class ScoreConfig(Section):
    """Quality scores per document."""

    scorers: tuple[PluginSpec, ...]
    training: ScorerTraining


class ClusterConfig(Section):
    """K-means over the embeddings. CLIMB: K = 1000."""

    clusterer: PluginSpec
    k: PositiveInt
    sample_per_cluster: PositiveInt | None
    """Size of the sample to which centroids are fitted, in documents per cluster (256 or more are
    recommended). A hash selects the documents; null: all documents."""

    embeddings: Literal["all", "sample"]
    """Says which vectors are kept in table `embeddings`. all: those of all documents. sample: those
    of the sample; job `cluster` embeds and assigns the other documents in one pass. Both values
    give the same clusters and assignments (docs/clustering.md)."""

    seed: int

    refit: bool
    """Whether the centroids are fitted again if the embeddings have changed since the last fit.
    false: new documents are assigned to the existing clusters. `climb cluster --refit` sets it."""

    @model_validator(mode="after")
    def _check_sample(self) -> Self:
        if self.embeddings == "sample" and self.sample_per_cluster is None:
            raise ValueError(
                "embeddings is sample, but sample_per_cluster is null, which fits the centroids to "
                "all documents: set sample_per_cluster to a number, such as 512"
            )
        return self


class PruneConfig(Section):
    """Which clusters are pruned, and how the others are merged into domains."""

    thresholds: dict[str, float]
    """Score name -> smallest accepted mean over the documents of a cluster. A cluster with a lower
    mean is pruned."""

    keep_token_share: float | None = Field(gt=0, le=1)
    """Alternative to thresholds: clusters with the best mean scores are kept, until they contain at
    least this share of all tokens."""

    merge_height: PositiveFloat | None
    """Ward height at which the dendrogram of the kept centroids is cut. CLIMB and NVIDIA's recipe:
    1.5."""

    domains: PositiveInt | None
    """Number of domains; alternative to merge_height. CLIMB: 16 web domains."""

    min_domain_documents: PositiveInt
    """Minimum number of documents of a domain; a smaller group is merged into the nearest one."""

    names: str | None
    """YAML file with your names of domains: generated name -> new name; null: none."""

    weighted: bool
    """Whether the linkage weights each centroid in proportion to the number of documents of its
    cluster. false: all weights are equal, as in NVIDIA's recipe."""

    terms: PositiveInt
    """Number of distinctive terms per domain."""

    sample_documents: PositiveInt
    """Documents per cluster that provide terms and examples: those with the lowest hashes."""

    @model_validator(mode="after")
    def _check_alternatives(self) -> Self:
        if (self.merge_height is None) == (self.domains is None):
            raise ValueError(
                "set one of merge_height and domains to a number, and the other to null"
            )
        if self.keep_token_share is not None and self.thresholds:
            raise ValueError(
                "thresholds and keep_token_share are both set: set thresholds to {}, or "
                "keep_token_share to null"
            )
        return self
