"""Small proxies on one GPU at the same time: each in its own process, or all in one process.

    python benchmarks/gpu_sharing.py --output sharing.json    # no part starts after 100 s
    python benchmarks/gpu_sharing.py --device cpu --quick     # tiny

With `spark.trials_per_gpu: 8`, Spark runs eight trials on a GPU, each in its own process; the part
`processes` does this without Spark. In the part `streams`, one thread takes a step of each proxy in
turn, each on its own CUDA stream. The proxy has 3.3 M parameters and 16 x 128 random tokens a step.

Bar: eight proxies together train on at least 6 times the tokens/s of one loop without compilation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_training import QUICK, SHAPES  # first: it sets variables that torch reads

# isort: split
import torch
from section import Bar
from training_bars import print_bars
from training_loops import OurLoop, Remote, Shape, send, start, synchronize, time_steps

from climb.proxy import gradients

COUNTS, QUICK_COUNTS = (1, 2, 4, 8, 16), (1, 2)
REPEATS, SECONDS, SPEED = 3, 100.0, 6.0


def serve(args: argparse.Namespace, shape: Shape) -> None:
    """Run as one of several processes: train whenever a line arrives."""
    loop, facts = start(lambda: OurLoop(shape, args.device), args.device)
    send(facts)
    for _ in sys.stdin:
        send(time_steps(loop, shape, args.device))


def time_processes(args: argparse.Namespace, shape: Shape, count: int) -> list[float]:
    """Tokens/s of `count` processes together, from the first start to the last end."""
    remotes = [Remote(args, "shared") for _ in range(count)]
    n_tokens = count * shape.steps * shape.batch * shape.length
    try:
        for remote in remotes:
            remote.read()

        def train() -> None:
            for remote in remotes:
                remote.begin_timing()
            for remote in remotes:
                remote.read()

        return [time_rate(train, n_tokens) for _ in range(REPEATS)]
    finally:
        for remote in remotes:
            remote.close()


def time_streams(args: argparse.Namespace, shape: Shape, count: int) -> list[float]:
    """Tokens/s of `count` loops in this thread, each on its own stream."""
    loops = []
    for _ in range(count):
        stream = None if args.device == "cpu" else torch.cuda.Stream()
        with torch.cuda.stream(stream):  # None: no change
            loop, _ = start(lambda: OurLoop(shape, args.device), args.device)
        loops.append((loop, stream))

    def train() -> None:
        with loops[0][0].settings():
            for _ in range(shape.steps):
                for loop, stream in loops:
                    with torch.cuda.stream(stream):
                        loop.loop.take_step()
        synchronize(args.device)

    return [
        time_rate(train, count * shape.steps * shape.batch * shape.length) for _ in range(REPEATS)
    ]


def time_rate(work: Callable[[], None], n_tokens: int) -> float:
    """Tokens per second."""
    began = time.monotonic()
    work()
    return n_tokens / (time.monotonic() - began)


def time_eager(args: argparse.Namespace, shape: Shape) -> list[float]:
    """Tokens/s of one loop without compilation."""
    loop, _ = start(lambda: OurLoop(shape, args.device, compile="eager"), args.device)
    return [time_steps(loop, shape, args.device) for _ in range(REPEATS)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu with --quick")
    parser.add_argument("--quick", action="store_true", help="a tiny shape, which measures nothing")
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no part starts after this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(args: argparse.Namespace, shape: Shape, began: float) -> dict[str, Any]:
    """Time one loop without compilation, and each number of proxies both ways."""
    eager = statistics.median(time_eager(args, shape))
    print(f"one loop without compilation: {eager:,.0f} tokens/s", flush=True)
    results: dict[str, Any] = {"eager": eager, "rows": [], "errors": {}}
    for count in QUICK_COUNTS if args.quick else COUNTS:
        for way, measure in (("processes", time_processes), ("streams", time_streams)):
            try:
                if time.monotonic() - began > args.seconds:
                    raise TimeoutError("no time left")
                found = measure(args, shape, count)
            except Exception as error:
                results["errors"][f"{way}, {count}"] = f"{type(error).__name__}: {error}"[:300]
                continue
            results["rows"].append({"way": way, "proxies": count, "tokens_per_second": found})
            print(
                f"{way:10}{count:>3} proxies {statistics.median(found):>12,.0f} tokens/s "
                f"({min(found):,.0f} to {max(found):,.0f})",
                flush=True,
            )
    return results


def main() -> int:
    args = parse_arguments()
    shape = (QUICK if args.quick else SHAPES)["small"]
    if args.quick:
        gradients.BACKEND = "aot_eager"
    if args.worker:
        serve(args, shape)
        return 0
    began = time.monotonic()
    results = compare(args, shape, began)
    most = QUICK_COUNTS[-1] if args.quick else 8
    missed = print_bars(
        [
            Bar(
                f"{most} processes / one loop without compilation",
                statistics.median(row["tokens_per_second"]) / results["eager"],
                at_least=SPEED,
            )
            for row in results["rows"]
            if (row["way"], row["proxies"]) == ("processes", most)
        ]
    )
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=1))
    print(f"errors: {results['errors'] or 'none'}; total {time.monotonic() - began:.0f} s")
    return int(bool(results["errors"]) or (missed > 0 and not args.quick))


if __name__ == "__main__":
    sys.exit(main())
