"""Rows of files become documents or rejections, in bounded memory, however files are split."""

import gzip
import hashlib
import json
import resource

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zstandard

from climb.config import load
from climb.ingest import lines
from climb.ingest.files import find_files
from climb.ingest.plan import bundle_units, plan_units
from climb.ingest.rows import encode_bundle, read_bundles

GOOD = "A document that is long enough."


def do_nothing():
    """Default action between planning and reading."""


@pytest.fixture
def read(tmp_path):
    """A function that reads all files of the folder and returns their rows as dicts."""

    def rows(*settings, parallelism=2, before_reading=do_nothing):
        cfg = load(settings=["ingest.skip_corrupt=true", *settings]).ingest
        bundles = bundle_units(plan_units(find_files([str(tmp_path)]), cfg), parallelism)
        before_reading()
        batch = pa.RecordBatch.from_pydict(
            {"bundle": list(range(len(bundles))), "units": [encode_bundle(b) for b in bundles]}
        )
        return [row for out in read_bundles(iter([batch]), cfg) for row in out.to_pylist()]

    return rows


def by_text(rows):
    return {row["text"]: row for row in rows if row["reason"] is None}


def reasons(rows):
    return [row["reason"] for row in rows if row["reason"] is not None]


def test_an_id_is_the_hash_of_source_and_text(tmp_path, read):
    pq.write_table(pa.table({"text": [GOOD, GOOD], "site": ["a", None]}), tmp_path / "a.parquet")
    sourced, plain = read("ingest.source_column=site")
    assert sourced["doc_id"] == hashlib.sha256(f"a\0{GOOD}".encode()).hexdigest()[:32]
    assert plain["doc_id"] == hashlib.sha256(f"\0{GOOD}".encode()).hexdigest()[:32]
    assert sourced["digest"] == plain["digest"] == plain["doc_id"]
    assert (sourced["source"], plain["source"]) == ("a", "")


def test_the_same_rows_come_from_every_format(tmp_path, read):
    rows = [
        {"text": f"Document number {i}, with é and \U0001f600.", "n": i, "who": None if i else "x"}
        for i in range(5)
    ]
    text = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text(text.replace("\n", "\r\n\n"))
    (tmp_path / "c.jsonl.gz").write_bytes(
        b"".join(gzip.compress(line.encode()) for line in text.splitlines(keepends=True))
    )
    (tmp_path / "d.jsonl.zst").write_bytes(
        b"".join(zstandard.compress(line.encode()) for line in text.splitlines(keepends=True))
    )
    out = read("ingest.source_column=n", "ingest.metadata_columns=[who]")
    kept = [{k: v for k, v in row.items() if k not in ("row_id", "file")} for row in out]
    assert len(kept) == 20
    assert kept[:5] == kept[5:10] == kept[10:15] == kept[15:]
    assert [row["metadata"] for row in kept[:2]] == ['{"who": "x"}', "{}"]
    assert [row["source"] for row in kept[:5]] == ["0", "1", "2", "3", "4"]
    assert len({row["row_id"] for row in out}) == 20


