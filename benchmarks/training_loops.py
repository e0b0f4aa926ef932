"""The loops that gpu_training.py compares: climb's, and a plain loop with a Hugging Face model."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np
import torch

from climb.proxy import ProxyRun
from climb.proxy.data import Stream
from climb.proxy.language_model import make_reproducible
from climb.proxy.llama import LlamaProxy
from climb.proxy.loop import TrainingLoop
from climb.tokenizer import TokenizerFile

WARM_UP = 3
"""Steps after the first step and before the first timing."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a model and its batch, and the steps of one timing."""

    hidden: int
    layers: int
    heads: int
    batch: int
    length: int
    steps: int
    n_ids: int = 32_000

    @property
    def feed_forward(self) -> int:
        """Inner width of SwiGLU, as of LlamaProxy."""
        return -(-8 * self.hidden // 3 // 8) * 8

    def count_parameters(self) -> int:
        """Count the parameters; input and output embeddings are one matrix."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        return self.n_ids * self.hidden + self.layers * layer + self.hidden

    def build_recipe(self, **fields: Any) -> LlamaProxy:
        """Build the recipe of this shape, with other fields changed."""
        return LlamaProxy(
            hidden=self.hidden, layers=self.layers, heads=self.heads, sequence=self.length,
            batch=self.batch, learning_rate=1e-3, **fields,
        )  # fmt: skip


def prepare_loop(shape: Shape, recipe: LlamaProxy, device: str) -> TrainingLoop:
    """Prepare a loop over random tokens, with enough steps for every timing."""
    rng = np.random.default_rng(0)
    shard = rng.integers(0, shape.n_ids, 2**20, dtype=np.uint16)
    n = 100_000 * shape.batch
    starts = rng.integers(0, len(shard), n)
    stream = Stream(("a",), (shard,), np.zeros(n, dtype=np.int64), starts, shape.length)
    run = ProxyRun(
        weights={"a": 1.0}, shards={}, tokenizer=TokenizerFile("random", 0), seed=0, start=None,
        n_tokens=n * shape.length, save=None, checkpoints="", checkpoint_steps=1,
    )  # fmt: skip
    model = recipe.create_model(shape.n_ids).to(torch.device(device))
    return TrainingLoop(recipe, run, stream, shape.n_ids, model)


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


class OurLoop:
    """This project's training loop."""

    def __init__(self, shape: Shape, device: str, **fields: Any) -> None:
        self.recipe, self.device = shape.build_recipe(**fields), device
        with self.settings():
            self.loop = prepare_loop(shape, self.recipe, device)

    def settings(self) -> contextlib.AbstractContextManager[None]:
        """The settings of torch with which the loop trains."""
        return make_reproducible(self.device, 0, self.recipe.precision, self.recipe.deterministic)

    def take_steps(self, n: int) -> None:
        """Take n steps, and read their losses."""
        with self.settings():
            for _ in range(n):
                self.loop.take_step()
            self.loop.read_losses()


class PlainLoop:
    """A Hugging Face model in a plain loop: autocast, AdamW, losses read only at the end."""

    def __init__(self, shape: Shape, device: str, compiled: bool, quick: bool) -> None:
        torch.manual_seed(0)
        model = shape.build_recipe().create_model(shape.n_ids).to(torch.device(device))
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        self.device, self.model, self.parameters = device, model, list(model.parameters())
        if compiled:
            self.model = torch.compile(model, backend="aot_eager" if quick else "inductor")
        self.ids = np.random.default_rng(0).integers(0, shape.n_ids, (8, shape.batch, shape.length))

    def take_steps(self, n: int) -> None:
        """Take n steps, and read the last loss."""
        for i in range(n):
            ids = torch.from_numpy(self.ids[i % len(self.ids)]).to(self.device)
            with torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16):
                loss = self.model(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        assert np.isfinite(float(loss))


def start(build: Any, device: str) -> tuple[Any, dict[str, float]]:
    """Build a loop, and take the first steps; return it, seconds of the first, and peak memory."""
    before = 0
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    loop = build()
    synchronize(device)
    began = time.monotonic()
    loop.take_steps(1)
    synchronize(device)
    seconds = time.monotonic() - began
    loop.take_steps(WARM_UP)
    peak = 0 if device == "cpu" else torch.cuda.max_memory_allocated() - before
    return loop, {"first_step_seconds": seconds, "peak_gib": peak / 2**30}


def time_steps(loop: Any, shape: Shape, device: str) -> float:
    """Tokens per second of one timing."""
    synchronize(device)
    began = time.monotonic()
    loop.take_steps(shape.steps)
    synchronize(device)
    return shape.steps * shape.batch * shape.length / (time.monotonic() - began)


class Remote:
    """The script in another process. For each input line, it prints a line of JSON."""

    def __init__(self, args: argparse.Namespace, worker: str) -> None:
        command = [sys.executable, sys.argv[0], "--device", args.device, "--worker", worker]
        self._cache = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            command + ["--quick"] * args.quick,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._cache.name},
        )
        self._timer = threading.Timer(args.seconds, self._process.kill)
        self._timer.start()

    def read(self) -> Any:
        """The next value that the process sends."""
        for line in self._process.stdout or ():
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        raise RuntimeError(f"a process of the benchmark ended with {self._process.wait()}")

    def begin_timing(self) -> None:
        """Let the process take a timing; `read` returns it."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)

    def take_timing(self) -> float:
        """Let the process take a timing, and return it."""
        self.begin_timing()
        return float(self.read())

    def close(self) -> None:
        """End the process."""
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        self._cache.cleanup()


def send(value: Any) -> None:
    print("RESULT " + json.dumps(value), flush=True)
