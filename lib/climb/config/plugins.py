"""Plug-ins: `use: module:Class` plus fields -> a checked frozen dataclass; and what identifies one.

A string field annotated `ModelPath` may be a path, or `package:NAME/inner/path` for a file that
an installed Python package ships. Its identity is the content of the file or folder, not its place.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from climb.errors import ConfigError
from climb.files import content_digest, resolve


class _ModelPathMark:
    """Marks fields whose identity is the content behind the path."""


ModelPath = Annotated[str, _ModelPathMark]


def build(spec: Mapping[str, Any], protocol: type) -> Any:
    """Make the plug-in that a spec names.

    Args:
        spec: `{"use": "module:Class", field: value, ...}`.
        protocol: the runtime-checkable protocol that it must satisfy.

    Returns:
        The frozen dataclass, its fields checked and converted by pydantic.

    Raises:
        ConfigError: no such module or class, wrong or unknown fields, or not that kind of plug-in.
    """
    use = spec.get("use")
    if not isinstance(use, str) or use.count(":") != 1:
        raise ConfigError(f"a plug-in needs `use: module:Class`; found {use!r} in {dict(spec)}")
    module_name, class_name = use.split(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"plug-in {use!r} cannot be imported: {error}") from error
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"plug-in {use!r} is not a dataclass; a plug-in is a frozen dataclass")
    fields = {key: value for key, value in spec.items() if key != "use"}
    known = [field.name for field in dataclasses.fields(cls)]
    for key in fields:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its fields are {known}"
            raise ConfigError(f"plug-in {use!r} has no field {key!r}{hint}")
    try:
        plugin = TypeAdapter(cls).validate_python(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"plug-in {use!r}: {wrong}") from error
    if not isinstance(plugin, protocol):
        raise ConfigError(f"plug-in {use!r} is not a {protocol.__name__}: a method is missing")
    return plugin


def recipe_of(plugin: Any) -> str:
    """Name what made a row: the class and a digest of its fields and of the models behind them.

    Two embedders with the same recipe give the same vectors. Fields whose dataclass metadata
    says `speed_only` (batch sizes) change nothing in the result and are left out.
    """
    cls = type(plugin)
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(plugin):
        if field.metadata.get("speed_only"):
            continue
        value = getattr(plugin, field.name)
        if _ModelPathMark in getattr(hints[field.name], "__metadata__", ()):
            value = content_digest(resolve(value))
        values[field.name] = value
    text = json.dumps([f"{cls.__module__}:{cls.__qualname__}", values], sort_keys=True, default=str)
    return f"{cls.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
