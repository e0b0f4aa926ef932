"""What the CSV commands say about runs of several model sizes and token counts."""

from __future__ import annotations

from climb.runs.sets import ScaleSummary
from climb.search.scale import MIN_LEVEL_RUNS
from climb.search.scale_curve import UNKNOWN
from climb.search.scale_dependence import MIN_PAIRS, Dependence

_WHAT = {"params": "model size", "tokens": "training tokens"}


def describe_scale(scale: ScaleSummary) -> list[str]:
    """Describe the target scale, the level there, and whether the best mixture depends on scale.

    The level is the part of a metric that all mixtures share.
    """
    sizes = ", ".join(f"{n} of {params:.3g} parameters" for params, n in scale.sizes)
    sizes = f" ({sizes})" if scale.target.params != UNKNOWN else ""
    lines = [
        f"All metrics are converted to {scale.target}, from {scale.n_rows} rows of "
        f"{scale.n_trials} trials{sizes}."
    ]
    level_std = scale.level_stds["score"]
    if level_std is None:
        lines.append(
            "The runs do not determine the level of the metrics at this scale: use only the "
            "differences between mixtures."
        )
    else:
        source = f"runs of this size: {scale.n_at_size}"
        if not scale.n_at_size:
            source = "extrapolation from other sizes"
        lines.append(
            f"The level of the score, the part that all mixtures share, is known to "
            f"±{level_std:.2g} ({source}); differences between mixtures do not contain this error."
        )
    stated = [d for d in scale.dependence if _is_stated(scale, d.axis)]
    return [*lines, *map(_describe_dependence, stated)]


def list_scale_steps(scale: ScaleSummary) -> list[str]:
    """List the few runs that would make predictions for the target scale more certain."""
    steps = []
    if not scale.has_level:
        steps.append(
            f"Train {max(MIN_LEVEL_RUNS - scale.n_at_size, 1)} mixtures of your runs again, with "
            f"{scale.target}: such runs determine the level of the metrics at this scale."
        )
    steps += [
        f"To learn whether the best mixture depends on {_WHAT[d.axis]}, measure {MIN_PAIRS} "
        f"mixtures at two scales each: with a small and with a large value of {_WHAT[d.axis]}."
        for d in scale.dependence
        if d.error_change is None and _is_stated(scale, d.axis)
    ]
    return steps


def _is_stated(scale: ScaleSummary, axis: str) -> bool:
    """Return whether the runs state their model size (axis `params`) or tokens (axis `tokens`)."""
    return (scale.target.params if axis == "params" else scale.target.tokens) != UNKNOWN


def _describe_dependence(dependence: Dependence) -> str:
    what, n = _WHAT[dependence.axis], dependence.n_mixtures
    if dependence.error_change is None:
        return (
            f"Whether the best mixture depends on {what} is unknown: {n} mixtures were measured at "
            f"two scales, but {MIN_PAIRS} are needed."
        )
    if dependence.is_beyond_noise:
        return (
            f"The best mixture depends on {what} beyond noise ({n} mixtures at two scales): train "
            f"proxies as near to the target's {what} as you can afford."
        )
    return f"No dependence of the best mixture on {what} was found beyond noise ({n} mixtures)."
