"""What a format is: a plug-in of one file.

A format is a frozen dataclass. The interpreter of a trainer imports it too, to drive the trainer's
loader: its module imports the standard library and NumPy, and all else inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from climb.export.contents import Contents, Kind, Sample, Split, Tokenization

if TYPE_CHECKING:
    import pyarrow as pa

Unit = Literal["tokens", "documents"]
"""What the weights of a trainer count. Samples of a fixed length count as tokens."""


class ShardWriter(Protocol):
    """Writes one shard, in memory that does not grow with it."""

    def write(self, rows: pa.RecordBatch, ids_N: Sequence[Any] | None) -> None:
        """Append documents.

        Args:
            rows: (doc_id string, copy int32, domain string, n_tokens int32, text string). What is
                written must not depend on how the rows are divided into batches.
            ids_N: for each row the ids of its tokens, with the end of the text as the last, as an
                array of `Tokenization.dtype`; None for a format of text.
        """

    def close(self) -> None:
        """Write the rest; the files are complete."""


@runtime_checkable
class Format(Protocol):
    """How a trainer wants its data."""

    @property
    def unit(self) -> Unit:
        """What the trainer's weights count."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of export that the format supports, the default first."""

    @property
    def stores_tokens(self) -> bool:
        """Whether its shards contain tokens instead of text."""

    @property
    def shard_bytes(self) -> int:
        """Bytes of UTF-8 text after which a shard should end."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of the files that may be the user's own, for example `.bin` and `.idx`.

        Empty where the trainer needs index files of climb beside the shards. See
        `needs_all_endings`.
        """

    @property
    def loader(self) -> str:
        """Python package with the trainer's loader; empty if none can be driven offline."""

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return the path of a shard in the folder, without the endings that it gets.

        Args:
            split: the split of its documents.
            domain: their domain, already escaped for a path; None in an export of kind `mixed`.
            index: number of the shard in its split and domain, from 0.
            count: number of shards of this split and domain.
        """

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a shard on the local disk.

        Args:
            path: where its files go, without endings; the parent folder exists and has no other
                files, so that every file in it belongs to the shard.
            tokenization: how tokens are stored; None for a format of text.
        """

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the index and configuration files: path in the folder -> text."""

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield training samples in the order in which the trainer's loader returns them.

        The loader is the trainer's own, configured by the files of `describe`. The domain of a
        sample is known by construction: from the source that it came from, or from a column.

        Raises:
            ImportError: the package `loader` is not installed.
        """

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield training samples by the documented rules of the format, without the trainer.

        It reads the weights and the shards from the files, and draws sources as the trainer does.
        """


def needs_all_endings(format: Format) -> bool:
    """Return whether a shard of the user's own files has a file of each of `endings`.

    That is so for `.bin` and `.idx`: the format says it with an attribute `needs_all_endings`,
    which is optional. Without it each file is a shard, and the endings are alternatives.
    """
    return bool(getattr(format, "needs_all_endings", False))


def check_early(format: Format, folder: str, has_validation: bool) -> None:
    """Check what can be checked before a shard is written.

    A format may have a method `check_folder` with the same last two arguments; `describe` should
    call it too.

    Args:
        format: the format.
        folder: absolute path of the export.
        has_validation: whether there will be a validation split.

    Raises:
        ConfigError: the format cannot be used for such an export.
    """
    if check := getattr(format, "check_folder", None):
        check(folder, has_validation)
