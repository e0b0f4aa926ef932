"""Number of parameters of each configured model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from climb.config import Config
from climb.config.section import PluginSpec
from climb.errors import ConfigError, PreflightError
from climb.files import resolve

SIZE = re.compile(r"(?<![a-zA-Z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-zA-Z0-9])", re.IGNORECASE)
"""A size in a path, such as 350m or 1.5B."""

UNGATED = frozenset(
    {"bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra", "camembert"}
)
"""Values of `model_type` for models whose feed-forward layers have two matrices. The feed-forward
layers of other models have three."""


@dataclass(frozen=True)
class ModelSize:
    """Number of parameters, and where it comes from."""

    parameters: float
    source: str


def count_parameters(
    key: str, spec: PluginSpec, vocabulary: int, given: Mapping[str, float]
) -> ModelSize:
    """Count the parameters of a model.

    The first of these that exists is used: the given number, the configured shape, the file
    config.json in the model's folder, the last size in the folder's path.

    Args:
        key: key of the model in the configuration.
        spec: the plug-in.
        vocabulary: number of token ids, for a model that has no folder.
        given: key -> number of parameters.

    Raises:
        ConfigError: none of these exists.
    """
    if key in given:
        return ModelSize(given[key], f"--parameters {key}")
    if {"hidden", "layers"} <= spec.keys():
        return ModelSize(_count_shape(spec, vocabulary), f"the shape in {key}")
    path = str(spec.get("model", ""))
    shape = _read_shape(path)
    if shape is not None:
        size = _count_shape(shape, int(shape["vocabulary"]))
        return ModelSize(size, f"config.json in {path}")
    sizes = SIZE.findall(re.sub(r"[_/-]", " ", path))
    if not sizes:
        raise ConfigError(
            f"{key}: the number of parameters of {path or spec.get('use')!r} is unknown: it is not "
            "in the configuration, in config.json of the model's folder, or in the path; "
            f"set it with --parameters {key}=3.5e8"
        )
    number, unit = sizes[-1]
    scale = 1e9 if unit in "bB" else 1e6
    return ModelSize(float(number) * scale, f"the path {path}")


def _count_shape(shape: Mapping[str, Any], vocabulary: int) -> float:
    """Count the parameters of a `LlamaProxy`, or of a model with the shape in a config.json."""
    hidden, layers = int(shape["hidden"]), int(shape["layers"])
    inner = shape.get("feed_forward") or -(-8 * hidden // 3 // 8) * 8
    matrices = 1 if shape.get("tied", True) else 2
    inner_matrices = shape.get("inner_matrices", 3)
    per_layer = 4 * hidden**2 + inner_matrices * hidden * inner
    return float(matrices * vocabulary * hidden + layers * per_layer)


def _read_shape(path: str) -> dict[str, Any] | None:
    """Read hidden size, layers and vocabulary from the folder of a model, if it exists."""
    try:
        values = json.loads((resolve(path) / "config.json").read_text(encoding="utf-8"))
        return {
            "hidden": values["hidden_size"],
            "layers": values["num_hidden_layers"],
            "feed_forward": values.get("intermediate_size"),
            "inner_matrices": 2 if values.get("model_type") in UNGATED else 3,
            "tied": values.get("tie_word_embeddings", True),
            "vocabulary": values["vocab_size"],
        }
    except (OSError, ValueError, KeyError, PreflightError):
        return None


def count_vocabulary(cfg: Config) -> int:
    """Return the number of token ids; if count.path is set, assume 2^17."""
    return cfg.count.vocab_size if cfg.count.path is None else 1 << 17
