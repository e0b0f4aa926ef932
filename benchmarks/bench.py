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
    "pruning": "Pruning: junk that goes, good text that goes",
    "demo": "The demo: seconds per stage and peak memory",
}


def main() -> None:
    """Measure one after the other: two at once would measure each other."""
    chosen = sys.argv[1:] or list(PARTS)
    done = {}
    for part in chosen:
        print(f"bench: {part}", flush=True)
        run = subprocess.run(
            [sys.executable, HERE / f"{part}.py"], stdout=subprocess.PIPE, text=True, check=False
        )
        done[part] = run.stdout.strip() if run.returncode == 0 else f"failed ({run.returncode})"
        print(done[part], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = ["# Results", "", f"Written by `make bench` on {machine}.", ""]
    for part, text in done.items():
        lines += [f"## {PARTS[part]}", "", text, ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
