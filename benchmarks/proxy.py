"""Proxies on a CPU: speed, the time of a search outside of them, and how far they can be trusted.

    python benchmarks/bench.py proxy                # all parts, and trials.py
    python benchmarks/proxy.py seeds --minutes 5    # train for five minutes, then stop

| part     | question                                                                         |
|----------|----------------------------------------------------------------------------------|
| speed    | tokens/s of one proxy against a model and a loop that are written by hand        |
| overhead | share of a search's time in which no trial is trained                            |
| seeds    | do two seeds rank mixtures equally?                                              |
| sizes    | do small proxies rank mixtures as a ten times larger one with four times the tokens? |

`seeds` and `sizes` train on the corpora of shared/data (`real_text.py`). A finished run is a line
of a file, so a benchmark that was stopped continues.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from proxy_ranks import Bench, measure_seeds, measure_sizes
from proxy_times import measure_overhead, measure_speed
from section import Section, run_section
from shared import shared_data

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "proxy"
RANKS = {"seeds": measure_seeds, "sizes": measure_sizes}
TIMES = {"speed": measure_speed, "overhead": measure_overhead}


def measure(args: argparse.Namespace) -> Section:
    """Measure the part that the command line names."""
    if args.part in TIMES:
        return TIMES[args.part](args.quick)
    shared_data()
    deadline = time.monotonic() + 60.0 * args.minutes
    if not args.quick:
        return RANKS[args.part](Bench(CACHE, args.quick, deadline))
    with tempfile.TemporaryDirectory() as folder:
        return RANKS[args.part](Bench(Path(folder), args.quick, deadline))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=[*TIMES, *RANKS])
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after this time; it continues"
    )
    run_section(measure, parser)
