"""Everything that can go wrong for a user, as one tree.

ClimbError
|-- ConfigError       a configuration key, value or plug-in spec is wrong
|-- PreflightError    this machine cannot run the job: Java, packages, disk, model files
|-- InputError        a file or document given by the user cannot be read as asked
|-- TableError        a table is missing, empty, or was written by something else
|-- ComponentError    a plug-in broke its contract (shape, NaN, missing key)
|   `-- TrialError    a proxy's run ended badly by itself: its loss became NaN, or memory ran out
|-- MixtureError      weights, caps or floors that no mixture can satisfy
`-- SearchError       the trials cannot support an answer

A message says what is wrong, where, what was found, and what would be right, in one line
(a table of values may follow). `climb.run.main` prints it and exits 1.
"""


class ClimbError(Exception):
    """A mistake that the user can mend; its message is all they need."""


class ConfigError(ClimbError):
    """A configuration key, value or plug-in spec is wrong."""


class PreflightError(ClimbError):
    """This machine cannot run the job."""


class InputError(ClimbError):
    """A file or document cannot be read as asked."""


class TableError(ClimbError):
    """A table is missing, empty, or was written by something else."""


class ComponentError(ClimbError):
    """A plug-in broke its contract."""


class TrialError(ComponentError):
    """A proxy's run ended badly by itself, and would again: it counts as a failed trial."""


class MixtureError(ClimbError):
    """No mixture can satisfy these weights, caps or floors."""


class SearchError(ClimbError):
    """The trials cannot support an answer."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """What an error of another library says, without line breaks and cut to `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
