"""The shared corpus on a standalone cluster of two workers: lost workers, growth, removal.

    python benchmarks/standalone.py                     # 92,800 documents, about an hour
    python benchmarks/standalone.py --documents 23200

The code is shipped as an archive, as docs/cluster.md says. Three roots hold the results:

* local: one process, undisturbed
* stored: on the cluster, with `cluster.embeddings: all`. A worker is killed during `embed` and
  another one during the trials, and new workers join.
* one_pass: on the cluster, with `cluster.embeddings: sample`: only the vectors of the sample are
  stored; other documents are embedded and assigned in one pass

Then a tenth of the documents is added to the corpus, and one source is removed, with both roots of
the cluster. Roots are compared by the number of rows of each table and the sum of their hashes,
without times and paths.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scale import write_conf, write_corpus, write_items
from section import HERE, Bar, Section, Table, run_section
from shared import shared_data

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.spark.session import start_session

sys.path.append(str(HERE.parent / "tests" / "e2e"))
import shipping

DOCUMENTS = 92_800
QUICK_DOCUMENTS = 300
REMOVED = "chat_irc"
"""The source that is removed."""

RESULTS = (
    *(tables.DOCUMENTS, tables.TOKENS, tables.EMBEDDINGS, tables.SCORES, tables.ASSIGNMENTS),
    *(tables.CLUSTERS, tables.DOMAINS, tables.SHARDS, tables.TRIALS, tables.MIXTURES),
    *(tables.CORPUS, tables.EVALUATIONS),
)
DIFFERENT_WAYS = tuple(table for table in RESULTS if table is not tables.EMBEDDINGS)
"""Tables that do not depend on which vectors are stored."""

HIDDEN = {"seconds", "finished", "path"}
"""Columns of times, and of paths that contain the folder of the run."""

Digest = tuple[int, str]
"""Rows of a table, and the sum of the hashes of its rows."""


@dataclass
class World:
    """Folders and settings of the measurement, and what was found so far."""

    folder: Path
    conf: Path
    environment: Path
    cluster: shipping.Standalone
    workers: list[subprocess.Popen[bytes]]
    commit_documents: int
    """Documents of a commit, so that a worker can be lost between two commits."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    """(root, step) -> seconds."""

    def list_settings(self, root: str) -> list[str]:
        """The arguments of every job of a root."""
        values = [
            f"storage.root={self.folder / root}",
            f"cluster.embeddings={'sample' if root == 'one_pass' else 'all'}",
            f"storage.commit_documents={self.commit_documents}",
            *("ingest.source_column=source", "tracking.enabled=false", "spark.driver_memory=4g"),
        ]
        return ["--conf", str(self.conf), *(part for v in values for part in ("--set", v))]

    def run_local(self, step: str) -> None:
        """Run all jobs in one process."""
        command = [self.environment / "bin" / "climb", "run", *self.list_settings("local")]
        with self.log("local", step) as log:
            subprocess.run(
                [str(word) for word in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=shipping.clean_env(),
                check=True,
            )

    def run_cluster(
        self, root: str, step: str, job: str = "pipeline", settings: Sequence[str] = ()
    ) -> None:
        """Run a job on the cluster, and wait for its end."""
        with self.log(root, step) as log:
            self.wait(self.submit(root, log, job, settings))

    def submit(
        self, root: str, log: object, job: str = "pipeline", settings: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start a job on the cluster."""
        arguments = [*self.list_settings(root), *(p for v in settings for p in ("--set", v))]
        path = shipping.find_job(self.environment, job)
        conf = {"spark.driver.memory": "4g", "spark.executor.memory": "2g"}
        return shipping.submit(
            self.cluster.url, self.environment, path, *arguments, conf=conf, stdout=log
        )

    def wait(self, process: subprocess.Popen[str]) -> None:
        """Wait for the end of a job, which must succeed."""
        if code := process.wait():
            sys.exit(f"a job ended with exit status {code}; its output is in {self.folder}")

    @contextlib.contextmanager
    def log(self, root: str, step: str) -> Iterator[object]:
        """Time a step, and open the file of its output."""
        start = time.monotonic()
        with (self.folder / f"{root}-{step}.log").open("w") as file:
            yield file
        self.seconds[root, step] = time.monotonic() - start
        print(f"standalone: {root}, {step}: {self.seconds[root, step]:.0f} s", flush=True)

    def replace_worker(self) -> None:
        """Kill the oldest worker with its executor, as when a node is lost; another one joins."""
        self.cluster.kill(self.workers.pop(0))
        self.workers.append(self.cluster.add_worker(memory="3g"))

    def count_commits(self, root: str, table: tables.Table) -> int:
        """Count the versions of a table."""
        return len(list((self.folder / root / "tables" / table.name / "_delta_log").glob("*.json")))


def run_disturbed(world: World) -> None:
    """Run all jobs on the cluster; lose a worker during `embed` and one during the trials."""
    with world.log("stored", "all jobs") as log:
        process = world.submit("stored", log)
        for table, commits in ((tables.EMBEDDINGS, 2), (tables.TRIALS, 3)):
            while world.count_commits("stored", table) < commits and process.poll() is None:
                time.sleep(0.05)
            if process.poll() is None:
                world.replace_worker()
                print(f"standalone: a worker was lost while {table.name} was written", flush=True)
        world.wait(process)


