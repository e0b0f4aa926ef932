"""Files as people have them: every usual ending, compression, column type and folder is read."""

import bz2
import csv
import datetime
import gzip
import hashlib
import io
import json
import lzma
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from climb.config import load
from climb.errors import InputError
from climb.ingest import invalid_utf8
from climb.ingest.files import find_files
from climb.ingest.formats import parse_partitions
from climb.ingest.plan import bundle_units, plan_units
from climb.ingest.rows import encode_bundle, read_bundles

TEXTS = [f"Document number {i}, about gardens and the price of bread: {i * 7}." for i in range(20)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


@pytest.fixture
def read(tmp_path):
    """A function that reads all files of the folder and returns their rows as dicts."""

    def rows(*settings, path=tmp_path):
        cfg = load(settings=[f"ingest.inputs=['{path}']", *settings]).ingest
        bundles = bundle_units(plan_units(find_files(cfg.inputs, cfg.format), cfg), 2)
        batch = pa.RecordBatch.from_pydict(
            {"bundle": list(range(len(bundles))), "units": [encode_bundle(b) for b in bundles]}
        )
        return [row for out in read_bundles(iter([batch]), cfg) for row in out.to_pylist()]

    return rows


def texts(rows):
    return sorted(row["text"] for row in rows if row["reason"] is None)


def reasons(rows):
    return {row["reason"]: row["n_rows"] for row in rows if row["reason"] is not None}


def to_csv(delimiter):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text"], *enumerate(TEXTS)])
    return out.getvalue().encode()


def to_arrow(kind, type_):
    table, sink = pa.table({"text": pa.array(TEXTS, type_)}), pa.BufferOutputStream()
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue().to_pybytes()


def compress_with_window(content, log):
    parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(content) + stream.flush()


SKIPPED_FRAME = (0x184D2A50).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"metadata"
FILES = {
    "c4-train.00000-of-01024.json.gz": gzip.compress(LINES),
    "part-00000-abc-c000.json": LINES,
    "rows.ndjson": LINES,
    "rows.jsonl.zstd": zstandard.compress(LINES),
    "rows.jsonl.bz2": bz2.compress(LINES),
    "rows.jsonl.xz": lzma.compress(LINES),
    "RC_2010-01.jsonl.zst": compress_with_window(LINES, 31),
    "frames.jsonl.zst": SKIPPED_FRAME
    + zstandard.compress(LINES[:500])
    + SKIPPED_FRAME
    + zstandard.compress(LINES[500:]),
    "members.jsonl.gz": gzip.compress(LINES[:500]) + gzip.compress(LINES[500:]) + bytes(512),
    "unpacked-by-a-proxy.jsonl.gz": LINES,
    "rows.csv": to_csv(","),
    "rows.tsv": to_csv("\t"),
    "rows.csv.gz": gzip.compress(to_csv(",")),
    "with-a-mark.csv": b"\xef\xbb\xbf" + to_csv(","),
    "data-00000-of-00001.arrow": to_arrow("stream", pa.string()),
    "file.arrow": to_arrow("file", pa.string()),
    "as-polars-writes-it.arrow": to_arrow("file", pa.string_view()),
}


@pytest.mark.parametrize("name", FILES)
def test_every_usual_ending_and_compression_is_read(tmp_path, read, name):
    (tmp_path / name).write_bytes(FILES[name])
    assert texts(read()) == sorted(TEXTS)


def test_the_configured_format_overrides_the_ending(tmp_path, read):
    (tmp_path / "dump.data").write_bytes(LINES)
    (tmp_path / "dump.0001").write_bytes(gzip.compress(LINES))
    with pytest.raises(InputError, match=r"\.0001 is not one of .*ingest\.format sets the format"):
        read()
    assert len(texts(read("ingest.format=jsonl"))) == 40


def test_a_window_above_the_configured_one_names_the_remedy(tmp_path, read):
    (tmp_path / "a.jsonl.zst").write_bytes(FILES["RC_2010-01.jsonl.zst"])
    with pytest.raises(InputError, match=r"larger than 2\^27 bytes; set ingest\.zstd_window_log"):
        read("ingest.zstd_window_log=27")


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (
            json.dumps([{"text": "x"}]),
            "the first line is a JSON array; to convert: jq -c '.[]' FILE",
        ),
        (json.dumps([{"text": "x"}], indent=1), "one value in several lines; .* jq -c '.\\[\\]'"),
        (json.dumps({"text": "x"}, indent=1), "one value in several lines; .* jq -c . FILE"),
        ('[\n{"text": "x"},\n{"text": "y"}\n]\n', "one value in several lines; .* jq -c '.\\[\\]'"),
        ('[{"text": "x"},\n{"text": "y"}\n]\n', "one value in several lines; .* jq -c '.\\[\\]'"),
        (
            '{"rows": [\n{"text": "x"},\n{"text": "y"}\n]}',
            "one value in several lines; .* jq -c . F",
        ),
    ],
)
def test_json_that_is_not_in_lines_is_refused_with_the_command(tmp_path, read, content, remedy):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=remedy.replace("'.[]'", r"'\.\[\]'")):
        read()


