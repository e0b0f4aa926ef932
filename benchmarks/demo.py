"""The demo's stages in seconds, and the peak memory of its driver with the JVM and all workers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

CLIMB = Path(sys.executable).parent / "climb"
STAGE = re.compile(r"^(\w+) +(.*)  \(([\d.]+) s\)$")
BAR_GB = 8.0


def rss_gb(root: int) -> float:
    """Resident memory of a process and all its descendants, in GB, as Linux counts it."""
    parents, sizes = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(re.findall(r"^(\w+):\s+(\d+)", status.read_text(), re.MULTILINE))
        except OSError:
            continue
        pid = int(fields["Pid"])
        parents[pid], sizes[pid] = int(fields["PPid"]), int(fields.get("VmRSS", 0))
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(sizes.get(pid, 0) for pid in family) / 1e6


def main() -> int:
    """Run the demo from nothing, and print a table."""
    if not Path(".cache/demo").is_dir():
        subprocess.run([sys.executable, "demo/fetch.py"], check=True)
    shutil.rmtree("climb-demo", ignore_errors=True)
    process = subprocess.Popen(
        [CLIMB, "run", "--conf", "conf/demo.yaml"], stdout=subprocess.PIPE, text=True
    )
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            peak[0] = max(peak[0], rss_gb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(out)
    print("| stage | seconds | what |\n|---|---|---|")
    for line in out.splitlines():
        if match := STAGE.match(line):
            print(f"| {match[1]} | {match[3]} | {match[2]} |")
    print(
        f"\nPeak memory, JVM and workers included: **{peak[0]:.1f} GB** (bar: under {BAR_GB:.0f})"
    )
    return int(peak[0] >= BAR_GB)


if __name__ == "__main__":
    sys.exit(main())
