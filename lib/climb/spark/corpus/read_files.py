"""Record the files that an ingest has read, so that the next one can read only the added files."""

from __future__ import annotations

from climb import tables
from climb.ingest.files import FileListing
from climb.spark.delta.history import Inputs, have_equal_tables
from climb.spark.delta.store import Store


def record_files(store: Store, listing: FileListing, inputs: Inputs) -> None:
    """Record the files of a complete ingest, unless they are recorded already.

    Call it after the commit of `rejected`. If the files of an incomplete ingest were recorded, the
    next ingest would not read them.
    """
    if not listing.files:
        return
    made_from = store.history.describe_inputs(
        tables.DOCUMENTS, inputs=inputs["settings"], others=_count_others(listing)
    )
    if store.history.is_current(tables.READ_FILES, made_from):
        return
    rows = [
        {"file": _encode_name(f.name), "n_bytes": f.size, "modified": f.mtime_ns}
        for f in listing.files
    ]
    store.replace(store.create_frame(rows, tables.READ_FILES), tables.READ_FILES, made_from)


def find_new_files(
    store: Store, listing: FileListing, inputs: Inputs, earlier: Inputs | None
) -> FileListing | None:
    """Find the files that were added since the last complete ingest.

    Args:
        store: table `read_files` is read.
        listing: all files.
        inputs: what is to be read.
        earlier: what the last complete ingest has read; None if there was none.

    Returns:
        The added files; None if all files must be read. This is so if no ingest is recorded, a
        path cannot be read, or anything else has changed: a setting, a table, a recorded file, or
        the documents (by a removal, or by an ingest that was killed).
    """
    recorded = store.history.read_inputs(tables.READ_FILES)
    if recorded is None or earlier is None:
        return None
    before, now = ({**i["settings"], "files": None} for i in (earlier, inputs))
    same = (
        recorded["settings"] == {"inputs": earlier["settings"], "others": _count_others(listing)}
        and have_equal_tables(recorded, inputs)
        and before == now
    )
    if not same or listing.problems:
        return None
    rows = store.read(tables.READ_FILES).collect()
    known = {(row["file"], row["n_bytes"], row["modified"]) for row in rows}
    found = {(_encode_name(f.name), f.size, f.mtime_ns): f for f in listing.files}
    if not known < found.keys():
        return None
    return FileListing(tuple(file for key, file in found.items() if key not in known), ())


def _encode_name(name: str) -> str:
    """Return a file name as valid UTF-8: a byte that is not valid becomes `\\udc` and two digits.

    If such bytes became U+FFFD, different names could become equal.
    """
    return name.encode("utf-8", "backslashreplace").decode()


def _count_others(listing: FileListing) -> list[int]:
    """Count unreadable and ignored paths, which have rows in `rejected`."""
    return [len(listing.problems), len(listing.ignored)]
