"""Why a task failed: the kind of failure, and the error that the driver raises for it.

A training run fails in one of four ways:

| kind           | cause                       | consequence                                      |
|----------------|-----------------------------|--------------------------------------------------|
| deterministic  | loss or metric became NaN   | recorded as failed; never retried                |
| resource       | memory ran out              | repeated alone; then recorded if it fails again  |
| infrastructure | lost worker, device, mount  | Spark and the next start repeat it; not recorded |
| bug            | every other exception       | stops the search with the worker's traceback     |

A ClimbError of none of the first three kinds is a mistake of the user: the search stops with the
error's one-line message.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Literal

from climb import errors

FailureKind = Literal["deterministic", "resource", "infrastructure", "bug"]

LOST_MOUNT = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ENOSPC),
        *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""Errors of a disk, a network file system or a FUSE mount. A missing file is not among them."""

LOST_DEVICE = (
    *("uncorrectable ECC", "fallen off the bus", "GPU is lost", "hardware stack error"),
    *("devices are busy or unavailable", "no CUDA-capable device", "CUDA error: unknown error"),
)
"""What CUDA reports when a GPU fails, as opposed to an error in a computation."""

_PYTHON_ERROR = re.compile(
    r"^(?!org\.|java\.|py4j\.)(?:\w+\.)*\w+(?:Error|Exception|Exit)\b.*$", re.MULTILINE
)
_ABORTED = re.compile(r"Job aborted.*|ExecutorLost.*|.*worker exited unexpectedly.*")
_CLIMB_ERROR = re.compile(r"^climb\.errors\.(\w+): (.*)$", re.MULTILINE)
_CONNECTION_LOST = re.compile(r"(?:\w+\.)*(?:EOFError|Connection\w*Error|BrokenPipeError)\b")


def classify_failure(error: BaseException) -> FailureKind | None:
    """Return the kind of failure; None for a user's mistake, whose message says what to do.

    The causes of an error (`raise ... from ...`) count too: a plug-in may wrap what it catches.
    """
    if isinstance(error, errors.TrialError):
        return "deterministic"
    causes = list(_iterate_causes(error))
    if any(_is_infrastructure(cause) for cause in causes):
        return "infrastructure"
    if any(_is_out_of_memory(cause) for cause in causes):
        return "resource"
    return None if isinstance(error, errors.ClimbError) else "bug"


def _iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_infrastructure(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in LOST_MOUNT:
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST_DEVICE):
        return True
    return isinstance(error, errors.InfrastructureError | ConnectionError | TimeoutError)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one; torch is not imported here
        return any(words in str(error) for words in errors.OUT_OF_MEMORY)
    return isinstance(error, errors.ResourceError | MemoryError)


def is_worker_lost(text: str) -> bool:
    """Whether Spark's message reports a lost worker, and not an exception of Python code.

    If a task raised an InfrastructureError, this counts as a lost worker too: the error reaches the
    driver only after all of Spark's retries of the task have failed.
    """
    if "SparkException" not in text:  # an error of the driver, such as a failed pickling
        return False
    if "PythonException" not in text:
        return True
    if isinstance(find_climb_error(text), errors.InfrastructureError):
        return True
    return _CONNECTION_LOST.match(find_reason(text)) is not None


@contextlib.contextmanager
def reraise_task_errors() -> Iterator[None]:
    """Raise a task's ClimbError in the driver; Spark wraps it in its own error and tracebacks.

    Raises:
        ClimbError: the task raised it; class and message are those of the task's error.
    """
    try:
        yield
    except Exception as error:
        found = find_climb_error(str(error))
        if found is None:
            raise
        raise found from error


def find_climb_error(text: str) -> errors.ClimbError | None:
    """Return the ClimbError at the end of a remote traceback; None if another error is there."""
    raised = _CLIMB_ERROR.findall(text)
    name, message = raised[-1] if raised else ("", "")  # earlier ones are its causes
    cls = getattr(errors, name, None)
    if not isinstance(cls, type) or not issubclass(cls, errors.ClimbError):
        return None
    return cls(message)


def find_reason(text: str) -> str:
    """Return the line of Spark's message that says why a task failed, cut to 500 characters."""
    python = _PYTHON_ERROR.findall(text)[-1:]
    reasons = python or _ABORTED.findall(text)[:1] or text.splitlines()[:1]
    return str(reasons[0]).strip()[:500] if reasons else "no reason given"
