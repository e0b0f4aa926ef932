"""One module per trainer; `climb.export.format` says what a format is."""

from __future__ import annotations

import difflib
import importlib

from climb.errors import ConfigError

FORMATS = {
    "hf": "hf:HuggingFace",
    "jsonl": "jsonl:JsonLines",
    "nanochat": "nanochat:Nanochat",
    "megatron": "megatron:Megatron",
    "automodel": "automodel:Automodel",
    "energon": "energon:Energon",
    "olmo-core": "olmo_core:OlmoCore",
    "torchtitan": "torchtitan:Torchtitan",
    "lingua": "lingua:Lingua",
    "levanter": "levanter:Levanter",
    "nanotron": "nanotron:Nanotron",
    "litdata": "litdata:LitData",
    "streaming": "streaming:Streaming",
}
"""Short name -> module and class."""


def find_format(name: str) -> dict[str, str]:
    """Return the plug-in spec of a format, from its short name or the user's `module:Class`.

    Raises:
        ConfigError: there is no such format.
    """
    if ":" in name:
        return {"use": name}
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"formats: {', '.join(FORMATS)}"
        raise ConfigError(f"--to {name!r}: there is no such format; {hint}")
    return {"use": f"climb.export.formats.{FORMATS[name]}"}


def list_for_own_files() -> list[str]:
    """List the short names of the formats that support files of the user's own."""
    able = []
    for name, path in FORMATS.items():
        module, cls = path.split(":")
        if getattr(importlib.import_module(f"{__name__}.{module}"), cls).endings:
            able.append(name)
    return able
