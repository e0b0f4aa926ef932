"""Every file that is not a Delta table: paths, writing, completeness, and copies on a node.

The modules:

`paths`:        URIs and local paths, paths of models, and digests of files and folders.
`write`:        Writing of files, also on mounts that refuse fsync, rename, append, seek, truncate
                or chmod.
`complete`:     Files and folders that count as existing only after all their bytes are written.
`local`:        Copies of shards on the local disk of a node.
`text_tables`:  CSV, and cells of Markdown tables.
"""

from climb.files.complete import (
    FileDigest,
    is_complete,
    join_complete,
    list_complete_files,
    mark_complete,
    read_digest,
    write_complete,
    write_folder,
    write_recorded,
)
from climb.files.local import LocalCopies
from climb.files.paths import (
    MAX_CELL_CHARS,
    exists,
    hash_content,
    is_uri,
    list_files,
    resolve,
)
from climb.files.text_tables import escape_cell, format_csv
from climb.files.write import (
    can_rename,
    is_refused,
    probe_folder,
    read_chunks,
    write_atomically,
    write_file,
    write_if_changed,
)

__all__ = [
    "MAX_CELL_CHARS",
    "FileDigest",
    "LocalCopies",
    "can_rename",
    "escape_cell",
    "exists",
    "format_csv",
    "hash_content",
    "is_complete",
    "is_refused",
    "is_uri",
    "join_complete",
    "list_complete_files",
    "list_files",
    "mark_complete",
    "probe_folder",
    "read_chunks",
    "read_digest",
    "resolve",
    "write_atomically",
    "write_complete",
    "write_file",
    "write_folder",
    "write_if_changed",
    "write_recorded",
]
