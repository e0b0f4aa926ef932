"""The questions about a platform: each one is a row, whatever happens."""

import errno
import os

import pytest

from climb.spark.probe.files import FILE_PROBES, probe_folder
from climb.spark.probe.rows import Row, ask, format_rows
from climb.spark.probe.tasks import NAMES, list_versions


def test_a_local_disk_allows_every_operation_and_keeps_no_file(tmp_path):
    rows = probe_folder("files", tmp_path / "probe")
    assert [row.question for row in rows][1:-1] == list(FILE_PROBES)
    assert {row.outcome for row in rows} == {"ok"}, rows
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "outcome"), [(errno.EPERM, "refused"), (errno.ENOSYS, "refused"), (errno.EIO, "error")]
)
def test_a_refused_operation_is_a_row_and_the_others_go_on(tmp_path, monkeypatch, code, outcome):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    rows = {row.question: row for row in probe_folder("files", tmp_path / "probe")}
    for question in ("fsync a file", "fsync a folder"):
        assert rows[question].outcome == outcome
        assert rows[question].detail.startswith(f"{errno.errorcode[code]}: ")
    others = {row.outcome for question, row in rows.items() if not question.startswith("fsync")}
    assert others == {"ok"}


def test_a_folder_that_cannot_be_made_is_reported_in_every_row(tmp_path):
    (tmp_path / "file").touch()
    rows = probe_folder("files", tmp_path / "file" / "probe")
    assert {row.outcome for row in rows} == {"error"}


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (ValueError("the commit has None"), "error", "ValueError: the commit has None"),
        (RuntimeError("profiles are only supported for YARN"), "refused", "RuntimeError: profiles"),
        (TimeoutError("no result after 120 s"), "error", "TimeoutError: no result after 120 s"),
    ],
)
def test_an_exception_is_the_detail_of_its_row(error, outcome, detail):
    def fail():
        raise error

    row = ask("tasks", "profile", fail)
    assert row.outcome == outcome
    assert row.detail.startswith(detail)


def test_the_table_counts_the_outcomes_and_keeps_its_columns():
    rows = [Row("files", "append", "refused", "EPERM: a | b\nc"), Row("files", "mmap", "ok", "yes")]
    count, *lines = format_rows(rows).splitlines()
    assert count == "1 ok, 1 refused, 0 error"
    assert lines[2:] == [
        "| files | append | refused | EPERM: a \\| b c |",
        "| files | mmap | ok | yes |",
    ]


def test_the_versions_of_installed_packages_are_listed():
    found = list_versions()
    assert {"python", "numpy", "pyspark"} <= found.keys() <= set(NAMES)
