"""Configuration sections `train`, `doremi` and `report`. Their values are in conf/default.yaml."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from climb.config.section import PluginSpec, Section, check_plain_path


class TrainConfig(Section):
    """The target model, which tests the recommendation on items that the search does not use."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of its base checkpoint, trained once on the natural mixture; all runs continue it."""

    tokens: PositiveInt
    """Tokens of each run after the base checkpoint."""

    seeds: PositiveInt
    """Runs per mixture; an interval needs at least 2."""

    processes: PositiveInt
    """Number of processes that train a model or its base checkpoint together: one for each GPU, or
    for each core. Each computes a part of every batch. Models trained with another number have
    other names, because the number changes the rounding of gradients."""

    curve_steps: PositiveInt
    """Training steps between two rows of table `learning_curves`."""

    evaluate_steps: PositiveInt | None
    """Training steps between two evaluations on the report items, for the learning curves; null:
    each model is evaluated only at its end."""

    keep_models: bool
    """Whether trained models are kept: a Hugging Face folder with a model card for each, in
    models/targets below storage.files."""


class DoremiConfig(Section):
    """DoReMi (arXiv 2305.10429): a mixture from two models, without targets. It is computed by job
    doremi, and by job `search` if `search.baselines` has `climb.search.baselines:DoremiMixture`."""

    trials: PositiveInt | None
    """Budget: the reference model and the proxy together have the tokens of this many trials, half
    each. null: the sum of `search.trials_per_round`."""

    step_size: PositiveFloat
    """Factor of the excess loss, in nats, in the exponent of the weights. The paper: 1."""

    smoothing: PositiveFloat = Field(lt=1.0)
    """Share of the uniform mixture in the weights of each step. The paper: 1e-3."""

    seed: NonNegativeInt

    def count_trials(self, trials_per_round: Sequence[int]) -> int:
        """Return the budget in trials, for a search with these rounds."""
        return self.trials or sum(trials_per_round)


class ReportConfig(Section):
    """The HTML report."""

    path: str | None
    """File to write; null: report.html in storage.files (or root)."""

    _check_path = field_validator("path")(check_plain_path)
