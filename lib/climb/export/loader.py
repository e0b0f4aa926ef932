"""Count the samples of a trainer's loader, in the interpreter that has the trainer.

climb need not be installed there: IMPORT_CLIMB makes this copy of climb importable, and the modules
that read an export import only the standard library and NumPy.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from climb.errors import PreflightError
from climb.export.contents import Counted, count_samples
from climb.export.index import read_export

PACKAGE = str(Path(__file__).resolve().parents[1])
"""The folder of the package climb."""

IMPORT_CLIMB = """
import importlib.util, sys
sys.path[:] = [path for path in sys.path if path]  # not the working directory
root = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "climb", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["climb"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
"""Code that makes climb importable. The first argument is the folder of climb; the code removes it
from the arguments."""

COUNT = """
sys.path += [path for path in [sys.argv.pop(1)] if path]
from climb.export.loader import main
main(sys.argv[1:])
"""

FIND = """
import importlib.util, sys
sys.path[:] = [path for path in sys.path if path]  # not the working directory
try:
    print("climb-found:", importlib.util.find_spec(sys.argv[1]) is not None)
except ModuleNotFoundError:  # a package above it is missing
    print("climb-found:", False)
"""

OUTPUT = "climb-counted: "
"""Marks the line with the result, since loaders print lines of their own."""


def has_package(python: str, package: str) -> bool:
    """Whether an interpreter can find a package, by the name under which it is imported.

    Raises:
        PreflightError: the interpreter cannot be started, or is another program.
    """
    process = run_python([python, "-c", FIND, package])
    answers = {"climb-found: True": True, "climb-found: False": False}
    for line in process.stdout.splitlines():
        if line in answers:
            return answers[line]
    reason = (process.stderr.strip().splitlines() or ["no output"])[-1]
    raise PreflightError(
        f"--python {python}: this is no Python interpreter that works ({reason}); name the one "
        "that has the trainer"
    )


def run_loader(folder: Path, n_samples: int, python: str, by_rule: bool) -> dict[str, Counted]:
    """Count the first samples in another process.

    Args:
        folder: the export.
        n_samples: samples to read; fewer if the loader ends.
        python: the interpreter that has the trainer's package.
        by_rule: whether to read the files without the trainer's package.

    Returns:
        Domain -> its samples and tokens.

    Raises:
        PreflightError: the process failed.
    """
    arguments = [str(folder), str(n_samples), "rule" if by_rule else "loader"]
    own = _find_own_modules(read_export(folder).spec["use"])
    process = run_python([python, "-c", IMPORT_CLIMB + COUNT, PACKAGE, own, *arguments])
    lines = [line for line in process.stdout.splitlines() if line.startswith(OUTPUT)]
    if process.returncode or not lines:
        reason = (process.stderr.strip().splitlines() or ["no output"])[-1]
        raise PreflightError(f"reading the export {folder} with {python} failed: {reason}")
    rows = json.loads(lines[-1].removeprefix(OUTPUT))
    return {name: Counted(**values) for name, values in rows}


def _find_own_modules(use: str) -> str:
    """Return the folder from which a user's own format is imported; empty for a format of climb."""
    top = use.partition(":")[0].partition(".")[0]
    spec = None if top == "climb" else importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin)
    return str(origin.parents[1] if origin.name == "__init__.py" else origin.parent)


def run_python(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run an interpreter, without a GPU and offline.

    Another interpreter than the current one does not get the environment variables PYTHON*.

    Args:
        command: the interpreter and its arguments. The folder of the interpreter is the first in
            PATH, because some loaders start programs that are installed there.

    Raises:
        PreflightError: the interpreter cannot be started.
    """
    environment = dict(os.environ)
    if command[0] != sys.executable:
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if os.sep in command[0]:
        beside = Path(command[0]).absolute().parent
        environment["PATH"] = f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        return subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise PreflightError(f"--python {command[0]}: {error.strerror}") from error


def main(arguments: list[str]) -> None:
    """Count samples, and print the result as one line of JSON."""
    folder, n_samples, source = Path(arguments[0]).absolute(), int(arguments[1]), arguments[2]
    export = read_export(folder)
    format = export.load_format()
    samples = (format.read_by_rule if source == "rule" else format.read_samples)(
        folder, export.contents
    )
    counted = count_samples(itertools.islice(samples, n_samples))
    print(OUTPUT + json.dumps([[name, asdict(own)] for name, own in counted.items()]), flush=True)
