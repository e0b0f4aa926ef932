"""All sections of the configuration. Their values are in conf/default.yaml."""

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

from climb.config.compare import AblateConfig, CompareConfig
from climb.config.corpus import (
    ClusterConfig,
    CountConfig,
    EmbedConfig,
    IngestConfig,
    PruneConfig,
    ScoreConfig,
    ScorerTraining,
)
from climb.config.dataset import ExportConfig, MixConfig
from climb.config.proxy import ProxyConfig, TargetTask
from climb.config.results import DoremiConfig, ReportConfig, TrainConfig
from climb.config.section import PluginSpec, Replicates, Section
from climb.config.storage import SparkConfig, StorageConfig, TrackingConfig
from climb.config.upkeep import ContaminationConfig, MaintainConfig, RemoveConfig
from climb.mixture import Constraint, Constraints

__all__ = [
    "AblateConfig",
    "ClusterConfig",
    "CompareConfig",
    "Config",
    "ContaminationConfig",
    "CountConfig",
    "DoremiConfig",
    "EmbedConfig",
    "ExportConfig",
    "IngestConfig",
    "MaintainConfig",
    "MixConfig",
    "PluginSpec",
    "ProxyConfig",
    "PruneConfig",
    "RemoveConfig",
    "ReportConfig",
    "RungConfig",
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


class RungConfig(Section):
    """A rung of successive halving; see `climb.search.halving`."""

    share: PositiveFloat = Field(lt=1.0)
    """Share of `proxy.trial_tokens` after which the trials of a round are measured."""

    keep: PositiveFloat = Field(lt=1.0)
    """Share of the trials measured at this rung that continue: those with the best scores."""


class SearchConfig(Section):
    """How mixtures are proposed, and how the recommendation is chosen."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """Key of this search in `trials` and `mixtures`: letters, digits, `_`, `.` and `-`."""

    objective: str
    """Metrics with weights and directions: `mean(*.bpb):min`,
    `0.7*arc.bpb:min + 0.3*piqa.bpb:min`."""

    trials_per_round: tuple[PositiveInt, ...] = Field(min_length=1)
    """Proxies trained in each round, without baselines. CLIMB: 64, 32, 16."""

    halving: tuple[RungConfig, ...]
    """Rungs of successive halving in each round, by rising share; empty: all trials are trained in
    full. Replicates of baselines and of the recommendation are never stopped."""

    baselines: tuple[PluginSpec, ...] = Field(min_length=1)
    """Mixtures that are trained for comparison; the first is the reference baseline. See
    `climb.search.baselines`."""

    replicates: Replicates
    """Number of seeds for each baseline, and for the recommendation at the end: 0, or at least 2.
    0: these mixtures are predicted, and not trained. 1 is refused, because one seed shows no
    observation noise."""

    predictor: PluginSpec

    searcher: PluginSpec
    """Chooses the mixtures of every round, and the recommendation."""

    fidelities: tuple[PluginSpec, ...]
    """Cheap estimates of the metrics (`climb.fidelity`). They help the predictor, and select the
    draws of the first round."""

    candidates: PositiveInt
    """Random mixtures that the predictor ranks in every round after the first, and for the
    recommendation. A searcher may add mixtures of its own."""

    scale: Literal["raw", "noise"]
    """raw: metrics enter the score in their own units. noise: each metric is divided by its
    standard deviation over seeds, so large observation noise lowers its weight."""

    min_signal_to_noise: NonNegativeFloat
    """Smallest accepted signal-to-noise ratio: variance over mixtures / variance over seeds. A
    metric with a lower ratio is reported as mostly noise."""

    down_weight: bool
    """Whether the weight of a metric below `min_signal_to_noise` is multiplied by
    ratio / (1 + ratio)."""

    min_expected_gain: NonNegativeFloat | None
    """If the expected gain of a round is below this, the round and all later rounds are skipped;
    null: all rounds are trained. The expected gain is biased low (docs/decisions/search.md)."""

    max_drop: NonNegativeFloat | None
    """Outcome constraint: no metric of the objective may be predicted worse than at the natural
    mixture by more than this, in the unit of the metric; null: no constraint."""

    concentration: tuple[PositiveFloat, PositiveFloat]
    """Range of the sum of the Dirichlet parameters, drawn log-uniformly; multiplied by K / 21 for
    K > 21 domains. NVIDIA's recipe: 0.1 to 5."""

    temperature: PositiveFloat
    """Exponent of token shares: the mean of the Dirichlet draws is token share ^ temperature,
    normalized. NVIDIA's recipe: 0.5."""

    max_epochs: PositiveFloat | None
    """Largest number of times that the target run reads the tokens of a domain; null: no limit."""

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
    """Tokens of the target run, the training run for which the mixture is searched."""

    reuse_min_kept: PositiveFloat | None = Field(le=1.0)
    """Mixture reuse: a run of an earlier domain set is mapped to the current domains if at least
    this share of its text is still in a domain; null: no reuse."""

    seed: NonNegativeInt

    @field_validator("concentration")
    @classmethod
    def _check_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(
                f"the range is {list(value)}; the first value must not exceed the second"
            )
        return value

    @field_validator("halving")
    @classmethod
    def _check_rungs(cls, value: tuple[RungConfig, ...]) -> tuple[RungConfig, ...]:
        shares = [rung.share for rung in value]
        if shares != sorted(set(shares)):
            raise ValueError(
                f"the shares are {shares}; each share must be larger than the share before it"
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
    doremi: DoremiConfig
    mix: MixConfig
    export: ExportConfig
    train: TrainConfig
    report: ReportConfig
    remove: RemoveConfig
    maintain: MaintainConfig
    contamination: ContaminationConfig
    compare: CompareConfig
    ablate: AblateConfig

    @property
    def export_folder(self) -> Path:
        """Folder of the export."""
        return Path(self.export.path or self.storage.files_folder / "export").absolute()
