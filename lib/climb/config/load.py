"""Load the configuration: conf/default.yaml, files of --conf, --set section.key=value.

Later values take precedence. All mistakes are reported at once.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from climb.config.sections import Config
from climb.config.uris import refuse_credentials
from climb.errors import ConfigError, one_line

REPLACED = ("thresholds", "values")
"""Keys of mappings that a file or `--set prune.thresholds={...}` replaces as a whole.
`--set prune.thresholds.rules=2` changes one entry."""


def find_conf_folder() -> Path:
    """Find the folder of default.yaml: conf/ in the installed package, or conf/ of a checkout.

    Raises:
        ConfigError: neither exists; for example, Python imports from a wheel that is not installed.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    found = installed if installed.is_dir() else package.parents[1] / "conf"
    if not found.is_dir():
        raise ConfigError(
            f"climb runs from {package.parent}, and {installed} is not a folder on disk; install "
            "the wheel instead of naming it in --py-files or PYTHONPATH (see docs/cluster.md)"
        )
    return found


def load(
    paths: str | Path | Sequence[str | Path] | None = None,
    settings: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Load the configuration.

    Args:
        paths: YAML files that change some keys of conf/default.yaml, applied in this order; a
            single path need not be in a list, and None means no file.
        settings: `section.key=value` strings, applied last. A value is parsed as YAML, but not
            for a key of the type `str`; see `_parse_value`.
        defaults: values by section and key that replace those of conf/default.yaml.

    Raises:
        ConfigError: a file or value cannot be read, a URI contains a user or a password, or keys or
            values are wrong. The message lists all wrong keys and values with the path of each key.
    """
    values = _merge(read_yaml(find_conf_folder() / "default.yaml"), defaults or {}, REPLACED)
    files = [paths] if isinstance(paths, str | Path) else list(paths or ())
    for path in files:
        values = _merge(values, _read_extended(Path(path)), REPLACED)
    # A class (`.use`) is set first, because it discards the fields that were set before it.
    for setting in sorted(settings, key=lambda text: not _read_key(text).endswith(".use")):
        key = _read_key(setting)
        replaced = REPLACED if key.endswith(REPLACED) else ()
        values = _merge(values, _parse_setting(setting), replaced)
    refuse_credentials(values)
    where = f" in {', '.join(map(str, files))}" if files else ""
    return _validate(values, f"configuration{where}")


def change(cfg: Config, values: Mapping[str, Any], where: str) -> Config:
    """Return a configuration with other values, merged like those of a file, with one exception.

    A plug-in spec with `use` replaces the whole old spec, even if both have the same class.

    Args:
        cfg: the configuration.
        values: by section and key.
        where: source of the values, for the error message.

    Raises:
        ConfigError: keys or values are wrong.
    """
    merged = _merge(cfg.model_dump(mode="json"), values, REPLACED, keeps_fields=False)
    return _validate(merged, where)


def replace_section(cfg: Config, name: str, values: Mapping[str, Any], where: str) -> Config:
    """Return a configuration in which one section has other values, and keeps none of its old ones.

    Args:
        cfg: the configuration.
        name: name of the section.
        values: JSON value of every key of the section.
        where: source of the values, for the error message.

    Raises:
        ConfigError: keys or values are wrong.
    """
    return _validate({**cfg.model_dump(mode="json"), name: dict(values)}, where)


def _validate(values: Mapping[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, values) for item in error.errors()]
        raise ConfigError("; ".join([f"{where}: {lines[0]}", *lines[1:]])) from error


def dump_yaml(cfg: Config) -> str:
    """Format the whole configuration as YAML, in the order of the sections."""
    return yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses repeated keys. PyYAML itself silently uses the last value of a repeated key."""

    def get_single_node(self) -> yaml.Node | None:
        """Check all mappings before any is constructed: construction replaces merge keys (`<<`)."""
        root = super().get_single_node()
        left: list[yaml.Node | None] = [root]
        # PyYAML represents an alias by its anchor's node, and a node can contain its own alias.
        # Without `seen`, the loop would then not end.
        seen: set[int] = set()
        while left:
            node = left.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _refuse_repeated_keys(node)
                left += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                left += node.value
        return root


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in lines:
                where = f"in line {lines[key.value]} and in line {line}"
                raise yaml.constructor.ConstructorError(problem=f"key {key.value!r} is {where}")
            lines[key.value] = line


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or repeats a key.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = one_line(error)
        raise ConfigError(f"configuration file {path} is not YAML: {text}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration file {path} must be a mapping, not a {type(values).__name__}"
        )
    return values


def _read_extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file on top of the files in its list `extends`; paths are relative to its folder.

    Raises:
        ConfigError: `extends` is not a list of paths, or a file extends itself.
    """
    values = read_yaml(path)
    names = values.pop("extends", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"extends in {path} is {names!r}; it must be a list of YAML files")
    above = (*above, path.resolve())
    merged: dict[str, Any] = {}
    for file in [path.parent / name for name in names]:
        if file.resolve() in above:
            raise ConfigError(f"configuration file {path} extends {file}, which extends it")
        merged = _merge(merged, _read_extended(file, above), REPLACED)
    return _merge(merged, values, REPLACED)


def _read_key(setting: str) -> str:
    return setting.partition("=")[0].strip()


def _parse_setting(setting: str) -> dict[str, Any]:
    _, equals, value = setting.partition("=")
    parts = _read_key(setting).split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {setting!r} must have the form section.key=value")
    nested = _parse_value(setting, value, _find_annotation(parts))
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def _parse_value(setting: str, value: str, annotation: Any) -> Any:
    """Parse the value of `--set` as YAML; for a key of the type `str`, use the value as it is.

    YAML would read ` #` as the start of a comment, and `2024-01-01` as a date. A value in quotes is
    always parsed as YAML, which removes the quotes. A key that may be null becomes null with the
    value `null` or `~`, or with an empty value. For a list of strings, one string is accepted.
    """
    quoted = value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1
    is_null = value.strip() in ("null", "~", "") and annotation == str | None
    is_list = annotation == tuple[str, ...] and value.lstrip()[:1] != "["
    if not quoted and (is_list or (annotation in (str, str | None) and not is_null)):
        return [value] if is_list else value
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not YAML") from error
    return [parsed] if is_list and isinstance(parsed, str) else parsed


def _find_annotation(parts: Sequence[str]) -> Any:
    """Return the type annotation of a key; None for a key of a plug-in or an unknown key."""
    model: Any = Config
    for part in parts:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return None
        model = fields[part].annotation
    return model


def _merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    replaced: Sequence[str],
    keeps_fields: bool = True,
) -> dict[str, Any]:
    """Merge two nested mappings; values of `above` take precedence.

    A plug-in spec with `use` in `above` replaces the whole spec in `below` if the two classes
    differ, or if `keeps_fields` is false. A mapping in `above` under a key in `replaced` replaces
    the whole mapping in `below`.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        other_class = (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and ("use" in value and (not keeps_fields or value["use"] != old.get("use")))
        )
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not other_class:
            whole = key in replaced
            merged[key] = dict(value) if whole else _merge(old, value, replaced, keeps_fields)
        else:
            merged[key] = value
    return merged


def _explain(item: Any, values: Mapping[str, Any]) -> str:
    """Explain one mistake: the path of the key, what is wrong, and the nearest valid key."""
    loc = [str(part) for part in item["loc"]]
    path = ".".join(loc)
    if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        siblings = _list_siblings(loc)
        near = difflib.get_close_matches(loc[-1], siblings, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; valid keys: {siblings}"
        return f"unknown key {path}{hint}"
    if item["type"] == "value_error":
        return f"{path}: {item['ctx']['error']}"
    if item["type"] == "missing":
        return f"{path} is missing"
    return f"{path} is {item['input']!r}: {item['msg']}"


def _list_siblings(loc: Sequence[str]) -> list[str]:
    """List the valid keys at the position of the last key of a path."""
    model: type[BaseModel] = Config
    for part in loc[:-1]:
        if part.isdigit():  # an index of a list: `model` is the item type already
            continue
        field = model.model_fields.get(part)
        types = [] if field is None else [field.annotation, *get_args(field.annotation)]
        # One level deeper: `tuple[X, ...]` may be inside an optional type.
        types += [inner for outer in types for inner in get_args(outer)]
        models = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        classes = [t for t in types if isinstance(t, type) and dataclasses.is_dataclass(t)]
        if not models:
            return [f.name for c in classes[:1] for f in dataclasses.fields(c)]
        model = models[0]
    return list(model.model_fields)