def test_an_invalid_first_line_that_does_not_continue_rejects_only_itself(tmp_path, read):
    for name, line in {"a": b'{"text": "cut\n', "b": b'["a list"]\n', "c": b"text {\n"}.items():
        (tmp_path / f"{name}.jsonl").write_bytes(line + LINES)
    rows = read()
    assert texts(rows) == sorted(TEXTS * 3)
    assert sorted(reasons(rows)) == ["bad_json", "wrong_type"]


def test_rows_of_a_csv_file_with_other_widths_are_rejected(tmp_path, read):
    (tmp_path / "a.csv").write_text('text,n\n"two\nlines, with a comma",1\na,b,c\nshort\n')
    rows = read("ingest.min_chars=1")
    assert texts(rows) == ["two\nlines, with a comma"]
    assert [row["detail"] for row in rows if row["reason"] == "wrong_columns"] == [
        "3 cells, but the header has 2",
        "1 cells, but the header has 2",
    ]


def test_a_csv_row_with_an_invalid_byte_and_another_width_rejects_only_itself(tmp_path, read):
    wide = b"x,a caf\xe9 in Latin-1, with a comma\n"
    byte = b'y,"A second caf\xe9, with a private \xee\xbf\xa9 and \xef\xbf\xbd, of some length."\n'
    (tmp_path / "a.csv").write_bytes(to_csv(",") + wide + byte)
    rows = read("ingest.max_invalid_share=0.1")
    repaired = "A second caf\ufffd, with a private \uefe9 and \ufffd, of some length."
    assert texts(rows) == sorted([*TEXTS, repaired])
    assert {row["text"]: row["repairs"] for row in rows}[repaired] == ["invalid_utf8"]
    [rejected] = [row for row in rows if row["reason"] is not None]
    assert (rejected["reason"], rejected["detail"]) == (
        "wrong_columns",
        "3 cells, but the header has 2",
    )
    assert rejected["digest"] == hashlib.sha256(wide.strip()).hexdigest()[:32]


@given(st.lists(st.binary() | st.text("aé\uef80\uefff\uf000\U0001f600").map(str.encode)))
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_escaped_bytes_are_utf8_and_are_restored_exactly(chunk_bytes, parts):
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invalid_utf8, "CHUNK_BYTES", chunk_bytes)
        file = invalid_utf8.EscapedFile(io.BytesIO(content))
        escaped = io.BufferedReader(file).read()
    escaped.decode()
    assert invalid_utf8.restore_bytes(escaped) == content
    assert len(escaped) <= 3 * len(content)
    assert file.has_escaped == (escaped != content)


EMPTY = {
    "zero.jsonl": b"",
    "nothing.jsonl.gz": gzip.compress(b""),
    "blank.jsonl": b"\n\n",
    "header.csv": b"text\n",
    "none.csv": b"",
}


def test_files_without_rows_are_listed_and_reject_no_row(tmp_path, read):
    for name, content in EMPTY.items():
        (tmp_path / name).write_bytes(content)
    empty = {
        "zerorows": pa.table({"text": pa.array([], pa.string())}),
        "zerocolumns": pa.table({}),
        "emptypandas": pa.table({"text": pa.nulls(0), "__index_level_0__": pa.nulls(0)}),
    }
    for name, table in empty.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    rows = read()
    assert texts(rows) == sorted(TEXTS)
    listed = [row for row in rows if row["reason"] == "empty_file"]
    assert len(listed) == len(EMPTY) + len(empty)
    assert sum(row["n_rows"] for row in listed) == 0


