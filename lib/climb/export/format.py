"""The interface of a format. A format is a plug-in that is written as one Python file.

A format is a frozen dataclass. The trainer's interpreter imports the module of the format too, to
run the trainer's loader. So the module of every format must import only climb, the standard library
and NumPy at its top; it must import other packages inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from climb.errors import ComponentError, ConfigError
from climb.export.contents import Contents, Kind, Sample, Split, Tokenization

if TYPE_CHECKING:
    import pyarrow as pa

Unit = Literal["tokens", "documents"]
"""What the weights of a trainer count. Weights that count samples of a fixed length have the unit
`tokens`, because every sample has the same number of tokens."""


class ShardWriter(Protocol):
    """Writes one shard; its use of memory does not grow with the shard."""

    def write(self, rows: pa.RecordBatch, ids_N: Sequence[Any] | None) -> None:
        """Append documents.

        Args:
            rows: the columns are (doc_id string, copy int32, domain string, n_tokens int32, text
                string). What is written must not depend on how the rows are divided into batches.
            ids_N: for each row, an array of its token ids, of type `Tokenization.dtype`; the last
                id is the end-of-text token. None for a format of text.
        """

    def close(self) -> None:
        """Write the rest; then the files are complete."""


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
        """Endings of the user's own files that an export can list, for example `.bin` and `.idx`.

        Empty if the trainer needs files that only climb writes. See `needs_all_endings`.
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
        """Return the index and configuration files: path in the folder -> text.

        The files may contain the absolute path `contents.folder`, but README.md must not: because
        the data card is appended to it, README.md is not written again after the folder was moved.
        """

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield training samples in the order in which the trainer's loader returns them.

        The loader is the trainer's own, configured by the files of `describe`. The domain of a
        sample is known by construction: from the source that it came from, or from a column.

        Raises:
            ImportError: the package that `loader` names is not installed.
        """

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield training samples by the documented rules of the format, without the trainer.

        Weights and shards are read from the files, and sources are drawn as the trainer draws them.
        """


def describe_files(format: Format, contents: Contents) -> dict[str, str]:
    """Return what `describe` returns, after the checks of `check_early`.

    Raises:
        ConfigError: see `check_early`.
        ComponentError: it is not a text for each path, or a path is outside the folder.
    """
    check_early(format, contents.folder, bool(contents.list_shards("validation")))
    described: Any = format.describe(contents)
    name = f"{type(format).__name__}.describe"
    remedy = "it must return a dict from paths in the folder to texts; fix the export format"
    if not isinstance(described, Mapping):
        raise ComponentError(f"{name} returned {type(described).__name__}; {remedy}")
    for path, text in described.items():
        if not isinstance(text, str):
            raise ComponentError(f"{name} returned {path!r}: {type(text).__name__}; {remedy}")
        if not is_inside(path):
            raise ComponentError(f"{name} returned the path {path!r}; {remedy}")
    return dict(described)


def is_inside(path: Any) -> bool:
    """Return whether this is a relative path without `..`, so that it is inside the folder."""
    if not isinstance(path, str):
        return False
    parts = PurePath(path).parts
    return bool(parts) and ".." not in parts and not PurePath(path).is_absolute()


def needs_all_endings(format: Format) -> bool:
    """Return whether a shard of the user's own files needs one file for each of `endings`.

    `.bin` and `.idx` are an example. A format sets this with its optional attribute
    `needs_all_endings`; then the file with text or tokens must have the first of the endings.
    Without this attribute, each file is a shard, and the endings are alternatives.
    """
    return bool(getattr(format, "needs_all_endings", False))


def check_positive(format: object, *options: str) -> None:
    """Check options of a format that are numbers of bytes or documents.

    Raises:
        ConfigError: an option is not at least 1.
    """
    for option in options:
        if (value := getattr(format, option)) < 1:
            raise ConfigError(
                f"{type(format).__name__}: {option} is {value}; it must be at least 1"
            )


def check_early(format: Format, folder: str, has_validation: bool) -> None:
    """Check what can be checked before a shard is written.

    A format may have a method `check_folder(folder, has_validation)`. This function calls it, and
    `describe` of the format should call it too.

    Args:
        format: the format.
        folder: absolute path of the export.
        has_validation: whether there will be a validation split.

    Raises:
        ConfigError: the format cannot be used for such an export, or `shard_bytes` is not positive.
    """
    check_positive(format, "shard_bytes")
    if check := getattr(format, "check_folder", None):
        check(folder, has_validation)
