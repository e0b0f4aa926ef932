"""Several processes that train one model, without Spark."""

import multiprocessing
import os
import socket
import traceback
from dataclasses import replace
from pathlib import Path

from climb.proxy.curve import read_curve
from climb.proxy.processes import join_processes
from climb.proxy.training import run_training


def find_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def call_together(body, count):
    """Call body(rank) in so many joined processes; return what each returned or raised."""
    context = multiprocessing.get_context("fork")  # torch is imported already
    results, port = context.SimpleQueue(), find_port()

    def work(rank):
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            with join_processes("gloo"):
                results.put((rank, body(rank)))
        except Exception as error:
            traceback.print_exc()
            results.put((rank, error))

    workers = [context.Process(target=work, args=(rank,)) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    found = {}
    while not results.empty():
        rank, result = results.get()
        found[rank] = result
    return [found.get(rank) for rank in range(count)]


def in_folder(run, folder, **changes):
    """The same run with its results in a folder, and other fields."""
    return replace(
        run,
        save=str(folder / "model"),
        checkpoints=str(folder / "checkpoints"),
        curve=str(folder / "curve.json"),
        **changes,
    )


def read_results(run):
    return (Path(run.save) / "model.safetensors").read_bytes(), read_curve(run.curve)


def train_together(recipe, run, count, before_step=None):
    """Train one run in so many processes; return what the first one returned or raised."""

    def body(rank):
        own = replace(run, processes=count)
        own = own if rank == 0 else replace(own, save=None, targets=(), curve=None)
        before = None if before_step is None else lambda loop: before_step(loop, rank)
        return run_training(recipe, own, "cpu", before)

    return call_together(body, count)[0]
