"""Run every benchmark, each in a process of its own, and write benchmarks/RESULTS.md.

Absolute times depend on the machine; every figure with a bar is a ratio to a peer in the same run.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PARTS = {
    "embedders": "Embedders: speed and agreement with known sources",
    "embedding": "Embedding through Spark / the same model's encode in one process",
    "assignment": "Assignment pass / KMeansModel.transform",
    "trials": "Trials through Spark / a plain loop over both cores",
    "carry": "Runs carried into other domains / as many fresh runs",
    "domains": "Clusters against known sources, junk that goes, good text that goes",
    "demo": "The demo: seconds per stage and peak memory",
    "accuracy": "Search: ranks of unseen published runs, and intervals",
    "regret": "Search: regret of every searcher, simulated",
    "null": "Search: gains claimed where there is none; limits broken",
    "speed": "Search: seconds of a large proposal and of fits",
}
SEARCH = ("accuracy", "regret", "null", "carry", "speed")
"""Parts of `make bench-search`. They hold two processes of one thread each."""


def main() -> int:
    """Measure one after the other, since two at once would measure each other; 1 on a miss.

    The parts that are named (`search`: those of the search), or all; sections of the others stay as
    they are.
    """
    missed = []
    wanted = SEARCH if sys.argv[1:] == ["search"] else sys.argv[1:] or PARTS
    for part in wanted:
        print(f"bench: {part}", flush=True)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = os.environ | (threads if part in SEARCH else {})
        command = [sys.executable, HERE / f"{part}.py"]
        run = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, env=environment
        )
        text = run.stdout.strip()
        if run.returncode:
            missed.append(part)
            text += f"\n\n**Bar missed, or failed** (exit {run.returncode})."
        print(text, flush=True)
        write(PARTS[part], text)
    return int(bool(missed))


def write(title: str, text: str) -> None:
    """Put one section into RESULTS.md."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    known = {}
    if RESULTS.exists():
        _, *sections = RESULTS.read_text().split("\n## ")
        known = {section.split("\n", 1)[0]: section.split("\n", 1)[1] for section in sections}
    known[title] = f"\n{text}\n\n({datetime.now(UTC):%Y-%m-%d}, {machine})\n"
    ordered = [f"## {name}\n{known[name]}" for name in PARTS.values() if name in known]
    head = "# Results\n\nWritten by `make bench`, section by section.\n\n"
    RESULTS.write_text(head + "\n".join(ordered))


if __name__ == "__main__":
    sys.exit(main())