def test_a_part_whose_texts_are_all_null_has_rows_without_text(tmp_path, read):
    pq.write_table(pa.table({"text": pa.nulls(3), "id": [1, 2, 3]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "b.parquet")
    rows = read()
    assert texts(rows) == sorted(TEXTS)
    assert [row["reason"] for row in rows if row["reason"]] == ["missing_text"] * 3


def test_a_text_may_be_nested_and_a_list_of_paragraphs(tmp_path, read):
    documents = [{"text": [f"{text} A.", None, "B."], "lang": "en"} for text in TEXTS]
    pq.write_table(pa.table({"doc": pa.array(documents)}), tmp_path / "a.parquet")
    lines = "".join(json.dumps({"doc": row}) + "\n" for row in documents)
    (tmp_path / "b.jsonl").write_text(lines)
    settings = ("ingest.text_column=doc.text", "ingest.source_column=doc.lang")
    rows = read(*settings, "ingest.paragraph_separator=' / '")
    assert texts(rows) == sorted([f"{text} A. / B." for text in TEXTS] * 2)
    assert {row["source"] for row in rows} == {"en"}
    with pytest.raises(InputError, match=r"no column 'doc\.body' among doc"):
        read("ingest.text_column=doc.body")


def test_a_column_with_a_dot_in_its_name_comes_before_a_path(tmp_path, read):
    table = pa.table({"doc.text": TEXTS, "doc": pa.array([{"text": "wrong"}] * 20)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(read("ingest.text_column=doc.text")) == sorted(TEXTS)


def test_names_of_folders_are_columns(tmp_path, read):
    for lang in ("en", "fr%2Dca"):
        (tmp_path / f"lang={lang}").mkdir()
        pq.write_table(pa.table({"text": [lang * 20]}), tmp_path / f"lang={lang}" / "a.parquet")
    (tmp_path / "lang=en" / "b.txt").write_text("A text in a file of its own, of some length.")
    rows = read("ingest.metadata_columns=[lang]")
    assert sorted(row["metadata"] for row in rows) == ['{"lang": "en"}'] * 2 + ['{"lang": "fr-ca"}']
    assert parse_partitions("/x/a=1/b/c=d%20e/f=g.txt") == (("a", "1"), ("c", "d e"))


def test_a_null_partition_is_a_null_column(tmp_path, read):
    folder = tmp_path / "lang=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir()
    pq.write_table(pa.table({"text": TEXTS}), folder / "a.parquet")
    (folder / "b.jsonl").write_bytes(LINES)
    (folder / "c.csv").write_bytes(to_csv(","))
    (folder / "d.txt").write_text("A text in a file of its own, of some length.")
    rows = read("ingest.metadata_columns=[lang]", "ingest.source_column=lang")
    assert len(texts(rows)) == len(rows) == 61
    assert {(row["source"], row["metadata"]) for row in rows} == {("", "{}")}


CELLS = {
    "a date before year 1": (pa.array([-1_000_000], pa.int32()).cast(pa.date32()), "-0768-02-04"),
    "a time after year 9999": (
        pa.array([300_000_000_000_000_000], pa.int64()).cast(pa.timestamp("us")),
        "11476-08-15 05:20:00.000000",
    ),
    "an unknown time zone": (
        pa.array([0], pa.int64()).cast(pa.timestamp("us", "America/Nowhere")),
        "1970-01-01 00:00:00.000000Z",
    ),
    "nanoseconds": (pa.array([1], pa.int64()).cast(pa.timestamp("ns")), ".000000001"),
    "a decimal": (pa.array(["1.50"]).cast(pa.decimal128(5, 2)), '"1.50"'),
    "a map": (pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())), "k"),
    "a struct": (pa.array([{"when": datetime.datetime(2020, 1, 1)}]), "2020-01-01 00:00:00"),
    "NaN": (pa.array([float("nan")]), "NaN"),
}


@pytest.mark.parametrize("kind", CELLS)
def test_metadata_of_every_type_becomes_text(tmp_path, read, kind):
    column, expected = CELLS[kind]
    pq.write_table(pa.table({"text": TEXTS[:1], "meta": column}), tmp_path / "a.parquet")
    [row] = read("ingest.metadata_columns=[meta]")
    assert expected in row["metadata"]
    assert row["repairs"] == []


def test_a_cell_without_a_text_form_is_left_out_and_counted(tmp_path, read):
    old = pa.array([[-1_000_000], [18_000]], pa.list_(pa.int32())).cast(pa.list_(pa.date32()))
    pq.write_table(pa.table({"text": TEXTS[:2], "meta": old}), tmp_path / "a.parquet")
    rows = sorted(read("ingest.metadata_columns=[meta]"), key=lambda row: row["text"])
    assert [row["repairs"] for row in rows] == [["left_out_label"], []]
    assert [row["metadata"] for row in rows] == ["{}", '{"meta": "[\\"2019-04-14\\"]"}']


def test_links_are_followed_and_dangling_links_and_loops_are_named(tmp_path, read):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.jsonl").write_bytes(LINES)
    (tmp_path / "other.jsonl").write_text('{"text": "A text behind a link, of some length."}\n')
    (tmp_path / "in" / "link.jsonl").symlink_to("../other.jsonl")
    assert len(texts(read(path=tmp_path / "in"))) == 21
    (tmp_path / "in" / "b.jsonl").symlink_to("nowhere.jsonl")
    (tmp_path / "in" / "deep" / "again").symlink_to("..")
    with pytest.raises(InputError) as error:
        read(path=tmp_path / "in")
    assert "b.jsonl (a link to 'nowhere.jsonl': No such file or directory)" in str(error.value)
    assert "deep/again (a link to a folder above it)" in str(error.value)
    rows = read("ingest.skip_corrupt=true", path=tmp_path / "in")
    assert len(texts(rows)) == 21
    assert reasons(rows) == {"unreadable_file": 1}


def test_names_that_are_not_utf8_are_read(tmp_path, read):
    path = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(LINES)
    rows = read()
    assert texts(rows) == sorted(TEXTS)
    assert {row["file"] for row in rows} == {f"{tmp_path}/caf\ufffd.jsonl"}


def test_an_unsupported_ending_that_is_not_utf8_is_rejected_with_its_name(tmp_path, read):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / os.fsdecode(b"b.\xe9")).touch()
    rows = read("ingest.skip_corrupt=true")
    assert texts(rows) == sorted(TEXTS)
    [rejected] = [row for row in rows if row["reason"] == "unsupported_format"]
    assert rejected["file"] == f"{tmp_path}/b.\ufffd"
    assert rejected["detail"].startswith(".\ufffd is not one of .parquet, ")


def test_a_snapshot_of_the_hub_is_read_once_without_its_read_me(tmp_path, read):
    hub = tmp_path / "datasets--x--y"
    (hub / "snapshots" / "abc" / "data").mkdir(parents=True)
    (hub / "blobs").mkdir()
    pq.write_table(pa.table({"text": TEXTS}), hub / "blobs" / "0123abcd")
    link = hub / "snapshots" / "abc" / "data" / "train-00000-of-00001.parquet"
    link.symlink_to("../../../blobs/0123abcd")
    (hub / "snapshots" / "abc" / "README.md").write_text("---\nlicense: cc\n---\n# The card\n")
    rows = read(path=hub)
    assert texts(rows) == sorted(TEXTS)
    [ignored] = [row for row in rows if row["reason"] == "ignored_file"]
    assert ignored["n_rows"] == 0
    (hub / "snapshots" / "def").mkdir()
    with pytest.raises(InputError, match="with the snapshots abc, def; name one of them"):
        read(path=hub)


def test_a_long_first_row_of_a_csv_file_is_no_fault_of_its_header(tmp_path, read):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000 + "\n")
    assert [len(text) for text in texts(read())] == [200_000]


def test_what_is_below_an_ignored_folder_stops_nothing(tmp_path, read):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    for snapshot in ("a", "b"):
        (tmp_path / ".cache" / "m" / "snapshots" / snapshot).mkdir(parents=True)
    (tmp_path / ".cache" / "m" / "blobs").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "loop").symlink_to("..")
    assert texts(read()) == sorted(TEXTS)


def test_a_folder_column_may_have_the_name_of_a_path(tmp_path, read):
    (tmp_path / "lang.code=en").mkdir()
    table = pa.table({"text": TEXTS, "lang": ["x"] * 20})
    pq.write_table(table, tmp_path / "lang.code=en" / "a.parquet")
    rows = read("ingest.metadata_columns=[lang.code]")
    assert {row["metadata"] for row in rows} == {'{"lang.code": "en"}'}
