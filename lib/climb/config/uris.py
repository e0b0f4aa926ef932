"""User and password in URIs: refused in the configuration, and removed from messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from climb.errors import ConfigError

MAY_HAVE_CREDENTIALS = ("tracking.uri",)
"""Keys whose URI may contain a user and a password, because a database may need them. The user and
the password are never stored."""

AZURE = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of Azure, whose URIs have `container@account` in place of a user."""

_PASSWORD = r"[^/@:\s]*:(?!\d+(?:/|\s|$))"
"""Pattern for the part `user:` of `user:password@`. It does not match the part `host:` of
`host:port`. A password may contain a slash, so the functions that use this pattern look for the `@`
after slashes too."""


def hide_credentials(text: str) -> str:
    """Remove user and password from the URIs in a text; a password ends at the last `@`."""
    return re.sub(rf"//(?:{_PASSWORD}\S*@|[^/@\s]*@)", "//", text)


def refuse_credentials(values: Mapping[str, Any]) -> None:
    """Refuse a configuration with a URI such as s3://KEY:SECRET@bucket.

    Tables record their inputs in Delta's log. All users of a table can read this log, so they could
    read the password.

    Args:
        values: the sections before pydantic checks them, since its messages would quote the value.

    Raises:
        ConfigError: a value contains a user or a password. The message has the key, and the URI
            without user and password.
    """
    for key, text in _list_texts("", values):
        if key not in MAY_HAVE_CREDENTIALS and _has_user_info(text):
            scheme, _, rest = text.partition("://")
            raise ConfigError(
                f"{key}: the URI {scheme}://...@{rest.rpartition('@')[2]} contains a user or a "
                "password, and tables would record it. Remove it, and pass the credentials to "
                "Spark (instance profile, external location, or settings spark.hadoop.fs.*)"
            )


def _has_user_info(text: str) -> bool:
    found = re.search(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", text, re.DOTALL)
    if found is None:
        return False
    scheme, rest = found.groups()
    if re.match(rf"{_PASSWORD}.*@", rest, re.DOTALL):
        return True
    return scheme.lower() not in AZURE and re.match(r"[^/]*@", rest) is not None


def _list_texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """List all texts of nested mappings and lists with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _list_texts(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from _list_texts(f"{key}.{index}", inner)
