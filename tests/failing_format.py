"""A format whose tasks fail when some shards are finished, as if the machine died then."""

from dataclasses import dataclass
from pathlib import Path

from climb.export.formats.hf import HuggingFace


@dataclass(frozen=True, kw_only=True)
class Failing(HuggingFace):
    """Fails while the file `mark` exists, as soon as the folder `writing` has two files."""

    mark: str
    writing: str

    def open_shard(self, path, tokenization):
        if Path(self.mark).exists() and len(list(Path(self.writing).rglob("*.parquet"))) >= 2:
            raise RuntimeError("the machine died")
        return super().open_shard(path, tokenization)
