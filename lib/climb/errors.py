"""Every error that a user can fix or retry, as one tree.

ClimbError
|-- ConfigError           a configuration key, value or plug-in spec is wrong
|-- PreflightError        this machine cannot run the job: Java, packages, disk, model files
|-- InputError            a file or document of the user cannot be read as configured
|-- TableError            a table is missing or empty, or another configuration wrote it
|-- ComponentError        a plug-in violates its contract (shape, NaN, missing key)
|-- MixtureError          no mixture satisfies the constraints
|-- SearchError           the trials do not support a recommendation
|
|   A failure of a training run is of one of four kinds (`climb.spark.failures`):
|-- TrialError            deterministic: the loss or a metric became NaN; a retry would fail too
|-- ResourceError         resource: memory ran out; the run may succeed alone on the machine
`-- InfrastructureError   infrastructure: a worker or a mount was lost; a retry may succeed
                          bug: every other exception; it keeps its own class and traceback

A message says what is wrong, where, what was found, and what to do, in one line (a table of values
may follow). `climb.cli.start.run_command` prints it and exits 1.
"""

OUT_OF_MEMORY = (
    *("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"),
)
"""Texts in the messages of torch's RuntimeErrors when an allocation fails. The message of cuBLAS is
CUBLAS_STATUS_NOT_INITIALIZED if the workspace of cuBLAS does not fit into the GPU's free memory."""


class ClimbError(Exception):
    """A mistake that the user can fix, or a failure that a retry may fix."""


class ConfigError(ClimbError):
    """A configuration key, value or plug-in spec is wrong."""


class PreflightError(ClimbError):
    """This machine cannot run the job."""


class InputError(ClimbError):
    """A file or document cannot be read as configured."""


class TableError(ClimbError):
    """A table is missing or empty, or another configuration wrote it."""


class ComponentError(ClimbError):
    """A plug-in violates its contract."""


class MixtureError(ClimbError, ValueError):
    """No mixture satisfies the constraints.

    It is also a ValueError, so that pydantic lists it together with the other mistakes of a
    configuration.
    """


class SearchError(ClimbError):
    """The trials do not support a recommendation."""


class TrialError(ClimbError):
    """Training failed in a way that every retry would repeat: the trial is recorded as failed."""


class ResourceError(ClimbError):
    """Memory ran out: the run is repeated alone, and recorded as failed if it fails again."""


class InfrastructureError(ClimbError):
    """A worker, a device or a mount was lost: the run is repeated, and never recorded as failed."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return an error's message without line breaks, cut to `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
