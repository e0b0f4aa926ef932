"""The whole configuration. No defaults here: every value stands in conf/default.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from climb.config.limits import LimitConfig
from climb.config.section import PluginSpec, Section
from climb.config.text import (
    ClusterConfig,
    CountConfig,
    EmbedConfig,
    IngestConfig,
    PruneConfig,
    ScoreConfig,
    ScorerTraining,
)
from climb.errors import MixtureError
from climb.files import is_uri
from climb.limits import Limits

__all__ = [
    "ClusterConfig",
    "Config",
    "CountConfig",
    "EmbedConfig",
    "IngestConfig",
    "LimitConfig",
    "MixConfig",
    "PluginSpec",
    "ProxyConfig",
    "PruneConfig",
    "ReportConfig",
    "ScoreConfig",
    "ScorerTraining",
    "SearchConfig",
    "Section",
    "SparkConfig",
    "StorageConfig",
    "TargetTask",
    "TrackingConfig",
    "TrainConfig",
]


class StorageConfig(Section):
    """Where the tables and files live."""

    root: str
    """Folder or URI of the tables (a path, s3://, abfss://, /Volumes/...)."""

    files: str | None
    """Folder for shards, checkpoints and reports that every node opens as a plain path (NFS,
    /Volumes, /dbfs); null means root, which must then be such a path itself."""

    catalog: str | None
    """`catalog.schema` to name tables in a catalog instead of by path."""

    commit_documents: PositiveInt
    """Documents per commit of count, embed and score: what a crash can cost at most."""

    @model_validator(mode="after")
    def _files_have_a_path(self) -> Self:
        if self.files is None and is_uri(self.root):
            raise ValueError(
                f"root is the URI {self.root!r}; proxies read shards as plain files: "
                "set storage.files to a folder that every node mounts"
            )
        return self


class SparkConfig(Section):
    """The session that climb starts when nobody hands it one; clusters set these themselves."""

    shuffle_partitions: PositiveInt
    """Partitions of a shuffle. No result depends on it."""

    driver_memory: str
    """Heap of the driver JVM on one machine, as Spark writes sizes."""

    parallel_trials: PositiveInt | None
    """Trials in flight at once; null means one per slot that the cluster has (GPUs, else cores)."""


class TrackingConfig(Section):
    """The MLflow mirror of the tables."""

    enabled: bool
    uri: str | None
    """MLflow tracking URI; null means an sqlite file under storage.root (local roots only)."""

    experiment: str


class TargetTask(Section):
    """Something a proxy is measured on."""

    name: str
    kind: Literal["choices", "text"]
    """choices: JSON Lines of {context, choices, label}; text: JSON Lines of {text}."""

    search: str
    """File (.jsonl, .jsonl.gz) whose items the search sees: train or validation items."""

    report: str | None
    """File whose items only `train` sees: test items."""

    limit: PositiveInt | None
    """Items used of each file, lowest hash of the item first; null uses all."""


class ProxyConfig(Section):
    """The small model that is trained once per mixture, and what it is measured on."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of the shared base, trained once on natural proportions; every trial continues it."""

    trial_tokens: PositiveInt
    """Tokens of each trial. Every trial sees the same number."""

    checkpoint_steps: PositiveInt
    """Steps between two checkpoints of a run."""

    targets: tuple[TargetTask, ...]


class SearchConfig(Section):
    """How mixtures are proposed, and how the answer is chosen."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """Key of this search in `trials` and `mixtures`: letters, digits, `_`, `.` and `-`."""

    objective: str
    """Metrics, weights, directions: `mean(*.bpb):min`, `0.7*arc.bpb:min + 0.3*piqa.bpb:min`."""

    trials_per_round: tuple[PositiveInt, ...] = Field(min_length=1)
    """Proxies trained in each round, anchors apart. CLIMB: 64, 32, 16."""

    anchor_seeds: int = Field(ge=2)
    """Seeds with which natural, uniform and, at the end, the answer are each trained; one seed
    alone says nothing about its noise."""

    predictor: PluginSpec

    searcher: PluginSpec
    """What chooses the mixtures of every round, and the answer."""

    candidates: PositiveInt
    """Mixtures that the predictor ranks before every round after the first, and for the answer."""

    scale: Literal["raw", "noise"]
    """raw: metrics enter the score in their own units; noise: each divided by its deviation over
    seeds, so that a metric counts by what a run can tell of it."""

    min_signal: NonNegativeFloat
    """Variance over mixtures / variance over seeds under which a metric is named as noise."""

    down_weight: bool
    """Whether such a metric also counts less, by ratio / (1 + ratio)."""

    stop_below: NonNegativeFloat | None
    """A round expected to raise the answer's score by less than this is not trained, nor are those
    after it; null: all rounds are trained. The expectation errs low (DECISIONS.md)."""

    max_drop: NonNegativeFloat | None
    """No metric of the objective may be predicted worse than at natural proportions by more than
    this, in its own unit; null: only the score counts."""

    concentration: tuple[PositiveFloat, PositiveFloat]
    """Range of the Dirichlet strength, drawn log-uniformly. NVIDIA's recipe: 0.1 to 5."""

    temperature: PositiveFloat
    """Prior = token share ^ temperature, normalised. NVIDIA's recipe: 0.5."""

    max_epochs: PositiveFloat
    """How often the target run may repeat a domain's tokens."""

    max_share_ratio: PositiveFloat | None
    """Largest weight as a multiple of the token share. RegMix, recipe: 15; null: no limit."""

    min_weight: NonNegativeFloat
    """Weights under this become 0. NVIDIA's recipe: 2e-4."""

    limits: tuple[LimitConfig, ...]
    """Floors, caps and epochs of single domains, and of groups of domains."""

    pull: NonNegativeFloat
    """Score taken off per nat of KL divergence from natural proportions; 0: none. Olmix: 0.05."""

    target_tokens: PositiveInt
    """Tokens of the run the mixture is for, not of a proxy."""

    carry_min_kept: PositiveFloat | None = Field(le=1.0)
    """Runs of earlier domains are used, said in the present ones, where at least this share of the
    text that they read is still in some domain; null uses none."""

    seed: NonNegativeInt

    @field_validator("concentration")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the range is {list(value)}; the first must not exceed the second")
        return value

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        try:
            Limits.of(self)
        except MixtureError as error:
            raise ValueError(str(error)) from error
        return self


class MixConfig(Section):
    """The mixed dataset."""

    tokens: PositiveInt | None
    """Tokens of the dataset; null means search.target_tokens."""

    export: str | None
    """Folder for a Parquet export with manifest and data card; null means <storage.root>/mixed."""


class TrainConfig(Section):
    """The larger model that tests the answer on items the search never saw."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of its own base on natural proportions, trained once; all mixtures continue it."""

    tokens: PositiveInt
    """Tokens of each run after the base."""

    seeds: PositiveInt
    """Runs per mixture; at least 2 to have an interval."""


class ReportConfig(Section):
    """The HTML report."""

    path: str | None
    """File to write; null means report.html below storage.files (or root)."""


class Config(Section):
    """One run of climb, whole."""

    storage: StorageConfig
    spark: SparkConfig
    tracking: TrackingConfig
    ingest: IngestConfig
    embed: EmbedConfig
    count: CountConfig
    score: ScoreConfig
    cluster: ClusterConfig
    prune: PruneConfig
    proxy: ProxyConfig
    search: SearchConfig
    mix: MixConfig
    train: TrainConfig
    report: ReportConfig
