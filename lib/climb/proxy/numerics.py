"""The arithmetic of a training run: precision, compilation and determinism are part of its recipe.

`auto` depends on the kind of device, on the model and on the tokens of a step, never on the
machine. So equal recipes have equal metrics on one kind of device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Precision = Literal["auto", "float32", "bfloat16", "bfloat16_weights"]
Compile = Literal["auto", "eager", "layers", "step"]

MAX_STEP_WORK = 4 * 10**12
"""`auto` captures a step as a CUDA graph if the number of parameters, times the number of tokens of
the step, is at most this. The kernels of a small step take less time than their launches. Even a
step of 32,768 tokens is small in this sense if the model has 69 M parameters in 32 narrow layers
(docs/decisions/proxies.md)."""

CAPTURED_ARCHITECTURES = ("llama",)
"""Architectures whose step can be captured, because their forward pass never waits for the GPU."""


@dataclass(frozen=True)
class Numerics:
    """The arithmetic of a run, with every `auto` replaced."""

    precision: Literal["float32", "bfloat16", "bfloat16_weights"]
    compile: Literal["eager", "layers", "step"]
    deterministic: bool
    checkpoint_activations: bool


def resolve_precision(
    precision: Precision, device: str
) -> Literal["float32", "bfloat16", "bfloat16_weights"]:
    """Replace `auto`: bfloat16_weights on a GPU, float32 on a CPU.

    Args:
        precision: precision of the recipe.
        device: `cpu`, `cuda:0`, ...
    """
    if precision != "auto":
        return precision
    return "bfloat16_weights" if device.startswith("cuda") else "float32"


def resolve_compile(
    compile: Compile, model: Any, n_tokens: int
) -> Literal["eager", "layers", "step"]:
    """Replace `auto`: eager on a CPU; on a GPU `step` for a small step, otherwise `layers`.

    Where the step cannot be captured, `step` becomes `layers`.

    Args:
        compile: compilation of the recipe.
        model: a transformers causal language model, on its device.
        n_tokens: tokens of a step.
    """
    is_cuda = model.device.type == "cuda"
    if compile == "step" and not (is_cuda and is_capturable(model)):
        return "layers"
    if compile != "auto":
        return compile
    if not is_cuda:
        return "eager"
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    is_small = n_parameters * n_tokens <= MAX_STEP_WORK
    return "step" if is_small and is_capturable(model) else "layers"


def is_capturable(model: Any) -> bool:
    """Whether a CUDA graph can hold the model's step.

    Such a step must not wait for the GPU or draw random numbers.
    """
    is_supported = getattr(model.config, "model_type", None) in CAPTURED_ARCHITECTURES
    return is_supported and not getattr(model.config, "attention_dropout", 0.0)
