"""Every file is checked before any work starts: columns, types, and whether it is complete."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from climb.config import load
from climb.errors import InputError
from climb.ingest import Unit, rows
from climb.ingest.files import find_files
from climb.ingest.plan import UNIT_BYTES, bundle_units, plan_units
from climb.ingest.rows import ROWS_PER_BUNDLE, encode_bundle, read_bundles, read_table_rows
from climb.spark.corpus.stage import MAX_TABLES, TABLE_BUNDLES, check_numbers


@pytest.fixture
def plan_folder(tmp_path):
    def units(*settings):
        cfg = load(settings=list(settings)).ingest
        return plan_units(find_files([str(tmp_path)]), cfg)

    return units


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_error_for_a_missing_column_names_file_and_closest_column(tmp_path, plan_folder):
    parquet(tmp_path / "a.parquet", text=["x"])
    parquet(tmp_path / "b.parquet", txt=["x"], url=["y"])
    jsonl(tmp_path / "c.jsonl", {"content": "x"})
    with pytest.raises(InputError) as error:
        plan_folder()
    message = str(error.value)
    assert "b.parquet: no column 'text' among txt, url; did you mean 'txt'?" in message
    assert "c.jsonl: no column 'text' among content" in message
    assert "a.parquet" not in message
    assert "\n" not in message


def test_the_error_for_a_text_column_of_another_type_names_the_type(tmp_path, plan_folder):
    parquet(tmp_path / "a.parquet", text=[1, 2])
    parquet(tmp_path / "b.parquet", text=[[1]])
    jsonl(tmp_path / "c.jsonl", {"text": None}, {"text": 3})
    with pytest.raises(InputError) as error:
        plan_folder()
    assert "a.parquet: column 'text' is int64; it must be text" in str(error.value)
    assert "b.parquet: column 'text' is list<element: int64>" in str(error.value)
    assert "c.jsonl: key 'text' is int; it must be text" in str(error.value)


@pytest.mark.parametrize(
    "type_",
    [
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_every_arrow_type_of_text_is_accepted(tmp_path, plan_folder, type_):
    parquet(tmp_path / "a.parquet", text=pa.array(["x"], pa.string()).cast(type_))
    assert [unit.n_rows for unit in plan_folder()] == [1]


def test_source_and_metadata_columns_must_be_in_every_file(tmp_path, plan_folder):
    parquet(tmp_path / "a.parquet", text=["x"], site=["s"])
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(InputError) as error:
        plan_folder("ingest.source_column=site", "ingest.metadata_columns=[url]")
    message = str(error.value)
    assert "a.parquet: no column 'url' among text, site" in message
    assert "b.txt: a text file has no column 'site'; a text file has no column 'url'" in message


def test_a_column_that_occurs_twice_is_an_error(tmp_path, plan_folder):
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'text' occurs 2 times"):
        plan_folder()


def damaged_files(folder):
    parquet(folder / "good.parquet", text=["x"])
    whole = (folder / "good.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-20])
    (folder / "zero.parquet").touch()
    (folder / "magic.parquet").write_bytes(b"<html>" + whole)
    (folder / "footer.parquet").write_bytes(whole[:-30] + b"\xff" * 22 + whole[-8:])
    (folder / "text.jsonl").write_text("no JSON\nat all\n")
    (folder / "array.jsonl").write_text('["text"]\n')
    (folder / "wide.jsonl").write_bytes('{"text": "x"}\n'.encode("utf-16"))
    (folder / "wider.jsonl").write_bytes('{"text": "x"}\n'.encode("utf-32"))
    (folder / "garbage.jsonl.gz").write_bytes(gzip.compress(b"x")[:10] + b"\xff" * 30)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n')[:-12])
    (folder / "garbage.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"\xff" * 30)
    (folder / "cut.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "x"}\n')[:-5])
    (folder / "table.pdf").write_text("a,b\n")


REASONS = {
    "cut.parquet": ("truncated_file", "does not end with PAR1"),
    "zero.parquet": ("truncated_file", "zero bytes"),
    "magic.parquet": ("unsupported_format", "does not start with PAR1"),
    "footer.parquet": ("unreadable_file", ""),
    "text.jsonl": (
        "unsupported_format",
        "no JSON object in its first 100 lines (the first line is invalid: Exp",
    ),
    "array.jsonl": (
        "unsupported_format",
        "(the first line is a JSON array; to convert: jq -c '.[]' FILE",
    ),
    "wide.jsonl": ("unsupported_format", "is UTF-16"),
    "wider.jsonl": ("unsupported_format", "is UTF-32"),
    "garbage.jsonl.gz": ("unreadable_file", "invalid block type"),
    "cut.jsonl.gz": ("truncated_file", "ended before"),
    "garbage.jsonl.zst": ("unreadable_file", "zstd decompress"),
    "cut.jsonl.zst": ("truncated_file", "Truncated"),
    "table.pdf": ("unsupported_format", ".pdf is not one of"),
}


def test_one_error_lists_all_damaged_and_unsupported_formats(tmp_path, plan_folder):
    damaged_files(tmp_path)
    with pytest.raises(InputError) as error:
        plan_folder()
    message = str(error.value)
    assert message.startswith("13 of the input files cannot be read: ")
    assert message.count(f"{tmp_path}/") == 10
    assert "; and 3 more; fix or remove them, or set ingest.skip_corrupt=true" in message


def test_with_skip_corrupt_each_damaged_file_is_a_problem_with_its_reason(tmp_path, plan_folder):
    damaged_files(tmp_path)
    units = plan_folder("ingest.skip_corrupt=true")
    problems = {u.name.rsplit("/")[-1]: u for u in units if u.kind == "problem"}
    assert sorted(problems) == sorted(REASONS)
    for name, (reason, detail) in REASONS.items():
        assert problems[name].reason == reason, name
        assert detail in problems[name].detail, name
    assert [u.name.rsplit("/")[-1] for u in units if u.kind != "problem"] == ["good.parquet"]


def test_the_message_for_an_object_of_many_keys_is_short(tmp_path, plan_folder):
    jsonl(tmp_path / "a.jsonl", {f"k{i}": i for i in range(100_000)})
    with pytest.raises(InputError, match=r"k49, \.\.\. \(100000 in all\)") as error:
        plan_folder()
    assert len(str(error.value)) < 1000


def test_an_invalid_first_line_does_not_reject_the_file(tmp_path, plan_folder):
    (tmp_path / "a.jsonl").write_text('broken\n{"text": null}\n{"text": "x"}\n')
    assert len(plan_folder()) == 1


def test_units_cover_each_row_group_and_byte_once(tmp_path, plan_folder):
    table = pa.table({"text": [f"row {i}" for i in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    with (tmp_path / "b.jsonl").open("w") as file:
        file.write('{"text": "x"}\n')
        file.truncate(2 * UNIT_BYTES + 1)  # a sparse file, since only its size matters here
    parquet_unit, *ranges = plan_folder()
    assert (parquet_unit.start, parquet_unit.stop, parquet_unit.n_rows) == (0, 15, 100)
    assert [(u.start, u.stop) for u in ranges] == [
        (0, UNIT_BYTES),
        (UNIT_BYTES, 2 * UNIT_BYTES),
        (2 * UNIT_BYTES, 2 * UNIT_BYTES + 1),
    ]


@pytest.mark.parametrize("parallelism", [1, 4, 1000])
def test_bundles_contain_every_unit_once_and_are_balanced(tmp_path, plan_folder, parallelism):
    for i in range(40):
        (tmp_path / f"{i:02}.txt").write_text("x" * 200_000)
    units = plan_folder()
    bundles = bundle_units(units, parallelism)
    assert [unit for bundle in bundles for unit in bundle] == units
    assert max(map(len, bundles)) <= min(map(len, bundles[:-1] or bundles)) + 1
    assert len(bundles) == {1: 2, 4: 8, 1000: 10}[parallelism]


def test_many_files_and_each_of_many_tables_have_row_ids_of_their_own():
    """17,000 files of 16 MB, as `plan_units` weighs them, are more than 2^14 bundles."""
    units = [Unit("", "/x", f"{i}.jsonl.zst", "jsonl", n_bytes=64 << 20) for i in range(17_000)]
    n = len(bundle_units(units, 512))
    assert n == 17_000
    check_numbers(n, MAX_TABLES)
    table = pa.RecordBatch.from_pydict({"text": ["A text of a table that is long enough."]})
    problem = encode_bundle([Unit("", "", "a", "problem", reason="unreadable_file", detail="-")])
    last = pa.RecordBatch.from_pydict({"bundle": [n - 1], "units": [problem]})
    cfg = load().ingest
    [from_file] = read_bundles(iter([last]), cfg)
    first, *_, most = (
        next(read_table_rows(iter([table]), "t", TABLE_BUNDLES * (i + 1), cfg))["row_id"][0].as_py()
        for i in range(MAX_TABLES)
    )
    assert from_file["row_id"][0].as_py() + ROWS_PER_BUNDLE <= first
    assert most + TABLE_BUNDLES * ROWS_PER_BUNDLE == 2**63


@pytest.mark.parametrize(
    ("n_bundles", "n_tables", "message"),
    [
        (TABLE_BUNDLES + 1, 0, "4,194,305 bundles of files are too many .* at most 4,194,304; "),
        (0, MAX_TABLES + 1, "512 tables are too many for one ingest, which reads at most 511; "),
    ],
)
def test_inputs_that_would_share_row_ids_are_refused(n_bundles, n_tables, message):
    with pytest.raises(InputError, match=rf"^ingest\.inputs: {message}ingest a part of the inputs"):
        check_numbers(n_bundles, n_tables)


def test_more_rows_in_a_task_than_it_has_row_ids_are_an_error(monkeypatch):
    monkeypatch.setattr(rows, "ROWS_PER_BUNDLE", 4)
    batches = [pa.RecordBatch.from_pydict({"text": ["x", "y"]})] * 3
    out = read_table_rows(iter(batches[:2]), "delta:t", 1, load().ingest)
    assert [i for batch in out for i in batch["row_id"].to_pylist()] == [4, 5, 6, 7]
    out = read_table_rows(iter(batches), "delta:t", 1, load().ingest)
    with pytest.raises(InputError, match=r"more than 4 rows, the last of them from delta:t; split"):
        list(out)
