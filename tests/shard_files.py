"""Shards that tests write as a task does: into an empty folder, whose files are then copied."""

import shutil
import tempfile
from pathlib import Path


def copy_shard(form, folder, name, tokenization, batches):
    """Write batches of (rows, ids) as one shard; return its files."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = form.open_shard(path, tokenization)
        for rows, ids_N in batches:
            writer.write(rows, ids_N)
        writer.close()
        files = sorted(p.relative_to(scratch) for p in Path(scratch).rglob("*") if p.is_file())
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(scratch) / file, folder / file)
    return tuple(map(str, files))
