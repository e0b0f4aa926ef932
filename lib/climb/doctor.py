"""What this machine has and lacks, and the command that mends it: `climb doctor`.

`python -m climb.doctor` checks Java alone, with the standard library alone: the set-up calls it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

JAVA = (17, 21)
"""Java versions that Spark 4.0 is tested with (spark.apache.org/docs/4.0.0)."""

INSTALL_JAVA = (
    "Debian or Ubuntu: apt-get install -y openjdk-17-jre-headless; "
    "macOS: brew install openjdk@17, and set JAVA_HOME as it says; "
    "conda: conda install -c conda-forge openjdk=17"
)
FREE_GB = 1.0
"""Free space at storage.root below which no run is started: a full disk halves every table."""

DELTA_JAR = "io.delta_delta-spark_2.13-*.jar"


@dataclass(frozen=True)
class Check:
    """One line of `climb doctor`."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    """What to do where it is not ok."""


def doctor() -> list[Check]:
    """Describe this machine: what is there, what is missing, and what mends it."""
    return [
        _python(),
        java(),
        _package("pyspark", "pyspark", "4.0."),
        _package("delta", "delta-spark", "4.0."),
        _delta_jar(),
        _package("torch", "torch"),
        _gpus(),
        _package("xgboost", "xgboost", other="xgboost-cpu"),
        _package("mlflow", "mlflow"),
        _requirements(),
        _memory(),
        Check("cores", True, f"{_cores()} (two are enough for the demo)"),
        _disk(Path.cwd()),
    ]


def java() -> Check:
    """Find the Java that Spark would start: $JAVA_HOME, else the one on the path."""
    needed = " or ".join(map(str, JAVA))
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if program is None or not Path(program).is_file():
        where = f"JAVA_HOME is {home}, with no bin/java in it" if home else "no java on the path"
        return Check("java", False, f"{where}; Spark needs Java {needed}", INSTALL_JAVA)
    said = _output(program, "-version")
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None:
        found = f"{program} does not run: {' '.join(said.split())[:120]!r}"
        return Check("java", False, f"{found}; Spark needs Java {needed}", INSTALL_JAVA)
    major = int(version[1])
    found = f"Java {major} ({program})"
    if major in JAVA:
        return Check("java", True, found)
    return Check("java", False, f"{found}; Spark needs Java {needed}", INSTALL_JAVA)


def _python() -> Check:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro} ({sys.executable})"
    ok = (3, 11) <= version[:2] <= (3, 12)
    return Check("python", ok, found, "install Python 3.11 or 3.12, then make setup")


def _package(name: str, project: str, starts: str = "", other: str | None = None) -> Check:
    """Whether a project, or another that brings the same module, is installed."""
    mend = "make setup"
    for candidate in (project, other):
        try:
            version = importlib.metadata.version(candidate or project)
        except importlib.metadata.PackageNotFoundError:
            continue
        ok = version.startswith(starts)
        return Check(name, ok, version if ok else f"{version}; wanted {starts}x", mend)
    return Check(name, False, "not installed", mend)


def _requirements() -> Check:
    """Whether everything that the package itself asks for is installed."""
    try:
        lines = importlib.metadata.requires("climb-mixture") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("climb", False, "climb-mixture is not installed", "make setup")
    names = [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
    missing = [name for name in names if not _package(name, name).ok]
    found = f"missing: {', '.join(missing)}" if missing else f"all {len(names)} packages it needs"
    return Check("climb", not missing, found, "make setup")


def _delta_jar() -> Check:
    """Whether the first session has to fetch Delta's jar; a note, not a fault."""
    jars = [jar for jar in Path.home().glob(f".ivy2*/jars/{DELTA_JAR}") if jar.is_file()]
    if jars:
        return Check("spark packages", True, jars[-1].name)
    return Check(
        "spark packages", True, "Delta's jar is not here yet; the first session fetches it"
    )


def _gpus() -> Check:
    """GPUs by the driver's own tool, so that nothing here has to import torch."""
    listed = _output("nvidia-smi", "-L") if shutil.which("nvidia-smi") else ""
    gpus = re.findall(r"^GPU \d+: ([^(\n]+)", listed, re.M)
    if not gpus:
        return Check("gpus", True, "none; everything runs on the CPU")
    return Check("gpus", True, f"{len(gpus)} x {gpus[0].strip()}")


def _memory() -> Check:
    """Memory that this process may use: the machine's, or what its container is held to."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text) / 1e9)
    mend = "the demo's peak is under 8 GB; lower spark.driver_memory and parallel_trials"
    return Check("memory", total >= 7.5, f"{total:.1f} GB", mend)


def _cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    return Check("disk", free >= FREE_GB, f"{free:.1f} GB free at {folder}", "free some space")


def _output(*command: str) -> str:
    """What a program prints on both streams; what went wrong where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


if __name__ == "__main__":
    _found = java()
    print(f"java: {_found.found}" if _found.ok else f"{_found.found}. To install: {_found.mend}")
    sys.exit(0 if _found.ok else 1)
