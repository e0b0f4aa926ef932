"""The interpreters of trainers, in which their own loaders read our exports.

`make consumers` makes them in `.consumers/NAME`; the variable CLIMB_CONSUMERS names another folder.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from climb.export.loader import IMPORT_CLIMB, PACKAGE, run_loader, run_python

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CLIMB_CONSUMERS") or ROOT / ".consumers")

IMPORTS = """
import collections, itertools, json
from pathlib import Path
"""


def find_python(name):
    """Return the interpreter of a trainer."""
    python = FOLDER / name / "bin" / "python"
    if not python.exists():
        assert not FOLDER.exists(), f"{python} does not exist: run make consumers"
        pytest.skip(f"needs {python}: run make consumers")
    return str(python)


@pytest.fixture
def run_consumer():
    """Run code in the interpreter of a trainer, with climb on its path; return what it prints."""

    def run(name, code, *arguments):
        done = run_python(
            [find_python(name), "-c", IMPORT_CLIMB + IMPORTS + code, PACKAGE, *arguments]
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture
def read_shares():
    """Read samples with the trainer's loader; return the share of tokens of each domain."""

    def read(name, fmt, contents, count=3000):
        """`count` None reads one pass."""
        counted = run_loader(
            Path(contents.folder), count or 10**9, find_python(name), by_rule=False
        )
        total = sum(own.tokens for own in counted.values())
        return {domain: own.tokens / total for domain, own in counted.items()}

    return read


@pytest.fixture
def rng():
    return np.random.default_rng(3)