def write_long_file(path, table):
    """Write the table so that a reader gets several record batches of more than 512 rows."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=1500)
    elif path.suffix == ".arrow":
        open_writer = pa.ipc.new_file if path.stem == "file" else pa.ipc.new_stream
        with open_writer(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=1500)
    else:
        delimiter = {".csv": ",", ".tsv": "\t"}[path.suffix]
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(delimiter=delimiter))


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "file.arrow", "stream.arrow", "a.parquet", "a.jsonl"]
)
@pytest.mark.parametrize("has_rejections", [False, True])
def test_all_texts_of_a_long_file_are_read_exactly(tmp_path, read, name, has_rejections):
    texts = [f"Document {i}: {'é and more ' * (i % 97)}its end is {i}." for i in range(4000)]
    wrong = ["too short", "too many characters " * 200, "more bytes than are read " * 1000]
    for row in range(5, 4000, 211) if has_rejections else ():
        texts[row] = wrong[row % 3]
    write_long_file(tmp_path / name, pa.table({"text": texts}))
    rows = read("ingest.min_chars=20", "ingest.max_chars=2000")
    expected = [text if 20 <= len(text) <= 2000 else None for text in texts]
    assert [row["text"] for row in rows] == expected
    assert sum(row["reason"] is not None for row in rows) == expected.count(None)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.csv", '2,"cut here'),
        ("a.csv", '2,"a "quoted" word, and more text"'),
        ("a.csv", r'2,"a \"quoted\" word, as Spark writes it"'),
        ("a.tsv", '2\t"unclosed start of a quote'),
        ("a.tsv", '2\t"Hello" she said to all of them'),
    ],
)
def test_a_broken_quote_does_not_join_rows_but_makes_the_file_unreadable(tmp_path, read, name, row):
    mark = "," if name == "a.csv" else "\t"
    lines = [f"id{mark}text", f"1{mark}{GOOD}", row, *(f"{i}{mark}{GOOD}" for i in range(3000))]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    [found] = read()
    assert found["reason"] == "unreadable_file"
    assert "line " in found["detail"]
    assert "a quote is not closed, or a quote in a quoted cell is not doubled" in found["detail"]


def test_quotes_in_cells_without_quotes_are_text(tmp_path, read):
    (tmp_path / "a.csv").write_text(f'id,text\n1,{GOOD} 5\'10" tall\n2,"{GOOD} ""so""\n"\n')
    assert [row["text"] for row in read()] == [f"{GOOD} 5'10\" tall", f'{GOOD} "so"\n']


def test_each_invalid_line_is_rejected_with_its_reason(tmp_path, read):
    invalid = {
        "missing_text": [b'{"text": null}', b'{"id": 3}'],
        "wrong_type": [b'{"text": 7}', b'{"text": [7]}', b'["text"]', b'"text"'],
        "bad_json": [
            b"{broken",
            b"\xff\xfe\x00\x00",
            b'{"text": "cut',
            b"[" * 10_000,
            b'{"a": ' * 100_000,
            b'{"n": ' + b"9" * 5000 + b"}",
        ],
        "line_too_long": [b'{"text": "' + b"x" * 1_100_000 + b'"}'],
        "too_long": [json.dumps({"text": "x" * 1001}).encode(), b'{"text": "%s"}' % (b"x" * 5000)],
        "empty": [b'{"text": ""}', rb'{"text": " \n\t"}'],
        "too_short": [b'{"text": "x"}'],
        "invalid_utf8": [b'{"text": "long enough, but \xff\xff\xff\xff"}', rb'{"text": "\ud800"}'],
    }
    good = json.dumps({"text": GOOD}).encode()
    for reason, rows in invalid.items():
        (tmp_path / f"{reason}.jsonl").write_bytes(b"\n".join([good, *rows, good]) + b"\n")
    out = read("ingest.max_chars=1000")
    for reason, rows in invalid.items():
        here = [row for row in out if row["file"].endswith(f"/{reason}.jsonl")]
        assert reasons(here) == [reason] * len(rows)
        assert [row["text"] for row in here if row["reason"] is None] == [GOOD, GOOD]
        assert all(row["detail"] and len(row["digest"]) == 32 for row in here if row["reason"])


def test_surrogates_and_invalid_bytes_in_a_line_are_repaired(tmp_path, read):
    line = GOOD * 10
    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "%s\\ud800"}\n' % line.encode()
        + b'{"text": "%s\xe9", "bad": "\xff\xff\xff"}\n' % line.encode()
        + b'\xef\xbb\xbf{"text": "the mark belongs to the start of a file"}\n'
    )
    first, second, third = read()
    assert first["text"] == second["text"] == line + "\ufffd"
    assert first["repairs"] == second["repairs"] == ["invalid_utf8"]
    assert third["reason"] == "bad_json"


def test_a_byte_order_mark_of_a_file_is_not_a_repair_of_its_first_row(tmp_path, read):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps({"text": GOOD}).encode())
    assert [(row["text"], row["repairs"]) for row in read()] == [(GOOD, [])]


def test_invalid_utf8_in_a_parquet_string_column_is_repaired_or_rejected(tmp_path, read):
    cells = [GOOD.encode(), b"x" * 200 + b"\xff", b"\xff" * 50, b"ab\x00cd" * 9, None]
    lengths = [0 if cell is None else len(cell) for cell in cells]
    offsets = np.cumsum([0, *lengths]).astype(np.int32)
    forged = pa.Array.from_buffers(
        pa.string(),
        5,
        [
            pa.py_buffer(bytes([0b01111])),
            pa.py_buffer(offsets.tobytes()),
            pa.py_buffer(b"".join(c or b"" for c in cells)),
        ],
    )
    pq.write_table(pa.table({"text": forged, "site": forged}), tmp_path / "a.parquet")
    out = read("ingest.source_column=site", "ingest.metadata_columns=[site]")
    assert [row["reason"] for row in out] == [None, None, "invalid_utf8", None, "missing_text"]
    assert out[1]["text"] == out[1]["source"] == "x" * 200 + "\ufffd"
    assert out[1]["repairs"] == ["invalid_utf8"]
    assert out[3]["text"] == "abcd" * 9
    assert out[3]["repairs"] == ["control"]


def test_labels_may_be_nested_and_invalid_values_are_left_out(tmp_path, read):
    tags = pa.ListArray.from_arrays([0, 1, 2], pa.array([b"good", b"\xff"]).cast(pa.binary()))
    forged = pa.ListArray.from_arrays(tags.offsets, tags.values.view(pa.string()))
    table = pa.table({"text": [GOOD, GOOD], "tags": forged, "n": [{"a": 1}, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    out = read("ingest.metadata_columns=[tags, n]")
    assert [json.loads(row["metadata"]) for row in out] == [
        {"tags": '["good"]', "n": '{"a": 1}'},
        {},
    ]


def test_rows_of_files_that_change_after_the_check_are_counted(tmp_path, read):
    names = ("a.parquet", "b.parquet", "c.txt", "d.jsonl")
    for name in names[:2]:
        pq.write_table(pa.table({"text": [GOOD] * 5}), tmp_path / name)
    (tmp_path / "c.txt").write_text(GOOD)
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": GOOD}))

    def before_reading():
        for name in ("a.parquet", "c.txt", "d.jsonl"):
            (tmp_path / name).unlink()
        (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")

    out = read(before_reading=before_reading)
    assert [(row["file"], row["reason"], row["n_rows"]) for row in out] == [
        (f"{tmp_path}/{name}", "unreadable_file", n)
        for name, n in zip(names, (5, 5, 1, 1), strict=True)
    ]


def test_small_files_share_batches_and_each_row_keeps_its_file_name(tmp_path, read):
    for i in range(600):
        (tmp_path / f"{i:03}.txt").write_text(f"{GOOD} {i:03}")
    out = read()
    assert all(row["file"].endswith(f"{row['text'][-3:]}.txt") for row in out)
    assert len({row["row_id"] for row in out}) == 600


def test_each_text_file_with_a_byte_order_mark_is_one_document(tmp_path, read):
    (tmp_path / "a.txt").write_text(GOOD, encoding="utf-16")
    (tmp_path / "b.md").write_text(GOOD, encoding="utf-8-sig")
    (tmp_path / "c.txt").write_text(GOOD + "\r\nSecond line.", newline="")
    (tmp_path / "d.txt").touch()
    (tmp_path / "e.txt").write_text("x" * 4001)
    (tmp_path / "f.txt").write_bytes(bytes(range(256)))
    out = {row["file"][-5:]: row for row in read("ingest.max_chars=1000")}
    assert (out["a.txt"]["text"], out["a.txt"]["repairs"]) == (GOOD, ["utf16"])
    assert (out["b.md".rjust(5, "/")]["text"], out["/b.md"]["repairs"]) == (GOOD, ["bom"])
    assert out["c.txt"]["text"] == GOOD + "\nSecond line."
    assert [out[name]["reason"] for name in ("d.txt", "e.txt", "f.txt")] == [
        *("empty", "too_long", "invalid_utf8"),
    ]


def test_each_line_is_read_once_wherever_a_file_is_split(tmp_path, monkeypatch, read):
    texts = [f"Document {i} " + "x" * (i % 50 + 20) for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    whole = [row["text"] for row in read()]
    assert whole == texts
    first = len(json.dumps({"text": texts[0]})) + 1  # a split exactly between two lines
    for unit_bytes in (1, 17, first, 64, 1000):
        monkeypatch.setattr("climb.ingest.plan.UNIT_BYTES", unit_bytes)
        assert [row["text"] for row in read()] == texts


def test_a_line_longer_than_its_unit_is_read_once(tmp_path, monkeypatch, read):
    monkeypatch.setattr("climb.ingest.plan.UNIT_BYTES", 1000)
    texts = [GOOD, "y" * 50_000, GOOD + "!", "z" * 1_200_000, GOOD + "?"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    out = read("ingest.max_chars=100000")
    assert [row["text"] for row in out if not row["reason"]] == [*texts[:3], texts[4]]
    assert reasons(out) == ["too_long"]
    out = read("ingest.max_chars=1000")
    assert reasons(out) == ["too_long", "line_too_long"]


def test_documents_do_not_depend_on_row_groups_order_or_file_names(tmp_path, read):
    rng = np.random.default_rng(0)
    texts = [f"Document number {i} of a small corpus" for i in range(200)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    first = by_text(read())
    (tmp_path / "a.parquet").unlink()
    order = rng.permutation(200)
    mixed = [texts[i] for i in order]
    pq.write_table(pa.table({"text": mixed[:90]}), tmp_path / "x.parquet", row_group_size=7)
    pq.write_table(pa.table({"text": mixed[90:]}), tmp_path / "b.parquet", row_group_size=31)
    second = by_text(read(parallelism=50))
    columns = ("doc_id", "digest", "source", "n_bytes", "repairs", "metadata")
    assert {t: [row[c] for c in columns] for t, row in first.items()} == {
        t: [row[c] for c in columns] for t, row in second.items()
    }


def flip_byte(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_rows_after_a_damaged_page_are_counted_as_unreadable(tmp_path, read):
    texts = [f"Document number {i} of a small corpus" for i in range(1000)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        row_group_size=100,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
    )
    flip_byte(path, path.stat().st_size // 2)
    out = read()
    assert reasons(out) == ["unreadable_file"]
    assert [row["n_rows"] for row in out if row["reason"]] == [100]
    kept = [row["text"] for row in out if not row["reason"]]
    missing = sorted(set(texts) - set(kept), key=texts.index)
    assert len(kept) == 900
    assert missing == texts[texts.index(missing[0]) :][:100]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_truncated_stream_keeps_its_first_rows_and_is_reported(tmp_path, read, ending):
    texts = [f"{i} " + hashlib.sha256(bytes(i)).hexdigest() for i in range(5000)]
    content = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
    packed = gzip.compress(content) if ending == "gz" else zstandard.compress(content)
    (tmp_path / f"a.jsonl.{ending}").write_bytes(packed[: len(packed) * 9 // 10])
    out = read()
    kept = [row["text"] for row in out if row["reason"] is None]
    assert 1000 < len(kept) < 5000
    assert kept == texts[: len(kept)]
    assert reasons(out)[-1] == "truncated_file"
    assert set(reasons(out)) <= {"truncated_file", "bad_json"}


def test_a_decompression_bomb_is_rejected_in_bounded_memory(tmp_path, read):
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(json.dumps({"text": GOOD}).encode() + b"\n")
        for _ in range(150):
            file.write(b" " * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = read("ingest.max_chars=1000")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert reasons(out) == ["line_too_long"]
    assert "a line of 157,286,400 bytes" in out[1]["detail"]
    assert grown < 60 << 10  # KiB; the line has 150 MiB


def test_a_line_that_does_not_end_stops_the_reading_of_its_file(tmp_path, monkeypatch, read):
    monkeypatch.setattr(lines, "MAX_SKIPPED_BYTES", 2 << 20)
    content = json.dumps({"text": GOOD}).encode() + b"\n" + b"x" * (4 << 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    out = read("ingest.max_chars=1000")
    assert [row["reason"] for row in out] == [None, "unreadable_file"]
    assert "does not end within 2,097,152 bytes" in out[1]["detail"]


def test_an_object_of_a_million_keys_is_one_row(tmp_path, read):
    row = {f"k{i}": i for i in range(1_000_000)} | {"text": GOOD}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert [row["text"] for row in read()] == [GOOD]


def test_a_file_that_cannot_be_read_is_one_rejected_row_with_its_name(tmp_path, read):
    (tmp_path / "a.pdf").write_text("a,b")
    (tmp_path / "b.txt").write_text(GOOD)
    out = read()
    assert [(row["reason"], row["file"]) for row in out] == [
        (None, f"{tmp_path}/b.txt"),
        ("unsupported_format", f"{tmp_path}/a.pdf"),
    ]
