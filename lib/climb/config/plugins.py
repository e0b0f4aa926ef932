"""Build plug-ins from `use: module:Class` and fields, and identify them by a recipe.

A string field annotated `ModelPath` is a path, or `package:NAME/inner/path` for a file of an
installed Python package. A recipe identifies the file or folder by its content, not by its path.
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
from climb.files import hash_content, resolve


class _ModelPathMark:
    """Marks fields whose file or folder is identified by its content."""


ModelPath = Annotated[str, _ModelPathMark]


def build(spec: Mapping[str, Any], protocol: type, **offered: Any) -> Any:
    """Build the plug-in that a spec names.

    Args:
        spec: `{"use": "module:Class", field: value, ...}`.
        protocol: the runtime-checkable protocol that the plug-in must satisfy.
        offered: values of fields, used if the class has the field; the spec takes precedence.

    Returns:
        An instance of the class, a frozen dataclass; pydantic has checked and converted its fields.

    Raises:
        ConfigError: the module or class does not exist, a field is wrong or unknown, or the class
            does not satisfy the protocol.
    """
    use = spec.get("use")
    if not isinstance(use, str) or use.count(":") != 1:
        raise ConfigError(f"a plug-in needs `use: module:Class`; found {use!r} in {dict(spec)}")
    cls = _import_class(use)
    names = [field.name for field in dataclasses.fields(cls)]
    fields = {key: value for key, value in offered.items() if key in names}
    fields |= {key: value for key, value in spec.items() if key != "use"}
    _check_fields(fields, names, use)
    try:
        plugin: Any = TypeAdapter(cls).validate_python(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"plug-in {use!r}: {problems}") from error
    if not isinstance(plugin, protocol):
        missing = [name for name in dir(protocol) if name[0] != "_" and not hasattr(plugin, name)]
        raise ConfigError(
            f"plug-in {use!r} has no {', '.join(missing)}, which a {protocol.__name__} must have"
        )
    return plugin


def _import_class(use: str) -> type:
    module_name, class_name = use.split(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.split(".")[0]
        hint = "; add the folder of your own modules to PYTHONPATH (PYTHONPATH=. climb ...)"
        raise ConfigError(
            f"plug-in {use!r} cannot be imported: {error}{hint if missing else ''}"
        ) from error
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or not frozen:
        raise ConfigError(f"plug-in {use!r} is not a frozen dataclass; a plug-in must be one")
    return cls


def _check_fields(fields: Mapping[str, Any], names: list[str], use: str) -> None:
    for key in fields:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its fields are {names}"
            raise ConfigError(f"plug-in {use!r} has no field {key!r}{hint}")


def recipe_of(plugin: Any) -> str:
    """Identify a plug-in by its class and a digest of its fields and model files.

    Two embedders with the same recipe give the same vectors, up to rounding. The digest leaves out
    fields with `speed_only` in their dataclass metadata, such as batch sizes. It also leaves out
    fields with `omit_default` while they have their default value: a later version of the class
    added these fields, and must not change existing recipes.
    """
    cls = type(plugin)
    paths = find_model_paths(plugin)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        is_omitted = field.metadata.get("omit_default") and value == field.default
        if not field.metadata.get("speed_only") and not is_omitted:
            is_model = field.name in paths
            values[field.name] = hash_content(resolve(value)) if is_model else value
    text = json.dumps([f"{cls.__module__}:{cls.__qualname__}", values], sort_keys=True, default=str)
    return f"{cls.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def find_model_paths(plugin: Any) -> dict[str, str]:
    """Find the fields of types `ModelPath` and `ModelPath | None` that are set: name -> path."""
    hints = get_type_hints(type(plugin), include_extras=True)
    return {
        name: getattr(plugin, name)
        for name, hint in hints.items()
        if ModelPath in (hint, *get_args(hint)) and getattr(plugin, name, None) is not None
    }
