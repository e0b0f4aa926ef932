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
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from climb.errors import ConfigError
from climb.files import content_digest, resolve


class _ModelPathMark:
    """Marks fields whose identity is the content behind the path."""


ModelPath = Annotated[str, _ModelPathMark]


def build(spec: Mapping[str, Any], protocol: type, **offered: Any) -> Any:
    """Make the plug-in that a spec names.

    Args:
        spec: `{"use": "module:Class", field: value, ...}`.
        protocol: the runtime-checkable protocol that it must satisfy.
        offered: values for fields that the class may have; the spec's own values win.

    Returns:
        The frozen dataclass, its fields checked and converted by pydantic.

    Raises:
        ConfigError: no such module or class, wrong or unknown fields, or not that kind of plug-in.
    """
    use = spec.get("use")
    if not isinstance(use, str) or use.count(":") != 1:
        raise ConfigError(f"a plug-in needs `use: module:Class`; found {use!r} in {dict(spec)}")
    cls = _imported(use)
    known = [field.name for field in dataclasses.fields(cls)]
    fields = {key: value for key, value in offered.items() if key in known}
    fields |= {key: value for key, value in spec.items() if key != "use"}
    _refuse_unknown(fields, known, use)
    try:
        plugin: Any = TypeAdapter(cls).validate_python(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"plug-in {use!r}: {wrong}") from error
    if not isinstance(plugin, protocol):
        raise ConfigError(f"plug-in {use!r} is not a {protocol.__name__}: a method is missing")
    return plugin


def _imported(use: str) -> type:
    module_name, class_name = use.split(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.split(".")[0]
        hint = "; for a file of your own, name its folder (PYTHONPATH=. climb ...)"
        raise ConfigError(
            f"plug-in {use!r} cannot be imported: {error}{hint if missing else ''}"
        ) from error
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or not frozen:
        raise ConfigError(f"plug-in {use!r} is not a frozen dataclass; every plug-in is one")
    return cls


def _refuse_unknown(fields: Mapping[str, Any], known: list[str], use: str) -> None:
    for key in fields:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its fields are {known}"
            raise ConfigError(f"plug-in {use!r} has no field {key!r}{hint}")


def recipe_of(plugin: Any) -> str:
    """Name what made a row: the class and a digest of its fields and of the models behind them.

    Two embedders with the same recipe give the same vectors. Fields whose dataclass metadata
    says `speed_only` (batch sizes) change nothing in the result and are left out.
    """
    cls = type(plugin)
    paths = model_paths(plugin)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(plugin):
        if not field.metadata.get("speed_only"):
            value = getattr(plugin, field.name)
            is_model = field.name in paths
            values[field.name] = content_digest(resolve(value)) if is_model else value
    text = json.dumps([f"{cls.__module__}:{cls.__qualname__}", values], sort_keys=True, default=str)
    return f"{cls.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def model_paths(plugin: Any) -> dict[str, str]:
    """The fields of a plug-in that are model paths, `ModelPath | None` among them; name -> path."""
    hints = get_type_hints(type(plugin), include_extras=True)
    return {
        name: getattr(plugin, name)
        for name, hint in hints.items()
        if ModelPath in (hint, *get_args(hint)) and getattr(plugin, name, None) is not None
    }
