"""Check this machine, and say how to fix each problem: `climb doctor`.

`python -m climb.cli.doctor` checks only Java and needs only the standard library: `make setup`
calls it before any package is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from climb.cli.check import Check
from climb.cli.environment import check_environment
from climb.spark.machine import find_delta_jars, find_ivy_folder

JAVA = (17, 21)
"""Java versions that Spark 4.0 is tested with (spark.apache.org/docs/4.0.0)."""

INSTALL_JAVA = (
    "Debian or Ubuntu: apt-get install -y openjdk-17-jre-headless; "
    "macOS: brew install openjdk@17, and set JAVA_HOME as brew prints; "
    "conda: conda install -c conda-forge openjdk=17"
)
FREE_GB = 1.0
"""Minimum free space for a run: on a full disk, tables are left incomplete."""


def check_machine() -> list[Check]:
    """Check Java, packages, GPUs, memory, cores and disk of this machine."""
    return [
        _check_python(),
        check_java(),
        *check_environment(),
        _check_package("pyspark", "pyspark", "4.0."),
        _check_package("delta", "delta-spark", "4.0."),
        _check_delta_jar(),
        _check_package("torch", "torch"),
        _check_gpus(),
        _check_optional("xgboost", "xgboost", other="xgboost-cpu", needs="XGBoostPredictor"),
        _check_package("mlflow", "mlflow", other="mlflow-skinny"),
        _check_requirements(),
        _check_memory(),
        Check("cores", True, f"{_count_cores()} (the demo needs 2)"),
        _check_disk(Path.cwd()),
    ]


def check_java() -> Check:
    """Check the Java that Spark would start: in $JAVA_HOME, else on the PATH."""
    needed = " or ".join(map(str, JAVA))
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if program is None or not Path(program).is_file():
        where = f"JAVA_HOME is {home}, without bin/java" if home else "no java on the PATH"
        return Check("java", False, f"{where}; Spark needs Java {needed}", INSTALL_JAVA)
    output = _run_program(program, "-version")
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if version is None:
        found = f"{program} does not run: {' '.join(output.split())[:120]!r}"
        return Check("java", False, f"{found}; Spark needs Java {needed}", INSTALL_JAVA)
    major = int(version[1])
    found = f"Java {major} ({program})"
    if major in JAVA:
        return Check("java", True, found)
    return Check("java", False, f"{found}; Spark needs Java {needed}", INSTALL_JAVA)


def _check_python() -> Check:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro} ({sys.executable})"
    ok = (3, 11) <= version[:2] <= (3, 12)
    found = found if ok else f"{found}; climb needs Python 3.11 or 3.12"
    return Check("python", ok, found, "install Python 3.11 or 3.12, then run make setup")


def _check_package(name: str, project: str, prefix: str = "", other: str | None = None) -> Check:
    """Check that a project is installed, and that its version starts with `prefix`.

    If it is not installed, `other` is checked instead: a project that has the same module.
    """
    fix = "make setup"
    for candidate in (project, other):
        try:
            version = importlib.metadata.version(candidate or project)
        except importlib.metadata.PackageNotFoundError:
            continue
        ok = version.startswith(prefix)
        return Check(name, ok, version if ok else f"{version}; climb needs {prefix}x", fix)
    return Check(name, False, "not installed", fix)


def _check_optional(name: str, project: str, other: str, needs: str) -> Check:
    """Check a package that only one plug-in needs; a missing package is no failure."""
    check = _check_package(name, project, other=other)
    return check if check.ok else Check(name, True, f"not installed; only {needs} needs it")


def _check_requirements() -> Check:
    """Check that all required packages of climb-mixture are installed."""
    try:
        lines = importlib.metadata.requires("climb-mixture") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("climb", False, "climb-mixture is not installed", "make setup")
    names = [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
    missing = [name for name in names if not _check_package(name, name).ok]
    found = (
        f"missing packages: {', '.join(missing)}"
        if missing
        else f"all {len(names)} required packages are installed"
    )
    return Check("climb", not missing, found, "make setup")


def _check_delta_jar() -> Check:
    """Say whether the first session downloads Delta's jar; fail if delta-spark is missing."""
    try:
        jars = find_delta_jars()
    except importlib.metadata.PackageNotFoundError:
        return Check("spark packages", False, "delta-spark is not installed", "make setup")
    if jars:
        return Check("spark packages", True, jars[0].name)
    folder = find_ivy_folder() or "the home folder"
    found = f"no Delta jar; the first session downloads it to {folder}"
    return Check("spark packages", True, found)


def _check_gpus() -> Check:
    """List GPUs with nvidia-smi, because importing torch takes seconds."""
    output = _run_program("nvidia-smi", "-L") if shutil.which("nvidia-smi") else ""
    gpus = re.findall(r"^GPU \d+: ([^(\n]+)", output, re.M)
    if not gpus:
        return Check("gpus", True, "none; models run on the CPU")
    return Check("gpus", True, f"{len(gpus)} x {gpus[0].strip()}")


def _check_memory() -> Check:
    """Check the memory that this process may use: all of the machine, or the container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text) / 1e9)
    fix = "lower spark.driver_memory and spark.parallel_trials; the demo needs 8 GB"
    return Check("memory", total >= 7.5, f"{total:.1f} GB", fix)


def _count_cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _check_disk(folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    if usage.total == 0:  # a mount of an object store
        return Check("disk", True, f"the mount at {folder} does not report its free space")
    free = usage.free / 1e9
    found = f"{free:.1f} GB free at {folder}"
    return Check("disk", free >= FREE_GB, found, f"free at least {FREE_GB:.0f} GB")


def _run_program(*command: str) -> str:
    """Run a program and return its output on both streams, or the error if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


if __name__ == "__main__":
    _java = check_java()
    print(f"java: {_java.found}" if _java.ok else f"java: {_java.found}. To fix: {_java.fix}")
    sys.exit(0 if _java.ok else 1)
