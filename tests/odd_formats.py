"""Formats that misbehave: one fails in its tasks, one prints while it reads."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from climb.export.formats.hf import HuggingFace
from climb.export.formats.jsonl import JsonLines


@dataclass(frozen=True, kw_only=True)
class Failing(HuggingFace):
    """Fails while the file `mark` exists, as soon as the folder `writing` has two files."""

    mark: str
    writing: str

    def open_shard(self, path, tokenization):
        if Path(self.mark).exists() and len(list(Path(self.writing).rglob("*.parquet"))) >= 2:
            raise RuntimeError("the machine died")
        return super().open_shard(path, tokenization)


@dataclass(frozen=True, kw_only=True)
class Talking(JsonLines):
    """Prints before, between and after its samples."""

    def read_by_rule(self, folder, contents):
        print("reading", flush=True)
        for sample in itertools.islice(super().read_by_rule(folder, contents), 300):
            print(sample, flush=True)
            yield sample
        print("read", flush=True)
