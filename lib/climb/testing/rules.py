"""What the contract checks of all kinds of plug-ins share."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

from climb.errors import ClimbError, one_line


def check_recipe(plugin: Any, kind: str) -> None:
    """Check that the plug-in is an immutable recipe that can be pickled."""
    frozen = getattr(getattr(plugin, "__dataclass_params__", None), "frozen", False)
    assert frozen, f"a {kind} must be a frozen dataclass: its fields are its recipe"
    with call_plugin("the pickled copy"):
        same = pickle.loads(pickle.dumps(plugin)) == plugin
    assert same, f"a {kind} must be equal to its pickled copy: workers use the copy"


@contextlib.contextmanager
def call_plugin(call: str) -> Iterator[None]:
    """Raise an exception of a plug-in as an AssertionError that names the call.

    Code that uses the returned value belongs inside too: it fails if the value has a wrong type.
    """
    try:
        yield
    except AssertionError:
        raise
    except ClimbError as error:  # its message says what is wrong
        raise AssertionError(f"{call}: {one_line(error, 500)}") from error
    except Exception as error:
        found = f"{type(error).__name__}: {one_line(error)}"
        raise AssertionError(f"{call} must not fail; found {found}") from error
