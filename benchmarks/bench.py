"""Run every benchmark, each in a process of its own, and write benchmarks/RESULTS.md.

Absolute times depend on the machine; every figure with a bar is a ratio to a peer in the same run.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "embedders": "Embedders: speed and agreement with known sources",
    "embedding": "Embedding through Spark / the same model's encode in one process",
    "assignment": "Assignment pass / KMeansModel.transform",
    "trials": "Trials through Spark / a plain loop over both cores",
    "domains": "Clusters against known sources, junk that goes, good text that goes",
    "demo": "The demo: seconds per stage and peak memory",
}


def main() -> int:
    """Measure one after the other, since two at once would measure each other; 1 on a miss."""
    chosen = sys.argv[1:] or list(PARTS)
    done, missed = {}, []
    for part in chosen:
        print(f"bench: {part}", flush=True)
        run = subprocess.run(
            [sys.executable, HERE / f"{part}.py"], stdout=subprocess.PIPE, text=True, check=False
        )
        done[part] = run.stdout.strip()
        if run.returncode:
            missed.append(part)
            done[part] += f"\n\n**Bar missed, or failed** (exit {run.returncode})."
        print(done[part], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = ["# Results", "", f"Written by `make bench` on {machine}.", ""]
    for part, text in done.items():
        lines += [f"## {PARTS[part]}", "", text, ""]
    if chosen == list(PARTS):
        (HERE / "RESULTS.md").write_text("\n".join(lines))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
