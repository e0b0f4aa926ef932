"""conf/default.yaml < the file given by --conf < --set section.key=value, all mistakes at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from climb.config.sections import Config
from climb.errors import ConfigError, one_line

REPLACED = ("thresholds",)
"""Mappings that a file, or `--set prune.thresholds={...}`, replaces whole: whoever names thresholds
says which there are. `--set prune.thresholds.rules=2` changes one of them."""


def conf_folder() -> Path:
    """The folder of default.yaml: beside the package in a wheel, conf/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def load(path: str | Path | None = None, settings: Sequence[str] = ()) -> Config:
    """Read the configuration.

    Args:
        path: a YAML file that changes some keys of conf/default.yaml; None changes nothing.
        settings: `section.key=value` strings, values in YAML, applied last.

    Raises:
        ConfigError: a file or value that cannot be read, unknown keys, wrong values; all of them
            at once, each with the key's path.
    """
    values = _read_yaml(conf_folder() / "default.yaml")
    if path is not None:
        values = _merge(values, _read_yaml(Path(path)), REPLACED)
    for setting in settings:
        key = setting.partition("=")[0]
        whole = REPLACED if key.endswith(REPLACED) else ()
        values = _merge(values, _parse_setting(setting), whole)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, values) for item in error.errors()]
        where = f" in {path}" if path is not None else ""
        raise ConfigError("; ".join([f"configuration{where}: {lines[0]}", *lines[1:]])) from error


def resolved_yaml(cfg: Config) -> str:
    """The whole configuration as YAML, in the order of the sections."""
    return yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = one_line(error)
        raise ConfigError(f"configuration file {path} is not YAML: {text}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration file {path} must hold sections, not a {type(values).__name__}"
        )
    return values


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {setting!r} must look like section.key=value")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not YAML") from error
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def _merge(
    below: Mapping[str, Any], above: Mapping[str, Any], replaced: Sequence[str]
) -> dict[str, Any]:
    """Lay one mapping over another; a plug-in spec of another class replaces the whole spec.

    So does a mapping under a key in `replaced`.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        other_class = (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and ("use" in value and value["use"] != old.get("use"))
        )
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not other_class:
            merged[key] = dict(value) if key in replaced else _merge(old, value, replaced)
        else:
            merged[key] = value
    return merged


def _explain(item: Any, values: Mapping[str, Any]) -> str:
    """One mistake in one clause: the key's path, what is wrong, and the nearest known key."""
    loc = [str(part) for part in item["loc"]]
    path = ".".join(loc)
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(loc[-1], _siblings(loc), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {_siblings(loc)}"
        return f"unknown key {path}{hint}"
    if item["type"] == "value_error":
        return f"{path}: {item['ctx']['error']}"
    if item["type"] == "missing":
        return f"{path} is missing"
    return f"{path} is {item['input']!r}: {item['msg']}"


def _siblings(loc: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in loc[:-1]:
        if part.isdigit():  # an item of a list: its fields are those of the list's item type
            continue
        field = model.model_fields.get(part)
        inside = [] if field is None else [field.annotation, *get_args(field.annotation)]
        models = [t for t in inside if isinstance(t, type) and issubclass(t, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
