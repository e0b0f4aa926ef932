"""Write the files of the CSV commands atomically, and never over an input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from climb.errors import InputError
from climb.files import format_csv, write_file
from climb.runs.sheet import Array


def check_output_paths(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Check that outputs are files, and that none overwrites an input or another output.

    Raises:
        InputError: an output path is `-`, an input, or another output.
    """
    sources = {path.resolve() for path in inputs}
    seen: set[Path] = set()
    for path in outputs:
        if str(path) == "-":
            raise InputError(
                "an output path is -, but results cannot be written to standard output; name a file"
            )
        if path.resolve() in sources:
            raise InputError(
                f"{path} is an input file, so it cannot be an output; choose another output path"
            )
        if path.resolve() in seen:
            raise InputError(
                f"{path} is the path of two outputs; choose a different path for each output"
            )
        seen.add(path.resolve())


def write_numbers(path: Path, header: Sequence[str], values_MX: Array) -> None:
    """Write a CSV file of numbers with all digits."""
    rows = [[format_number(value) for value in row] for row in values_MX.tolist()]
    write_rows(path, header, rows)


def format_number(value: float) -> float | int:
    """Convert whole numbers to int, so that they are written without a decimal point."""
    return int(value) if value.is_integer() else value


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, format_csv(header, rows))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        write_file(path, lambda: [text.encode()])
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
