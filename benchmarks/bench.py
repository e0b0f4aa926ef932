"""Run benchmarks, each in its own process, and write benchmarks/RESULTS.md.

    python benchmarks/bench.py                    # all of them
    python benchmarks/bench.py search             # those of the search
    python benchmarks/bench.py speed reuse        # these two
    python benchmarks/bench.py --quick speed      # a tiny version that records nothing
    python benchmarks/bench.py --render           # RESULTS.md from the recorded sections

A bar on speed is a ratio to a peer in the same run, or has a wide margin, because times depend on
the machine. A benchmark that fails or is skipped leaves its recorded section unchanged.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from section import HERE, Section, from_json, render_results, to_json

RESULTS = HERE / "RESULTS.md"
SECTIONS = HERE / "results"
NAMES = (
    *("embedders", "embedding", "assignment", "nearest", "kmeans", "sample", "packing", "trials"),
    *("proxy_speed", "proxy_overhead", "proxy_seeds", "proxy_sizes", "ddp", "harness"),
    *("domains", "contamination", "mix", "export", "demo", "scale", "standalone", "fidelities"),
    *("accuracy", "swarm", "regret_blend_mean"),
    *("regret_blend_pile", "regret_trees_mean", "regret_trees_pile", "regret_olmix_mean"),
    *("null", "reuse", "borrow", "scales", "halving", "speed"),
)
"""All sections in the order of the page. A name is, or starts with, the name of its script."""

SEARCH = NAMES[NAMES.index("accuracy") :]
"""Sections of `make bench-search`. They use two processes of one thread each."""

GROUPS = {
    "search": SEARCH,
    "proxy": tuple(
        name for name in NAMES if name in ("trials", "ddp") or name.startswith("proxy_")
    ),
    "regret": tuple(name for name in NAMES if name.startswith("regret_")),
}


def main() -> int:
    """Run benchmarks one after the other, because two at once would slow each other down.

    Returns:
        1 where a bar is missed or a benchmark fails, else 0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*NAMES, *GROUPS)))
    parser.add_argument("--quick", action="store_true", help="tiny versions; records nothing")
    parser.add_argument("--render", action="store_true", help="only write RESULTS.md")
    args = parser.parse_args()
    names = select_names(args.names)
    if args.render:
        write_results(RESULTS, SECTIONS)
        return 0
    succeeded = [run_benchmark(name, args.quick) for name in names]
    return int(not all(succeeded))


def select_names(arguments: list[str]) -> list[str]:
    """Return the sections that the command line names, with groups expanded; none named: all."""
    unknown = [name for name in arguments if name not in (*NAMES, *GROUPS)]
    if unknown:
        sys.exit(f"bench: no benchmark {unknown[0]!r}; there are {', '.join((*NAMES, *GROUPS))}")
    return [name for text in arguments for name in GROUPS.get(text, (text,))] or list(NAMES)


def build_command(name: str, quick: bool, output: Path) -> list[str]:
    """Build the command of one section; `regret_blend_mean` runs `regret.py blend mean`."""
    script, *arguments = name.split("_")
    options = ["--quick"] if quick else ["--output", str(output)]
    return [sys.executable, str(HERE / f"{script}.py"), *arguments, *options]


def run_benchmark(name: str, quick: bool) -> bool:
    """Run one benchmark, and record its section; return False if a bar is missed or it fails."""
    print(f"bench: {name}", flush=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | (one_thread if name in SEARCH else {})
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "section.json"
        run = subprocess.run(build_command(name, quick, output), check=False, env=environment)
        if output.is_file():
            record(from_json(output.read_text()), RESULTS, SECTIONS)
            return run.returncode == 0
    if run.returncode:
        print(f"bench: {name} failed with exit status {run.returncode}; nothing was recorded")
    return run.returncode == 0


def record(section: Section, results: Path, folder: Path) -> None:
    """Store one section, and write the page from all stored sections."""
    folder.mkdir(exist_ok=True)
    (folder / f"{section.name}.json").write_text(to_json(section))
    write_results(results, folder)


def write_results(results: Path, folder: Path) -> None:
    """Write the page from the sections in a folder."""
    files = {name: folder / f"{name}.json" for name in NAMES}
    sections = [from_json(path.read_text()) for path in files.values() if path.is_file()]
    not_measured = [name for name, path in files.items() if not path.is_file()]
    results.write_text(render_results(sections, not_measured))


if __name__ == "__main__":
    sys.exit(main())
