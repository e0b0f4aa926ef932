"""Seconds of each stage of the demo, and peak memory of the driver with the JVM and all workers.

    python benchmarks/demo.py

The script fetches the data of the demo to .cache/demo if needed. It runs the demo in a temporary
folder.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from section import HERE, Bar, Section, Table, run_section

CLIMB = Path(sys.executable).parent / "climb"
ROOT = HERE.parent
STAGE = re.compile(r"^(\w+) +(.*)  \(([\d.]+) s\)$")
BAR_GB = 8.0
SECONDS_PER_SAMPLE = 0.5
TARGETS = ".cache/demo/targets"
QUICK = (
    *("ingest.inputs=[.cache/demo/text/part-0.parquet]", "cluster.k=16", "prune.domains=4"),
    f"proxy.targets=[{{name: piqa, kind: choices, search: {TARGETS}/piqa.search.jsonl.gz, "
    f"report: {TARGETS}/piqa.report.jsonl.gz, limit: 20}}]",
    *("proxy.base_tokens=20000", "search.trials_per_round=[5]", "search.candidates=200"),
    *("search.target_tokens=200000", "search.replicates=2"),
    *("train.base_tokens=20000", "train.tokens=20000", "train.seeds=2"),
)
"""Settings of the tiny version."""


def sum_rss_gb(root: int) -> float:
    """Sum the resident memory of a process and its descendants, in GB; Linux only."""
    parents, sizes = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(re.findall(r"^(\w+):\s+(\d+)", status.read_text(), re.MULTILINE))
        except OSError:
            continue
        pid = int(fields["Pid"])
        parents[pid], sizes[pid] = int(fields["PPid"]), int(fields.get("VmRSS", 0))
    family = {root}
    while children := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= children
    return sum(sizes.get(pid, 0) for pid in family) / 1e6


def run_demo(settings: tuple[str, ...]) -> tuple[str, float]:
    """Run the demo from the start; return its output and its peak memory in GB."""
    options = [part for setting in settings for part in ("--set", setting)]
    return run_measured([CLIMB, "run", "--conf", "conf/demo.yaml", *options])


def run_measured(command: Sequence[str | Path]) -> tuple[str, float]:
    """Run a command from the root of the project; return its output and its peak memory in GB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    samples, ended = [0.0], threading.Event()

    def sample_memory() -> None:
        while not ended.wait(SECONDS_PER_SAMPLE):
            samples.append(sum_rss_gb(process.pid))

    sampler = threading.Thread(target=sample_memory)
    sampler.start()
    output, _ = process.communicate()
    ended.set()
    sampler.join()
    if process.returncode:
        sys.exit(f"{command[0]} failed with exit status {process.returncode}:\n{output}")
    return output, max(samples)


def measure(args: argparse.Namespace) -> Section:
    subprocess.run([sys.executable, "demo/fetch.py"], check=True, cwd=ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        output, peak_gb = run_demo((f"storage.root={scratch}", *(QUICK if args.quick else ())))
        output = output.replace(f"{scratch}/", "")
    matches = [match for line in output.splitlines() if (match := STAGE.match(line))]
    rows = tuple((match[1], match[3], match[2]) for match in matches)
    return Section(
        "demo",
        "The demo: seconds per stage and peak memory",
        tables=(Table(("stage", "seconds", "result"), rows),),
        bars=(
            Bar("peak memory in GB, JVM and workers included", peak_gb, at_most=BAR_GB, form=".1f"),
        ),
    )


if __name__ == "__main__":
    run_section(measure)
