"""The kinds of failure of a training run, and what the driver reads from Spark's messages."""

import errno
from types import SimpleNamespace

import numpy as np
import pytest

from climb import errors
from climb.spark.failures import (
    classify_failure,
    find_climb_error,
    find_reason,
    is_worker_lost,
    reraise_task_errors,
)
from climb.spark.training.task import train_one

RUN = SimpleNamespace(local_copies=None, save=None, heartbeat=None)


def wrap(error, cause):
    """Return an error with a cause, as `raise error from cause` makes it."""
    error.__cause__ = cause
    return error


class OutOfMemoryError(RuntimeError):
    """Stands for torch.OutOfMemoryError."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.TrialError("the loss is nan at step 3"), "deterministic"),
        (wrap(errors.TrialError("NaN"), OSError(errno.EIO, "late")), "deterministic"),
        (errors.ResourceError("out of memory"), "resource"),
        (MemoryError(), "resource"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "resource"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "resource"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling"), "resource"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "resource"),
        (wrap(errors.ConfigError("the model cannot be loaded"), MemoryError()), "resource"),
        (errors.InfrastructureError("the cluster says so"), "infrastructure"),
        (OSError(errno.EIO, "Input/output error"), "infrastructure"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "infrastructure"),
        (OSError(errno.ENOSPC, "No space left on device"), "infrastructure"),
        (ConnectionResetError("by peer"), "infrastructure"),
        (TimeoutError("the server does not answer"), "infrastructure"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "infrastructure"),
        (wrap(errors.ComponentError("shard"), OSError(errno.ESTALE, "x")), "infrastructure"),
        (errors.ComponentError("shard x.npy cannot be read"), None),
        (errors.ConfigError("a run of 15 tokens"), None),
        (FileNotFoundError(errno.ENOENT, "No such file"), "bug"),
        (RuntimeError("CUDA error: device-side assert triggered"), "bug"),
        (KeyError("weights"), "bug"),
    ],
)
def test_the_kind_of_a_failure_follows_from_the_exception_and_its_causes(error, kind):
    assert classify_failure(error) == kind


PYTHON = (
    "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n"
    ": org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 failed 4 times: "
    "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
    '  File "worker.py", line 1, in main\n{line}\n\n\tat org.apache.spark.api.python.BasePython'
)
CRASHED = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 failed 1 times: "
    "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat x"
)
EXECUTOR = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: ExecutorLostFailure "
    "(executor 1 exited caused by one of the running tasks) Reason: Command exited with code 137"
)


@pytest.mark.parametrize(
    ("text", "is_lost"),
    [
        (CRASHED, True),
        (EXECUTOR, True),
        (PYTHON.format(line="climb.errors.InfrastructureError: OSError: Input/output"), True),
        (PYTHON.format(line="EOFError"), True),
        (PYTHON.format(line="ConnectionResetError: [Errno 104]"), True),
        (PYTHON.format(line="ModuleNotFoundError: No module named 'my_proxy'"), False),
        ("PicklingError: Could not serialize object", False),
    ],
)
def test_a_lost_worker_is_told_from_an_exception_in_python_code(text, is_lost):
    assert is_worker_lost(text) == is_lost


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "An error occurred.\n: org.apache.spark.SparkException: Job aborted\n"
            "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error\n\n"
            "\tat org.apache.spark.Task.run",
            "RuntimeError: CUDA error",
        ),
        ("An error occurred.\n: Job aborted due to stage failure: x\n\tat a.b", "Job aborted due"),
        ("no traceback here\nat all", "no traceback here"),
        ("", "no reason given"),
    ],
)
def test_the_reason_of_a_failed_task_is_one_line_of_the_message(text, line):
    assert find_reason(text).startswith(line)


def test_only_errors_of_climb_are_found_in_a_remote_traceback():
    assert find_climb_error("ValueError: climb.errors.Nonsense happened") is None
    assert find_climb_error("climb.errors.ClimbErr: no such class") is None
    text = (
        "Traceback ...\nclimb.errors.InputError: its cause\n\nDuring handling of it ...\n"
        "climb.errors.ComponentError: it broke\n\n\tat org.apache"
    )
    assert type(find_climb_error(text)) is errors.ComponentError
    assert str(find_climb_error(text)) == "it broke"


def test_the_error_of_a_task_is_raised_in_the_driver_and_others_stay():
    with pytest.raises(errors.InputError, match=r"^no file$"), reraise_task_errors():
        raise RuntimeError("Traceback ...\nclimb.errors.InputError: no file\n\n\tat x")
    with pytest.raises(RuntimeError, match="another"), reraise_task_errors():
        raise RuntimeError("another error")


class Failing:
    """A proxy that raises an error."""

    def __init__(self, error):
        self.error = error

    def train(self, run, device):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.TrialError("NaN at step 3"), "deterministic"),
        (errors.ResourceError("out of memory"), "resource"),
    ],
)
def test_a_task_returns_a_failed_outcome_with_its_kind_and_message(error, kind):
    outcome = train_one(Failing(error), "a", RUN)
    assert (outcome.name, outcome.status, outcome.kind) == ("a", "failed", kind)
    assert outcome.error == str(error)
    assert outcome.metrics == {}


def test_a_task_raises_an_infrastructure_error_so_that_spark_repeats_it():
    with pytest.raises(errors.InfrastructureError, match=r"OSError: .*Input/output error"):
        train_one(Failing(OSError(errno.EIO, "Input/output error")), "a", RUN)


def test_a_task_returns_a_mistake_of_the_user_and_a_bug_so_that_spark_does_not_repeat_it():
    mistake = errors.ComponentError("a shard is missing")
    assert train_one(Failing(mistake), "a", RUN) is mistake
    bug = train_one(Failing(KeyError("weights")), "a", RUN)
    assert type(bug) is RuntimeError
    assert str(bug).startswith("run a raised an unexpected exception in a worker:\nTraceback")
    assert str(bug).strip().endswith("KeyError: 'weights'")


class Returning:
    """A proxy that returns some metrics."""

    def __init__(self, metrics):
        self.metrics = metrics

    def train(self, run, device):
        return self.metrics


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), np.float32("inf")])
def test_a_run_with_a_metric_that_is_not_finite_has_failed(value):
    outcome = train_one(Returning({"a.bpb": 1.0, "b.prob": value}), "a", RUN)
    assert (outcome.status, outcome.kind, outcome.metrics) == ("failed", "deterministic", {})
    assert outcome.error == f"metric b.prob is {float(value)} at the end of the run"


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        (None, "NoneType"),
        ([("a.bpb", 1.0)], "list"),
        ({3: 1.0}, "an entry 3: float"),
        ({"a.bpb": "1.0"}, "an entry 'a.bpb': str"),
    ],
)
def test_a_proxy_that_does_not_return_numbers_by_name_is_a_mistake_of_the_user(metrics, found):
    error = train_one(Returning(metrics), "a", RUN)
    assert type(error) is errors.ComponentError
    assert str(error).startswith(f"run a: Returning.train returned {found}; it must return a dict")
    assert "\n" not in str(error)


def test_a_proxy_that_calls_sys_exit_has_a_bug_in_a_named_run():
    bug = train_one(Failing(SystemExit(3)), "a", RUN)
    assert type(bug) is RuntimeError
    assert str(bug).startswith("run a raised an unexpected exception in a worker:\nTraceback")
    assert str(bug).strip().endswith("SystemExit: 3")
