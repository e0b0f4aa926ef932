"""What the CSV commands say about runs of several model sizes and token counts."""

from __future__ import annotations

from climb.runs.sets import ScaleSummary
from climb.search.scale import MIN_LEVEL_RUNS
from climb.search.scale_dependence import MIN_PAIRS, Dependence

_WHAT = {"params": "model size", "tokens": "training tokens"}


def describe_scale(scale: ScaleSummary) -> list[str]:
    """Describe the target scale, its level, and whether the best mixture depends on the scale."""
    sizes = ", ".join(f"{n} of {params:.3g} parameters" for params, n in scale.sizes)
    lines = [
        f"Everything is expressed at {scale.target}, from {scale.n_rows} rows of {scale.n_trials} "
        f"trials ({sizes})."
    ]
    if scale.level_std is None:
        lines.append(
            "The runs do not determine the level of the score at this size, only differences "
            "between mixtures."
        )
    else:
        source = f"{scale.n_at_size} runs of this size"
        if not scale.n_at_size:
            source = "extrapolation from other sizes"
        lines.append(
            f"The level of the score is known to ±{scale.level_std:.2g} ({source}); differences "
            "between mixtures do not contain this error."
        )
    return [*lines, *map(_describe_dependence, scale.dependence)]


def list_scale_steps(scale: ScaleSummary) -> list[str]:
    """List the few runs that would make predictions for the target scale more certain."""
    steps = []
    if not scale.has_level:
        steps.append(
            f"Train {MIN_LEVEL_RUNS - scale.n_at_size} of these mixtures with "
            f"{scale.target.params:.3g} parameters: they determine the level of the score there."
        )
    return steps


def _describe_dependence(dependence: Dependence) -> str:
    what, n = _WHAT[dependence.axis], dependence.n_mixtures
    if dependence.error_change is None:
        return (
            f"Whether the best mixture depends on {what} is unknown: {n} mixtures were measured at "
            f"two scales, {MIN_PAIRS} are needed."
        )
    if dependence.is_beyond_noise:
        advice = "match the target" if dependence.axis == "params" else "train to the target's"
        return (
            f"The best mixture depends on {what} beyond noise ({n} mixtures at two scales): "
            f"{advice} as nearly as you can."
        )
    return f"No dependence of the best mixture on {what} was found beyond noise ({n} mixtures)."
