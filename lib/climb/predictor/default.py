"""The default predictor: a stack per metric for few metrics, pooled fits for many.

Axes: T trials, K domains, Q metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

from climb.predictor import Array, ExtraFeatures, Predict
from climb.predictor.metrics import DomainGroups, MetricsPredict, fit_separately
from climb.predictor.pooled import PooledPredictor
from climb.predictor.stack import StackPredictor


@dataclass(frozen=True, kw_only=True)
class DefaultPredictor:
    """`StackPredictor` for few metrics, `PooledPredictor` for many.

    Source:
        docs/decisions/predictor.md: on RegMix's 13 losses, stack and pooled fits have equal rank
        correlations, and the stack has equal or lower regret. On Olmix's 110 metrics, pooled fits
        are faster.
    """

    many_metrics: int = 24
    """Smallest number of metrics for which the fits are pooled."""

    def fit(
        self, weights_TK: Array, values_T: Array, noise_T: Array, extra: ExtraFeatures | None = None
    ) -> Predict:
        """Fit one metric of T trials; see `climb.predictor.Predictor`."""
        return StackPredictor().fit(weights_TK, values_T, noise_T, extra)

    def fit_metrics(
        self,
        weights_TK: Array,
        values_TQ: Array,
        noise_TQ: Array,
        domain_groups: DomainGroups = (),
    ) -> MetricsPredict:
        """Fit all metrics of T trials; see `climb.predictor.metrics.MetricsPredictor`."""
        if values_TQ.shape[1] >= self.many_metrics:
            return PooledPredictor().fit_metrics(weights_TK, values_TQ, noise_TQ, domain_groups)
        return fit_separately(self, weights_TK, values_TQ, noise_TQ)
