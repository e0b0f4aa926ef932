"""A format whose tasks fail at one domain, as if the machine died there."""

from dataclasses import dataclass
from pathlib import Path

from climb.export.formats.hf import HuggingFace


@dataclass(frozen=True, kw_only=True)
class Failing(HuggingFace):
    """Fails at the shards of a domain while the file `mark` exists."""

    mark: str
    domain: str

    def open_shard(self, path, tokenization):
        if Path(self.mark).exists() and self.domain in str(path):
            raise RuntimeError("the machine died")
        return super().open_shard(path, tokenization)
