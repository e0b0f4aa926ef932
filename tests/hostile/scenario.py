"""Write every kind of file of a run below a folder that refuses one kind of operation.

    LD_PRELOAD=mount.so python scenario.py fsync:1 rename:38 ...

Prints a JSON object: call:errno -> digests of the files and the metrics, or the error.
"""

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import pyarrow as pa

from climb.cli.lock import hold_locks
from climb.files import write, write_if_changed
from climb.proxy.llama import LlamaProxy
from climb.proxy.shards import Part
from climb.quality.training import train_scorer
from climb.spark.training.pack import _describe_shards
from climb.spark.training.pack_files import SCHEMA, PackTask, ShardFile
from climb.testing.contracts import build_tiny_run
from climb.tokenizer import TokenizerFile, find_end_of_text


@dataclasses.dataclass(frozen=True)
class EveryCallTrainer:
    """A plug-in that writes its model with every operation that a mount may refuse."""

    def train(self, texts, labels_N, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "part").open("w+b") as stream:
            stream.write(b"....weights")
            stream.truncate(8)
            stream.seek(0)
            stream.write(b"size")
            stream.flush()
            os.fsync(stream.fileno())
        with (folder / "part").open("ab") as stream:
            stream.write(f"{len(texts)} labels".encode())
        (folder / "part").chmod(0o600)
        (folder / "part").rename(folder / "model.bin")


TINY = LlamaProxy(hidden=8, layers=1, heads=1, sequence=16, batch=4, learning_rate=1e-2)
SCORER = EveryCallTrainer()
N_TOKENS = 16 * 4 * 3  # three steps
WORDS = {"letters": "red green blue tree river stone", "numbers": "one two three four five six"}
TEXTS = [f"{text} {i}" for i in range(6) for text in WORDS.values()]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pack(folder, tokenizer):
    """Pack a shard of one file and a shard of two, and return the path of each domain's shard."""
    counted = TokenizerFile(str(tokenizer)).open()
    names = {"letters": ["a.npy"], "numbers": ["b/part-00000.npy", "b/part-00001.npy"]}
    files, rows = [], []
    for domain, words in WORDS.items():
        for name in names[domain]:
            number = len(files)
            files.append(ShardFile(number, "trial", domain, folder / name, Part(0, 0, 300)))
            for i in range(40):
                text = f"{words} {i}"
                row = {"number": number, "doc_id": f"{i}", "text": text}
                rows.append(row | {"n_tokens": len(counted.encode(text).ids)})
    end = find_end_of_text(counted, None)
    task = PackTask({file.number: file for file in files}, tokenizer.read_text(), end)
    schema = SCHEMA.insert(0, pa.field("number", pa.int32()))
    list(task.write([pa.RecordBatch.from_pylist(rows, schema=schema)]))
    return {row["domain"]: row["path"] for row in _describe_shards(files)}


def write_all(folder, template):
    """Write shards, a base, the checkpoints of a trial, a scorer and a report."""
    shards = pack(folder / "shards", Path(template.tokenizer.path))
    base = dataclasses.replace(
        template,
        shards=shards,
        save=str(folder / "models" / "base"),
        checkpoints=str(folder / "checkpoints" / "base"),
    )
    trial = dataclasses.replace(
        base, start=base.save, save=None, checkpoints=str(folder / "checkpoints" / "trial")
    )
    with hold_locks(folder / "locks", ["search"], "search"):
        metrics = [TINY.train(base, "cpu"), TINY.train(trial, "cpu")]
    train_scorer(SCORER, TEXTS, [float(i % 2) for i in range(len(TEXTS))], folder / "scorer")
    for version in (b"a long first version", b"second"):
        write_if_changed(folder / "report.html", version)
    with hold_locks(folder / "locks", ["search"], "search"):  # the lock file exists now
        pass
    files = sorted((folder / "shards").rglob("*.npy"))
    files += [Path(base.save) / "model.safetensors"]
    files += [folder / "scorer" / "model.bin", folder / "report.html"]
    return {"files": [digest(file) for file in files], "metrics": metrics}


def main(cases):
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        template = build_tiny_run(Path(scratch) / "data", N_TOKENS)
        for case in cases:
            call, _, number = case.partition(":")
            folder, count = Path(scratch) / case, Path(scratch) / "count"
            folder.mkdir()
            write._without_rename.clear()  # all folders are on one device
            os.environ |= {"HOSTILE_FOLDER": str(folder), "HOSTILE_COUNT": str(count)}
            os.environ |= {"HOSTILE_CALL": call, "HOSTILE_ERRNO": number}
            try:
                result = write_all(folder, template)
            except BaseException:
                result = {"error": traceback.format_exc().splitlines()[-1]}
            os.environ["HOSTILE_CALL"] = "none"
            result["refused"] = count.stat().st_size if count.exists() else 0
            count.unlink(missing_ok=True)
            results[case] = result
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
