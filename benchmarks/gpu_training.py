"""Training on one GPU: this project's loop against the plain Hugging Face loop, and equal bits.

    python benchmarks/gpu_training.py --output training.json         # no loop starts after 265 s
    python benchmarks/gpu_training.py --only medium --only profile       # these parts
    python benchmarks/gpu_training.py --device cpu --quick               # tiny shapes

It needs torch, transformers, pydantic and a C compiler; no Spark, Java or network. The tokens are
random. The plain loop compiles the whole model, which takes over a minute per shape. Two processes
do this while the part `bits` runs. After it, only one process uses the GPU at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp())  # an empty cache

import torch
import transformers
from equal_bits import CASES, compare_bits, describe_bits
from training_bars import PEER, list_bars, print_bars
from training_loops import OurLoop, PlainLoop, Remote, Shape, send, start, time_steps

from climb.proxy import gradients

PARTS = ("ceiling", "bits", "small", "medium", "large", "profile")
SECONDS, REPEATS = 280.0, 3
SHAPES = {
    "small": Shape(96, 2, 2, 16, 128, 300),
    "medium": Shape(384, 32, 6, 16, 2048, 10),
    "large": Shape(960, 32, 15, 8, 2048, 8),
    "bits": Shape(384, 4, 6, 8, 2048, 1),
}
QUICK = {name: Shape(16, 2, 2, 4, 16, 2, 100) for name in SHAPES}
COMMON: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, not deterministic": {"deterministic": False},
}
AUTOCAST = {"ours, autocast": {"precision": "bfloat16"}}
EAGER = {"ours, eager": {"compile": "eager"}}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "small": COMMON | {"ours, layers": {"compile": "layers"}} | EAGER,
    "medium": COMMON | AUTOCAST | {"ours, layers": {"compile": "layers"}} | EAGER,
    "large": COMMON | AUTOCAST | {"ours, step": {"compile": "step"}},
}
"""Changed fields of the recipe by part and loop, most important first; `ours` changes none."""

SECONDS_OF_A_LOOP = 15.0
"""Seconds that must be left when another loop starts."""


def serve(args: argparse.Namespace, shapes: dict[str, Shape]) -> None:
    """Run as a worker process: one of two for the part `bits`, or a compiled plain loop."""
    if args.worker == "bits":
        for name in CASES:
            try:
                send(compare_bits(name, shapes, args.device))
            except Exception as error:
                traceback.print_exc()
                send({"error": f"{type(error).__name__}: {error}"[:200]})
        return
    shape = shapes[args.worker]
    loop, facts = start(lambda: PlainLoop(shape, args.device, True, args.quick), args.device)
    send(facts)
    for _ in sys.stdin:
        speed = time_steps(loop, shape, args.device)
        if args.device != "cpu":
            torch.cuda.empty_cache()
        send(speed)


class Benchmark:
    """The parts, their results, and the errors of parts that failed."""

    def __init__(self, args: argparse.Namespace, shapes: dict[str, Shape]) -> None:
        self.args, self.shapes, self.began = args, shapes, time.monotonic()
        self.remotes: dict[str, Remote] = {}
        self.compiled: dict[str, Any] = {}
        self.found: dict[str, Any] = {"ceiling_tflops": None, "rows": [], "bits": []}
        self.found |= {"errors": {}, "seconds": {}}

    def run(self, part: str) -> None:
        """Run a part; an error is recorded, and the next part runs."""
        began = time.monotonic()
        named = {"ceiling": self.measure_ceiling, "bits": self.compare, "profile": self.profile}
        try:
            named.get(part, lambda: self.compare_speeds(part))()
        except Exception as error:
            self.record_error(part, error)
        self.found["seconds"][part] = round(time.monotonic() - began, 1)
        print(f"part {part}: {self.found['seconds'][part]} s", flush=True)

    def record_error(self, place: str, error: Exception) -> None:
        """Print an error and keep it."""
        traceback.print_exception(error)
        self.found["errors"][place] = f"{type(error).__name__}: {error}"[:300]

    def has_time(self) -> bool:
        """Whether another loop may start."""
        return time.monotonic() - self.began < self.args.seconds - SECONDS_OF_A_LOOP

    def measure_ceiling(self) -> None:
        """Measure the rate of a bfloat16 matrix product."""
        size, n = (256, 2) if self.args.quick else (8192, 30)
        one = torch.randn(size, size, device=self.args.device, dtype=torch.bfloat16)
        other = torch.randn_like(one)
        for count in (3, n):  # the first to warm up
            began = time.monotonic()
            for _ in range(count):
                product = one @ other
            float(product[0, 0])
        self.found["ceiling_tflops"] = 2 * size**3 * n / (time.monotonic() - began) / 1e12
        print(f"ceiling: {self.found['ceiling_tflops']:.1f} TFLOP/s", flush=True)

    def start_remotes(self, parts: list[str]) -> None:
        """Start the processes that compile the plain loops."""
        for part in ("medium", "large"):
            if part in parts:
                self.remotes[part] = Remote(self.args, part)

    def wait_for_remotes(self) -> None:
        """Wait until the plain loops are compiled."""
        for part, remote in list(self.remotes.items()):
            if part not in self.compiled:
                try:
                    self.compiled[part] = remote.read()
                except Exception as error:
                    self.record_error(f"{part}, plain, compiled", error)
                    del self.remotes[part]

    def compare(self) -> None:
        """Compare the bits of two processes with empty caches."""
        pair = [Remote(self.args, "bits") for _ in range(2)]
        try:
            for name in CASES:
                row = describe_bits(name, *(remote.read() for remote in pair))
                self.found["bits"].append(row)
                print(json.dumps(row), flush=True)
        finally:
            for remote in pair:
                remote.close()

    def compare_speeds(self, part: str) -> None:
        """Time the loops of a shape, one in memory at a time."""
        self.wait_for_remotes()
        gradients.forget_compiled()
        shape, device = self.shapes[part], self.args.device
        builds = {
            name: lambda fields=fields: OurLoop(shape, device, **fields)
            for name, fields in VARIANTS[part].items()
        }
        builds["plain, eager"] = lambda: PlainLoop(shape, device, False, self.args.quick)
        speeds: dict[str, list[float]] = {}
        facts: dict[str, Any] = {}
        for name, build in builds.items():
            if self.has_time():
                try:
                    facts[name] = self.time_alternately(part, name, build, speeds)
                except Exception as error:
                    self.record_error(f"{part}, {name}", error)
                gc.collect()  # loops have cycles; another loop's memory would limit the next one
        if PEER in speeds:
            facts[PEER] = self.compiled[part]
        self.report(part, speeds, facts)

    def time_alternately(
        self, part: str, name: str, build: Callable[[], Any], speeds: dict[str, list[float]]
    ) -> dict[str, float]:
        """Time a loop and the compiled plain loop in turn; return facts about the loop's start."""
        shape, device = self.shapes[part], self.args.device
        loop, facts = start(build, device)
        for repeat in range(REPEATS):
            if repeat and not self.has_time():
                break
            speeds.setdefault(name, []).append(time_steps(loop, shape, device))
            if part in self.remotes:
                speeds.setdefault(PEER, []).append(self.remotes[part].take_timing())
        return facts

    def report(self, part: str, speeds: dict[str, list[float]], facts: dict[str, Any]) -> None:
        """Print and keep the rows of a shape."""
        n_parameters = self.shapes[part].count_parameters()
        for name, found in speeds.items():
            speed = statistics.median(found)
            ceiling = self.found["ceiling_tflops"]
            mfu = 6 * n_parameters * speed / (ceiling * 1e12) if ceiling else None
            row = {
                "part": part,
                "loop": name,
                "tokens_per_second": speed,
                "range": [min(found), max(found)],
            }
            self.found["rows"].append(row | {"mfu": mfu, "parameters": n_parameters} | facts[name])
            seconds, peak = facts[name]["first_step_seconds"], facts[name]["peak_gib"]
            print(
                f"{part:8}{name:26}{speed:>12,.0f} tokens/s ({min(found):,.0f} to "
                f"{max(found):,.0f})  MFU {mfu or float('nan'):.1%}  first step {seconds:.1f} s  "
                f"{peak:.1f} GiB",
                flush=True,
            )

    def profile(self) -> None:
        """Print the kernels of `medium` that take the most time."""
        loop, _ = start(lambda: OurLoop(self.shapes["medium"], self.args.device), self.args.device)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.args.device != "cpu":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profiler:
            loop.take_steps(2)
        order = "self_cpu_time_total" if self.args.device == "cpu" else "self_device_time_total"
        print(profiler.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, which measure nothing")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated")
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="time limit; no loop starts near it"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    shapes = SHAPES
    if args.quick:  # without C++ code, which takes minutes to compile on a CPU
        shapes, gradients.BACKEND = QUICK, "aot_eager"
    if args.worker:
        serve(args, shapes)
        return 0
    parts = [part for part in PARTS if part in (args.only or PARTS)]
    benchmark = Benchmark(args, shapes)
    name = platform.processor() if args.device == "cpu" else torch.cuda.get_device_name()
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": name,
    }
    print(json.dumps(versions), flush=True)
    try:
        for part in parts:
            if part != "ceiling" and not benchmark.remotes:
                benchmark.start_remotes(parts)
            benchmark.run(part)
        bars = list_bars(benchmark.found, parts)
    finally:
        for remote in benchmark.remotes.values():
            remote.close()
    missed = print_bars(bars)
    if args.output is not None:
        found = versions | benchmark.found | {"bars": [dataclasses.asdict(bar) for bar in bars]}
        args.output.write_text(json.dumps(found, indent=1))
    print(f"errors: {benchmark.found['errors'] or 'none'}")
    print(f"total {time.monotonic() - benchmark.began:.0f} s")
    return int(bool(benchmark.found["errors"]) or (missed > 0 and not args.quick))


if __name__ == "__main__":
    sys.exit(main())
