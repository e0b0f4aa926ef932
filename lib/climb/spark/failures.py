"""A ClimbError that was raised inside a task, as the driver's own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from climb import errors

_PYTHON = re.compile(
    r"^(?!org\.|java\.|py4j\.)(?:\w+\.)*\w+(?:Error|Exception|Exit)\b.*$", re.MULTILINE
)
_ABORTED = re.compile(r"Job aborted.*|ExecutorLost.*|.*worker exited unexpectedly.*")

_RAISED = re.compile(r"^climb\.errors\.(\w+): (.*)$", re.MULTILINE)


@contextlib.contextmanager
def task_errors() -> Iterator[None]:
    """Raise a task's ClimbError in the driver; Spark wraps it into its own, with two tracebacks.

    Raises:
        ClimbError: of the class and with the message that the task raised.
    """
    try:
        yield
    except Exception as error:
        found = climb_error(str(error))
        if found is None:
            raise
        raise found from error


def climb_error(text: str) -> errors.ClimbError | None:
    """The ClimbError that a remote traceback ends in; None where it ends in something else."""
    raised = _RAISED.findall(text)
    name, message = raised[-1] if raised else ("", "")  # those before it are its causes
    cls = getattr(errors, name, None)
    if not isinstance(cls, type) or not issubclass(cls, errors.ClimbError):
        return None
    return cls(message)


def last_line(text: str) -> str:
    """The one line of Spark's many that says why a task failed, cut to 500 characters."""
    reasons = _PYTHON.findall(text)[-1:] or _ABORTED.findall(text)[:1] or text.splitlines()[:1]
    return str(reasons[0]).strip()[:500] if reasons else "no reason given"
