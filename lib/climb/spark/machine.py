"""What Spark gets from this machine: Delta's jars, a folder for downloads, the character set.

This module needs only the standard library.
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHES = (".ivy2.5.2", ".ivy2")
"""Folders below HOME in which Spark 4 and Spark 3 keep downloaded jars."""


def find_home() -> Path | None:
    """Return the home folder; None for a user without one."""
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the user id has no entry in the user database
        return None


def find_delta_jars() -> list[Path]:
    """Return Delta's jars for the installed delta-spark; an empty list if one is missing.

    With these jars, Spark starts without Ivy, so it needs neither a network nor a writable HOME.
    """
    release = version("delta-spark")
    names = (f"delta-spark_2.13-{release}", f"delta-storage-{release}")
    home = find_home()
    for cache in [] if home is None else [home / name / "jars" for name in CACHES]:
        jars = [cache / f"io.delta_{name}.jar" for name in names]
        if all(jar.is_file() and os.access(jar, os.R_OK) for jar in jars):
            return jars
    return []


def find_ivy_folder() -> Path | None:
    """Return a temporary folder for downloads; None if Ivy can write to its folder below HOME."""
    home = find_home()
    folder = home / CACHES[0] if home is not None else None
    if folder is not None and os.access(folder if folder.exists() else folder.parent, os.W_OK):
        return None
    return Path(tempfile.gettempdir()) / f"climb-ivy-{os.getuid()}"


def is_utf8_locale() -> bool:
    """Return whether the locale in the environment makes a JVM use UTF-8 when it starts."""
    names = (os.environ.get(key) for key in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next((name for name in names if name), "C")
    return locale.lower().replace("-", "").endswith("utf8")