def add_documents(world: World, n: int) -> int:
    """Add n new documents: first half of one document and second half of the next of its source."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = world.folder / "text"
    old = pa.concat_tables([pq.read_table(file) for file in sorted(text.glob("*.parquet"))])
    rows = sorted(old.to_pylist(), key=lambda row: (row["source"], row["id"]))
    step = max(1, len(rows) // n)
    new = []
    for first, second in list(itertools.pairwise(rows))[::step][:n]:
        head, tail = first["text"], second["text"]
        joined = head[: len(head) // 2] + " " + tail[len(tail) // 2 :]
        new.append({"id": f"{first['id']}+", "text": joined, "source": first["source"]})
    pq.write_table(pa.Table.from_pylist(new, schema=old.schema), text / "part-new.parquet")
    return len(new)


def digest_tables(world: World, roots: Sequence[str]) -> dict[tuple[str, str], Digest]:
    """Digest all tables of some roots: (root, table) -> digest."""
    from pyspark.sql import functions as F

    found = {}
    settings = ["tracking.enabled=false", "spark.driver_memory=4g"]
    spark = start_session(load(settings=settings).spark)
    try:
        for root in roots:
            store = Store(spark, load(settings=[f"storage.root={world.folder / root}"]).storage)
            for table in RESULTS:
                rows = store.read(table)
                row = F.to_json(F.struct(*sorted(set(rows.columns) - HIDDEN)))
                total = F.sum(F.xxhash64(row).cast("decimal(38,0)")).cast("string")
                n, hashes = rows.agg(F.count("*"), total).first()
                found[root, table.name] = (n, hashes)
    finally:
        spark.stop()
    return found


def compare(
    world: World, step: str, pairs: Sequence[tuple[str, str, Sequence[tables.Table]]]
) -> tuple[list[tuple[str, ...]], int]:
    """Compare pairs of roots; return a row per table, and the number of tables that differ."""
    found = digest_tables(world, sorted({root for a, b, _ in pairs for root in (a, b)}))
    lines, n_different = [], 0
    for a, b, compared in pairs:
        for table in compared:
            first, second = found[a, table.name], found[b, table.name]
            verdict = "equal" if first == second and first[0] else "DIFFERENT"
            n_different += verdict != "equal"
            counts = (f"{first[0]:,}", f"{second[0]:,}")
            lines.append((step, f"{a}, {b}", table.name, *counts, verdict))
            print("standalone:", *lines[-1], flush=True)
    return lines, n_different


@contextlib.contextmanager
def open_world(n: int) -> Iterator[World]:
    """Make the corpus, the environment and the cluster; delete them at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_corpus(folder / "text", n)
        write_items(folder)
        (folder / "shipped").mkdir()
        environment = shipping.make_environment(
            folder / "shipped" / "env", shipping.build_wheel(folder / "shipped")
        )
        cluster = stack.enter_context(shipping.Standalone(folder))
        workers = [cluster.add_worker(memory="3g") for _ in range(2)]
        yield World(folder, write_conf(folder, n), environment, cluster, workers, n // 9)


def measure(args: argparse.Namespace) -> Section:
    shared_data()
    n = QUICK_DOCUMENTS if args.quick else args.documents
    with open_world(n) as world:
        world.run_local("all jobs")
        run_disturbed(world)
        world.run_cluster("one_pass", "all jobs")
        ways = ("stored", "one_pass", DIFFERENT_WAYS)
        found = [compare(world, "all jobs", [("local", "stored", RESULTS), ways])]
        n_added = add_documents(world, n // 10)
        for root in ("stored", "one_pass"):
            world.run_cluster(root, "growth")
        found.append(compare(world, "growth", [ways]))
        drift = find_line(world, "stored-growth.log", "drift since the fit")
        removed = [f"remove.sources=[{REMOVED}]"]
        for root in ("stored", "one_pass"):
            world.run_cluster(root, "removal", "remove", removed)
            world.run_cluster(root, "jobs after the removal")
        found.append(compare(world, "removal", [ways]))
        report = find_line(world, "stored-removal.log", "removed ")
        return build_section(world, n, n_added, found, (drift, report))


def find_line(world: World, log: str, text: str) -> str:
    """Return the line of a log that has this text."""
    lines = (world.folder / log).read_text().splitlines()
    return next((line.strip() for line in lines if text in line), f"no line with {text!r}")


def build_section(
    world: World,
    n: int,
    n_added: int,
    found: Sequence[tuple[list[tuple[str, ...]], int]],
    lines: Sequence[str],
) -> Section:
    """Build the section from the seconds and the comparisons."""
    seconds = tuple((*key, f"{value:.0f}") for key, value in world.seconds.items())
    rows = tuple(row for step, _ in found for row in step)
    header = ("step", "roots", "table", "rows of the first", "rows of the second", "rows")
    n_different = sum(different for _, different in found)
    return Section(
        "standalone",
        "A standalone cluster of two workers: lost workers, two ways to clusters, growth, removal",
        text=f"{n:,} documents of the shared corpus; {n_added:,} are added; {REMOVED} is removed.",
        tables=(
            Table(("root", "step", "seconds"), seconds, "Seconds"),
            Table(header, rows, "Comparison of rows, without times and paths"),
        ),
        bars=(Bar("tables with different rows", n_different, at_most=0, form=".0f"),),
        notes=tuple(lines),
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--documents", type=int, default=DOCUMENTS, help="documents at first")
    run_section(measure, options)
