"""All sections of the configuration. They have no defaults: values are in conf/default.yaml."""

from __future__ import annotations

from pathlib import Path
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

from climb.config.corpus import (
    ClusterConfig,
    CountConfig,
    EmbedConfig,
    IngestConfig,
    PruneConfig,
    ScoreConfig,
    ScorerTraining,
)
from climb.config.section import PluginSpec, Section
from climb.config.storage import SparkConfig, StorageConfig, TrackingConfig
from climb.mixture import Constraint, Constraints

__all__ = [
    "ClusterConfig",
    "Config",
    "CountConfig",
    "EmbedConfig",
    "ExportConfig",
    "IngestConfig",
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


class TargetTask(Section):
    """A target task: what proxies are evaluated on."""

    name: str
    kind: Literal["choices", "text"]
    """choices: JSON Lines of {context, choices, label}; text: JSON Lines of {text}."""

    search: str
    """File (.jsonl, .jsonl.gz) of the items that the search uses: train or validation items."""

    report: str | None
    """File of the items that only job train uses: test items."""

    limit: PositiveInt | None
    """Number of items used of each file, lowest hash first; null: all."""


class ProxyConfig(Section):
    """The small model that is trained once per mixture, and its target tasks."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of the base checkpoint, trained once on the natural mixture; trials continue it."""

    trial_tokens: PositiveInt
    """Tokens of each trial; the same number for every trial."""

    checkpoint_steps: PositiveInt
    """Training steps between two checkpoints of a run."""

    targets: tuple[TargetTask, ...]

    @field_validator("targets")
    @classmethod
    def _check_names(cls, value: tuple[TargetTask, ...]) -> tuple[TargetTask, ...]:
        for i, target in enumerate(value):
            for j, other in enumerate(value[:i]):
                if other.name == target.name:
                    raise ValueError(f"items {j} and {i} are both named {target.name!r}")
        return value


class SearchConfig(Section):
    """How mixtures are proposed, and how the recommendation is chosen."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """Key of this search in `trials` and `mixtures`: letters, digits, `_`, `.` and `-`."""

    objective: str
    """Metrics, weights, directions: `mean(*.bpb):min`, `0.7*arc.bpb:min + 0.3*piqa.bpb:min`."""

    trials_per_round: tuple[PositiveInt, ...] = Field(min_length=1)
    """Proxies trained in each round, without baselines. CLIMB: 64, 32, 16."""

    baselines: tuple[PluginSpec, ...] = Field(min_length=1)
    """Mixtures that are trained for comparison; the first is the reference of the verdict. See
    `climb.search.baselines`."""

    replicates: int = Field(ge=2)
    """Seeds with which each baseline and, at the end, the recommendation are trained. One seed
    shows no observation noise, so 2 is the minimum."""

    predictor: PluginSpec

    searcher: PluginSpec
    """Chooses the mixtures of every round, and the recommendation."""

    candidates: PositiveInt
    """Candidate mixtures that the predictor ranks in every round after the first, and for the
    recommendation."""

    scale: Literal["raw", "noise"]
    """raw: metrics enter the score in their own units. noise: each is divided by its standard
    deviation over seeds, so a metric with large observation noise counts less."""

    min_signal_to_noise: NonNegativeFloat
    """Smallest variance over mixtures / variance over seeds; a metric below it is reported as
    noise."""

    down_weight: bool
    """Whether the weight of a metric below `min_signal_to_noise` is multiplied by
    ratio / (1 + ratio)."""

    min_expected_gain: NonNegativeFloat | None
    """If a round is expected to raise the score by less than this, it and all later rounds are
    skipped; null: all rounds are trained. The estimate is low (docs/decisions/search.md)."""

    max_drop: NonNegativeFloat | None
    """Outcome constraint: how much worse than at the natural mixture a metric of the objective may
    be predicted, in its own unit; null: no constraint."""

    concentration: tuple[PositiveFloat, PositiveFloat]
    """Range of the Dirichlet strength, drawn log-uniformly; for K > 21 domains, times K / 21.
    NVIDIA's recipe: 0.1 to 5."""

    temperature: PositiveFloat
    """Mean of the Dirichlet draws: token share ^ temperature, normalized. NVIDIA's recipe: 0.5."""

    max_epochs: PositiveFloat | None
    """How often the target run may repeat a domain's tokens; null: no limit."""

    max_share_ratio: PositiveFloat | None
    """Largest weight as a multiple of the token share; null: no limit. RegMix and NVIDIA's recipe:
    15."""

    min_weight: NonNegativeFloat
    """Smallest weight that is not 0; smaller weights become 0. NVIDIA's recipe: 2e-4."""

    constraints: tuple[Constraint, ...]
    """Bounds and epoch limits of single domains, and bounds of groups of domains."""

    kl_penalty: NonNegativeFloat
    """Score subtracted per nat of KL divergence from the natural mixture; 0: none. Olmix: 0.05."""

    target_tokens: PositiveInt
    """Tokens of the target run, for which the mixture is searched; not of a proxy."""

    reuse_min_kept: PositiveFloat | None = Field(le=1.0)
    """Mixture reuse: a run of an earlier domain set is mapped to the current domains if at least
    this share of the text that it read is still in a domain; null: no reuse."""

    seed: NonNegativeInt

    @field_validator("concentration")
    @classmethod
    def _check_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(
                f"the range is {list(value)}; the first value must not exceed the second"
            )
        return value

    @model_validator(mode="after")
    def _check_constraints(self) -> Self:
        _ = self.mixture_constraints  # raises MixtureError, which is a ValueError
        return self

    @property
    def mixture_constraints(self) -> Constraints:
        """All constraints on mixtures that this section configures."""
        return Constraints(
            target_tokens=self.target_tokens,
            max_epochs=self.max_epochs,
            max_share_ratio=self.max_share_ratio,
            min_weight=self.min_weight,
            domain_constraints=self.constraints,
            kl_penalty=self.kl_penalty,
        )


class MixConfig(Section):
    """The mixed dataset."""

    tokens: PositiveInt | None
    """Tokens of the dataset; null: search.target_tokens."""

    export: str | None
    """Folder for a Parquet export with manifest and data card; null: <storage.root>/mixed."""


class ExportConfig(Section):
    """The mixture in the format of a trainer."""

    format: PluginSpec
    """The trainer's format; `climb export --to` sets it by its short name."""

    path: str | None
    """Folder of the export, which every node opens as a plain path; null: export/ in storage.files
    (or root)."""

    kind: Literal["mixed", "recipe"] | None
    """mixed: all documents in one order, as often as the mixture wants them. recipe: the documents
    of every domain once, and weights. null: what the format has as its default."""

    tokenizer: str | None
    """A tokenizer.json or a folder with one, for formats with tokens; null: that of job count."""

    end_of_text: str | None
    """Token that ends every document in formats with tokens; null: a usual one."""

    sequence_length: PositiveInt
    """Tokens of a training sequence, for formats that store it."""

    validation_share: float = Field(ge=0, le=0.5)
    """Share of the documents, by a hash of their ids, in the validation split."""


class TrainConfig(Section):
    """The target model, which tests the recommendation on items that the search did not use."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of its base checkpoint, trained once on the natural mixture; all runs continue it."""

    tokens: PositiveInt
    """Tokens of each run after the base checkpoint."""

    seeds: PositiveInt
    """Runs per mixture; an interval needs at least 2."""


class ReportConfig(Section):
    """The HTML report."""

    path: str | None
    """File to write; null: report.html in storage.files (or root)."""


class Config(Section):
    """The whole configuration of one run of climb."""

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
    export: ExportConfig
    train: TrainConfig
    report: ReportConfig

    @property
    def export_folder(self) -> Path:
        """Folder of the export."""
        return Path(self.export.path or self.storage.files_folder / "export").absolute()
