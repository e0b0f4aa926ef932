"""What a run needs from this machine, checked in seconds, before any Spark job starts.

`preflight` stops a run that cannot end well; `doctor` describes the machine to a person.
`python -m climb.preflight` checks Java alone, with the standard library alone: the set-up calls it.
"""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from climb.errors import ConfigError, PreflightError
from climb.files import resolve

if TYPE_CHECKING:
    from climb.config import Config

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


def preflight(cfg: Config, jobs: Collection[str] | None = None) -> None:
    """Stop before Spark starts where a job could not end well.

    Args:
        cfg: the resolved configuration.
        jobs: names of the jobs that will run; what the others need is not asked for. None: all.

    Raises:
        PreflightError: everything that is missing, in one line.
    """

    def wanted(*names: str) -> bool:
        return jobs is None or not set(names).isdisjoint(jobs)

    problems = [*_no_spark()]
    if jobs is not None and "ingest" in jobs and not cfg.ingest.inputs:
        problems.append("ingest.inputs is empty; name files, folders or globs of documents")
    if wanted("ingest"):
        problems += _no_inputs(cfg.ingest.inputs)
    for key, spec, job in _plugins(cfg):
        if wanted(job):
            problems += _no_model(key, spec)
    if cfg.count.path is not None and wanted("count"):
        problems += _no_file("count.path", cfg.count.path)
    for target in cfg.proxy.targets:
        if wanted("search"):
            problems += _no_file(f"proxy.targets {target.name!r}: search", target.search)
        if wanted("train") and target.report is not None:
            problems += _no_file(f"proxy.targets {target.name!r}: report", target.report)
    problems += _no_room("storage.root", cfg.storage.root)
    if cfg.storage.files is not None:
        problems += _no_room("storage.files", cfg.storage.files)
    if problems:
        raise PreflightError("; ".join(problems))


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


def _no_spark() -> Iterator[str]:
    """On Databricks, or below spark-submit, there is a JVM already and it is the right one."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return
    for module, project in (("pyspark", "pyspark"), ("delta", "delta-spark")):
        if importlib.util.find_spec(module) is None:
            yield (
                f"Python package {project} is missing: make setup, or "
                f"pip install 'climb-mixture[spark]'"
            )
    if "PYSPARK_GATEWAY_PORT" not in os.environ and not (check := java()).ok:
        yield f"{check.found}. To install: {check.mend}"


def _no_inputs(inputs: Collection[str]) -> Iterator[str]:
    for path in inputs:
        if not _remote(path) and not glob.glob(path):  # noqa: PTH207 (absolute patterns too)
            yield f"ingest.inputs: {path!r} does not exist (looked at {Path(path).absolute()})"


def _no_file(key: str, path: str) -> Iterator[str]:
    if not _remote(path) and not Path(path).exists():
        yield f"{key}: {path!r} does not exist (looked at {Path(path).absolute()})"


def _plugins(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Key, spec and job of every plug-in."""
    yield "embed.embedder", cfg.embed.embedder, "embed"
    for index, scorer in enumerate(cfg.score.scorers):
        yield f"score.scorers.{index}", scorer, "score"
    yield "cluster.clusterer", cfg.cluster.clusterer, "cluster"
    yield "proxy.model", cfg.proxy.model, "search"
    yield "search.predictor", cfg.search.predictor, "search"
    yield "train.model", cfg.train.model, "train"


def _no_model(key: str, spec: Mapping[str, Any]) -> Iterator[str]:
    """A plug-in that cannot be built, or one of its model paths that leads nowhere."""
    from climb.config import ModelPath, build

    try:
        plugin = build(spec, object)
    except ConfigError as error:
        yield f"{key}: {error}"
        return
    for name, hint in get_type_hints(type(plugin), include_extras=True).items():
        path = getattr(plugin, name, None)
        if isinstance(path, str) and (hint == ModelPath or ModelPath in get_args(hint)):
            try:
                resolve(path)
            except PreflightError as error:
                yield f"{key}.{name}: {error}"


def _no_room(key: str, root: str) -> Iterator[str]:
    """Whether the folder, or the nearest one above it that exists, takes a file; it keeps none."""
    if _remote(root):
        return
    folder = Path(root).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        yield f"{key}: {folder} is a file; name a folder"
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield f"{key}: {folder} cannot be written ({error.strerror}); name another folder"
        return
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        yield f"{key}: {free:.2f} GB free at {folder}; a run needs at least {FREE_GB:.0f} GB"


def _remote(path: str) -> bool:
    """Whether a path is a URI (s3://, abfss://, dbfs:/), which only Spark can look at."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", path) is not None


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
