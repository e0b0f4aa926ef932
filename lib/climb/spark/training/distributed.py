"""Train one model in several processes, which Spark's TorchDistributor starts as a barrier stage.

Each task of the stage starts torchrun, and torchrun starts the process that trains. The driver
gets the result of the process with rank 0. A process that fails for good (a retry would fail too)
writes a record beside the checkpoints before it exits. Without this record, the other processes
would see only that the process is gone. The driver reads the record. If Spark retries the stage,
the new processes also read it, and end at once. A lost process leaves no record, and the driver
tries the run again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor

from climb import errors
from climb.errors import ConfigError, InfrastructureError
from climb.files import write_file
from climb.proxy import Proxy, ProxyRun
from climb.spark.failures import find_reason
from climb.spark.training.task import Outcome, train_one


def check_processes(proxy: Proxy, processes: int) -> None:
    """Check that a plug-in can be trained in several processes.

    Raises:
        ConfigError: the plug-in supports only one process.
    """
    if processes > 1 and not getattr(proxy, "supports_processes", False):
        raise ConfigError(
            f"train.processes is {processes}, but {type(proxy).__name__} does not set "
            "supports_processes: it trains in one process; set train.processes to 1"
        )


def train_distributed(proxy: Proxy, name: str, run: ProxyRun, use_gpu: bool) -> Outcome | Exception:
    """Train one run in `run.processes` tasks; called by the driver, with an active session.

    Args:
        proxy: the model.
        name: of the run.
        run: what it trains on.
        use_gpu: whether each task has a GPU; otherwise each trains on a core.

    Returns:
        The outcome, or the exception that stops the job; see `train_one`.

    Raises:
        InfrastructureError: a process was lost, and Spark's repetitions failed too.
    """
    _delete_failures(run)
    distributor = TorchDistributor(run.processes, local_mode=False, use_gpu=use_gpu)
    distributor.logger.setLevel(logging.WARNING)
    backend = "nccl" if use_gpu else "gloo"
    try:
        result = distributor.run(train_process, proxy, name, run, backend)
    except Exception as error:
        if (failure := read_failure(run)) is not None:
            return failure
        if not isinstance(error, PySparkException) and "org.apache.spark" not in str(error):
            raise  # an error of TorchDistributor itself, not of Spark
        reason = find_reason(str(error))
        raise InfrastructureError(f"a process of the run was lost: {reason}") from error
    finally:
        _delete_failures(run)
    assert isinstance(result, Outcome | Exception), result
    return result


def train_process(proxy: Proxy, name: str, run: ProxyRun, backend: str) -> Outcome | Exception:
    """Train as one process of several: the body of a process that torchrun has started.

    Raises:
        InfrastructureError: another process or a mount was lost.
        SystemExit: this process failed for good, and the run uses GPUs. The other processes of the
            run wait for this one until Spark ends their tasks. Spark does so because of this exit;
            if this process returned a result, it would not.
    """
    if (failure := read_failure(run)) is not None:
        return failure
    # Imported by name, like a plug-in, so that the jobs do not import deep-learning modules.
    processes = importlib.import_module("climb.proxy.processes")
    with processes.join_processes(backend) as rank:
        own = run
        if rank > 0:
            own = replace(run, targets=(), save=None, curve=None, heartbeat=None)
        try:
            result = train_one(proxy, name, own, device="cuda:0" if backend == "nccl" else "cpu")
        except InfrastructureError:
            # If another process failed for good, it wrote its record before it exited.
            if (failure := read_failure(run)) is not None:
                return failure
            raise
        if isinstance(result, Outcome) and result.status == "finished":
            return result
        _write_failure(run, rank, result)
        if backend == "nccl":
            raise SystemExit(1)
        return result


def read_failure(run: ProxyRun) -> Outcome | Exception | None:
    """Read the record of a process that failed for good; None if there is none."""
    for rank in range(run.processes):
        try:
            record = json.loads(_locate_failure(run, rank).read_bytes())
        except (OSError, ValueError):
            continue
        if "status" in record:
            return Outcome(**record)
        cls: type[Exception] = getattr(errors, record["class"], RuntimeError)
        return cls(record["message"])
    return None


def _write_failure(run: ProxyRun, rank: int, result: Outcome | Exception) -> None:
    if isinstance(result, Exception):
        record = {"class": type(result).__name__, "message": str(result)}
    else:
        record = asdict(result)
    write_file(_locate_failure(run, rank), lambda: [json.dumps(record).encode()])


def _delete_failures(run: ProxyRun) -> None:
    for rank in range(run.processes):
        with contextlib.suppress(OSError):
            _locate_failure(run, rank).unlink()


def _locate_failure(run: ProxyRun, rank: int) -> Path:
    return Path(f"{run.checkpoints}.failed-{rank}")
