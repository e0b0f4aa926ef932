"""What the executors of a cluster can import, asked once before the first job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from pyspark import SparkContext
from pyspark.sql import SparkSession

from climb.errors import PreflightError
from climb.spark.device import is_local
from climb.spark.failures import find_reason

CORE = ("climb", "numpy", "scipy", "pandas", "pyarrow", "yaml", "pydantic")
"""Packages that every task of climb imports."""

SHIP = (
    "ship the environment of the driver with --archives env.tar.gz#environment and --conf "
    "spark.pyspark.python=./environment/bin/python (docs/cluster.md)"
)

RAPIDS = (
    "use an image or environment of the executors with RAPIDS 26.06 (conda install -c rapidsai -c "
    "conda-forge -c nvidia cuml=26.06), or climb.spark.corpus.lloyd:ExactKMeans, which needs no GPU"
)
FROM_IMAGE = {"cupy": RAPIDS, "cuml": RAPIDS}
"""Packages that neither climb nor its extras install -> what to do if executors lack them."""

Found = tuple[str, str, str | None, list[str]]
"""Host, path of Python, version of climb, and the missing packages."""


def count_registered(context: SparkContext) -> int:
    """Count the registered executors; 1 if none is registered yet, as with dynamic allocation."""
    status = context._jsc.sc().getExecutorMemoryStatus()
    return max(1, int(status.size()) - 1)  # the driver has an entry too


def check_executors(session: SparkSession, packages: Mapping[str, str]) -> None:
    """Check that executors can import climb and the packages, with one short task per executor.

    Executors that start later have the same environment. In local mode, tasks have the packages of
    this process, so the check starts no task.

    Args:
        session: of the cluster.
        packages: import name -> what needs it; `CORE` is always checked too.

    Raises:
        PreflightError: executors cannot start Python, lack a package or have another climb version.
    """
    context = session.sparkContext
    look = _build_look([*CORE, *packages])
    is_here = is_local(str(context.master))
    found = list(look(None)) if is_here else _look_on_executors(context, look)
    if problem := describe_missing(found, packages, _find_version()):
        raise PreflightError(problem)


def _look_on_executors(
    context: SparkContext, look: Callable[[object], Iterator[Found]]
) -> list[Found]:
    n_executors = count_registered(context)
    context.setJobDescription("imports of the executors")
    try:
        return context.parallelize(range(n_executors), n_executors).mapPartitions(look).collect()
    except Exception as error:
        if context._jsc.sc().isStopped() or "SparkException" not in str(error):
            raise
        raise PreflightError(
            f"executors cannot run Python: {find_reason(str(error))}; {SHIP}"
        ) from error
    finally:
        context.setJobDescription(None)  # type: ignore[arg-type]  # None removes it


def _build_look(names: list[str]) -> Callable[[object], Iterator[Found]]:
    """Build the function of the tasks.

    The function is nested, so Spark sends its code, and executors without climb can run it.
    """

    def look(_: object) -> Iterator[Found]:
        import importlib.metadata
        import importlib.util
        import socket
        import sys

        missing = [name for name in names if importlib.util.find_spec(name) is None]
        try:
            release = importlib.metadata.version("climb-mixture")
        except importlib.metadata.PackageNotFoundError:
            release = None
        yield socket.gethostname(), sys.executable, release, missing

    return look


def describe_missing(
    found: list[Found], packages: Mapping[str, str], release: str | None
) -> str | None:
    """Describe what is wrong with the first unsuitable environment; None if all are suitable.

    Args:
        found: what each executor has.
        packages: import name -> what needs it.
        release: version of climb in the driver; None if it is not installed as a package.
    """
    for _, python, other, missing in sorted(found, key=lambda row: row[:2]):
        hosts = sorted({row[0] for row in found if row[1:] == (python, other, missing)})
        where = f"{', '.join(hosts)} ({python})"
        if "climb" in missing:
            return (
                f"executors cannot import climb on {where}; {SHIP}; a wheel in --py-files reaches "
                "only the driver"
            )
        if missing:
            needs = [f"{n} (needed by {packages[n]})" if n in packages else n for n in missing]
            remedies = dict.fromkeys(FROM_IMAGE.get(name, SHIP) for name in missing)
            return f"executors cannot import {', '.join(needs)} on {where}; {'; '.join(remedies)}"
        if release is not None and other not in (None, release):
            return (
                f"executors have climb {other} on {where}, and the driver has {release}; install "
                f"the same version, or {SHIP}"
            )
    return None


def _find_version() -> str | None:
    try:
        return version("climb-mixture")
    except PackageNotFoundError:
        return None
