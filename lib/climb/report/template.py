"""Render the HTML templates beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from climb.report import formats


def render_template(name: str, /, **values: Any) -> str:
    """Render a template; all text is escaped, except text that is marked as safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in ("number", "signed", "share", "count", "tokens", "seconds", "printable"):
        env.filters[filter_] = getattr(formats, filter_)
    return env.get_template(name).render(**values)
