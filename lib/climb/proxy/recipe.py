"""The recipe of a training run: optimizer, schedule and arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from climb.errors import ConfigError
from climb.proxy.numerics import (
    Compile,
    Numerics,
    Precision,
    resolve_compile,
    resolve_precision,
)

LATER = {"omit_default": True}
"""Metadata of fields that were added to the class when recipes already had identifiers. Such a
field is not part of the identifier while it has its default value, so the identifiers of older
recipes do not change."""

POSITIVE = ("batch", "learning_rate", "micro_batch")
"""Numbers that must not be 0."""

SHARES = ("warmup_share", "final_share")
"""Numbers that must not be above 1."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimizer and schedule of a proxy: AdamW with warm-up, stable phase and decay.

    A base run warms up and then keeps the full learning rate, so that it ends in the stable phase.
    A continued run warms up again, and its rate decays linearly. CLIMB's proxies continue a
    checkpoint of the stable phase in the same way.

    Source:
        CLIMB (arXiv 2504.13161), section 4; the schedule: MiniCPM (arXiv 2404.06395).
    """

    sequence: int
    """Tokens of a training sequence, and maximum input of the model."""

    batch: int
    """Sequences per step."""

    learning_rate: float
    """The full learning rate, reached after the warm-up."""

    warmup_share: float = 0.1
    """Share of the steps in which the rate rises from 0, in base runs and continued runs. A
    continued run starts with a new optimizer state. With 0.42 M parameters, its final loss is 0.03
    nats higher without warm-up than with 15 % warm-up. Keeping the optimizer state of the
    base run, in addition to this warm-up, would lower the loss by less than a further 0.02 nats."""

    final_share: float = 0.0
    """Share of the full rate at the end of a continued run. Linear decay to zero: Defazio et al.,
    arXiv 2310.07831; Bergsma et al., arXiv 2502.15938."""

    weight_decay: float = 0.1
    """Weight decay of matrices; norms have none. GPT-3 (arXiv 2005.14165)."""

    beta2: float = 0.95
    """AdamW's beta2, from GPT-3; beta1 is 0.9."""

    max_gradient_norm: float = 1.0
    """Gradients are clipped to this norm. GPT-3."""

    precision: Precision = "auto"
    """float32: no bfloat16. bfloat16: matrix products in bfloat16, the residual stream in
    float32. bfloat16_weights: weights and activations in bfloat16, and float32 weights for the
    optimizer. auto: bfloat16_weights on a GPU, float32 on a CPU. The trained model always has
    float32 weights. GPUs before Ampere have no bfloat16 and need float32."""

    compile: Compile = field(default="auto", metadata=LATER)
    """eager: nothing is compiled. layers: each decoder layer, and the output layer with the loss,
    are compiled. step: the compiled step is captured as one CUDA graph; same as layers where the
    device or the architecture does not allow the capture. auto: eager on a CPU; on a GPU, step if
    the step is small, else layers."""

    deterministic: bool = field(default=True, metadata=LATER)
    """Whether equal runs have equal results, bit for bit, on a GPU. false allows kernels whose sums
    depend on the order in which threads finish, such as cuDNN's attention. A CPU is always
    deterministic."""

    micro_batch: int | None = field(default=None, metadata=LATER)
    """Sequences per forward and backward pass; gradients add up to those of the batch, in float32.
    Another value changes their rounding. null: the whole batch."""

    checkpoint_activations: bool = field(default=False, metadata=LATER)
    """Whether the backward pass computes the activations of each layer again. This needs less
    memory and more time."""

    def __post_init__(self) -> None:
        for field_ in fields(self):
            name, value = field_.name, getattr(self, field_.name)
            if not isinstance(value, (int, float)):
                continue
            least = 2 if name == "sequence" else 0
            is_valid = value > 0 if name in POSITIVE else value >= least
            if not is_valid or not math.isfinite(value):
                required = "above 0" if name in POSITIVE else f"at least {least}"
                raise ConfigError(
                    f"{type(self).__name__}.{name} is {value}; it must be finite and {required}"
                )
            if (name in SHARES and value > 1) or (name == "beta2" and value >= 1):
                limit = "at most" if name in SHARES else "below"
                raise ConfigError(f"{type(self).__name__}.{name} is {value}; it must be {limit} 1")

    def compute_rate(self, step: int, steps: int, continued: bool) -> float:
        """Compute the learning rate of a step.

        Args:
            step: counted from 0.
            steps: number of steps of the run.
            continued: whether the run continues a base checkpoint.
        """
        warmup = min(1.0, (step + 1) / max(1, round(self.warmup_share * steps)))
        decay = 1.0 - (1.0 - self.final_share) * step / steps if continued else 1.0
        return self.learning_rate * warmup * decay

    def resolve_numerics(self, model: Any) -> Numerics:
        """Return the arithmetic of a run of this model on its device."""
        return Numerics(
            precision=resolve_precision(self.precision, model.device.type),
            compile=resolve_compile(self.compile, model, self.batch * self.sequence),
            deterministic=self.deterministic,
            checkpoint_activations=self.checkpoint_activations,
        )
